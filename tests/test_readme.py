"""What the README shows is run: its Python, and its commands on the samples."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from napari_uhrseg.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if line.startswith("napari-uhrseg ") and "demo" not in line
]
ON_SAMPLES = [line for line in COMMANDS if "sample_data" in line]


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """Where a reader stands who has just cloned, without writing into it."""
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)


def code_with(word: str) -> str:
    return next(text for text in PYTHON if word in text)


@pytest.mark.slow
def test_the_python_api_in_ten_lines(capsys, tmp_path):
    code = code_with("plan(")
    exec(code, {})
    assert len([line for line in code.splitlines() if line]) <= 11
    printed = capsys.readouterr().out
    assert "windows" in printed
    assert "Finished" in printed
    assert (tmp_path / "labels.zarr" / "zarr.json").exists()


def test_napari_remembers_the_reader(tmp_path):
    from napari.plugins.utils import get_preferred_reader
    from napari.settings import get_settings

    before = dict(get_settings().plugins.extension2reader)
    try:
        exec(code_with("extension2reader"), {})
        (tmp_path / "image.zarr").mkdir()
        for name in ("slide.svs", "scene.tif", "image.zarr"):
            assert get_preferred_reader(name) == "napari-uhrseg"
    finally:
        get_settings().plugins.extension2reader = before
        get_settings().save()


@pytest.mark.slow
def test_commands_on_the_samples_work():
    assert len(ON_SAMPLES) >= 3
    for line in ON_SAMPLES:
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.parametrize("line", sorted(set(COMMANDS) - set(ON_SAMPLES)))
def test_other_commands_are_spelled_right(line):
    # --help comes after the other options are looked up
    result = CliRunner().invoke(app, [*shlex.split(line)[1:], "--help"])
    assert result.exit_code == 0, result.output


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
