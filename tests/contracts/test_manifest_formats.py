"""Check napari.yaml against the registered export formats and readers."""

import importlib
from pathlib import Path

import pytest
import yaml

import napari_uhrseg
from napari_uhrseg.io.export.registry import formats
from napari_uhrseg.io.readers.registry import suffixes

MANIFEST = yaml.safe_load(
    (Path(napari_uhrseg.__file__).parent / "napari.yaml").read_text(encoding="utf-8")
)["contributions"]
# napari opens these itself
OPENED_BY_NAPARI = {
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pnm",
}  # fmt: skip


def python_name(command: str) -> str:
    (found,) = (c for c in MANIFEST["commands"] if c["id"] == command)
    return found["python_name"]


def test_manifest_offers_every_format_with_a_save_suffix():
    offered = [w["filename_extensions"] for w in MANIFEST["writers"]]
    assert sorted(offered) == sorted(
        [f.save_suffix] for f in formats() if f.save_suffix
    )


@pytest.mark.parametrize("writer", MANIFEST["writers"], ids=lambda w: w["command"])
def test_manifest_writers_write_the_format_of_their_suffix(writer):
    module, name = python_name(writer["command"]).split(":")
    function = getattr(importlib.import_module(module), name)
    (chosen,) = (f for f in formats() if f.name == function.keywords["format_name"])
    assert [chosen.save_suffix] == writer["filename_extensions"]


def test_manifest_readers_accept_only_registered_suffixes():
    patterns = [p for r in MANIFEST["readers"] for p in r["filename_patterns"]]
    accepted = {p.removeprefix("*") for p in patterns}
    assert accepted <= set(suffixes())
    assert not accepted & OPENED_BY_NAPARI
