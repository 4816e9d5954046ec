"""``napari-uhrseg import`` as people type it."""

import json
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.checkpoint import load_checkpoint


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A network of two classes, saved by its library."""
    path = tmp_path_factory.mktemp("smp") / "unet"
    net = smp.Unet(
        "tu-test_efficientnet", encoder_weights=None, classes=2,
        decoder_channels=(16, 8, 8, 8, 8),
    )  # fmt: skip
    net.save_pretrained(path)
    return path


@pytest.fixture
def bring(folder, tmp_path):
    def run(*options: object, source: object = folder, output: str = "c.safetensors"):
        return invoke(
            "import", source, "--model", "plain", "--output", tmp_path / output,
            "--window", 64, *options,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_import_smp_folder_gives_usable_checkpoint(bring, files, tmp_path):
    result = bring("--legend", "inria")
    assert result.exit_code == 0, result.output
    assert "'background', 'building'" in result.stdout
    card = read_card(tmp_path / "c.safetensors")
    assert card.command.startswith("napari-uhrseg")
    weights = load_checkpoint(tmp_path / "c.safetensors").model.state_dict()
    assert all(v.dtype in (torch.float32, torch.int64) for v in weights.values())
    result = invoke(
        "segment", files / "picture.tif", "--checkpoint", tmp_path / "c.safetensors",
        "--output", tmp_path / "labels.zarr", "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output


def test_import_reads_classes_file(bring, tmp_path):
    (tmp_path / "classes.txt").write_text("3 grass #00ff00\n9 water #0000ff\n")
    result = bring("--classes", tmp_path / "classes.txt", "--json")
    assert result.exit_code == 0, result.output
    event = json.loads(result.stdout)
    assert (event["event"], event["classes"]) == ("saved", ["grass", "water"])
    legend = read_card(tmp_path / "c.safetensors").legend
    assert [c.source_value for c in legend] == [3, 9]


def test_card_names_the_command_without_credentials(bring, monkeypatch, tmp_path):
    url = "https://me:pw@example.org/net?version=2&X-Amz-Signature=abc"
    monkeypatch.setattr(sys, "argv", ["program", "import", url, "two words"])
    assert bring().exit_code == 0
    assert read_card(tmp_path / "c.safetensors").command == (
        "napari-uhrseg import 'https://example.org/net?version=2' 'two words'"
    )


def test_import_existing_checkpoint_needs_overwrite(bring, tmp_path):
    assert bring().exit_code == 0
    before = (tmp_path / "c.safetensors").stat().st_mtime_ns
    result = bring()
    assert result.exit_code == 1
    assert "exists. Choose" in " ".join(result.stderr.split())
    assert (tmp_path / "c.safetensors").stat().st_mtime_ns == before
    assert bring("--overwrite").exit_code == 0


def test_import_invalid_input_prints_message(bring, folder, tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    (tmp_path / "c.txt").write_text("a\nb\n")
    for result, said in (
        (bring(source=tmp_path / "nothing"), "There is no"),
        (bring("--legend", "potsdam"), "labels 2 classes, the legend has 6"),
        (bring("--legend", "inria", "--classes", tmp_path / "c.txt"), "Give one"),
        (bring("--mode", 2), "has no mode"),
        (bring(output="c.pth"), "does not end in .safetensors"),
        (
            invoke("import", tmp_path / "a.pth", "--model", "isdnet", "--output",
                   tmp_path / "i.safetensors"),
            "not of ISDNet",
        ),
    ):  # fmt: skip
        assert result.exit_code == 1, result.output
        assert said in result.stderr.replace("\n", " ")
        assert "Traceback" not in result.output
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    "options", [("--model", "unet"), ("--model", "plain", "--legend", "moon")]
)
def test_import_refuses_unknown_names(tmp_path, options):
    output = tmp_path / "a.safetensors"
    result = invoke("import", tmp_path / "a.pth", "--output", output, *options)
    assert result.exit_code == 2
    assert f"'{options[-1]}' is not one of" in result.stderr.replace("│", " ")
    assert "Reading" not in result.stderr


def test_info_of_pickle_explains_import(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    result = invoke("info", tmp_path / "a.pth")
    assert result.exit_code == 1
    assert "napari-uhrseg import" in result.stderr
