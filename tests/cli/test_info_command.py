"""``napari-uhrseg info``, ``--help`` and errors in words."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from napari_uhrseg import __version__
from napari_uhrseg.cli import app


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_info_image(files):
    result = invoke("info", files / "picture.tif")
    assert result.exit_code == 0, result.output
    assert "420 x 300 pixels, uint8" in result.stdout
    assert "RGB" in result.stdout


def test_info_image_as_json(files):
    facts = json.loads(invoke("info", files / "picture.tif", "--json").stdout)
    assert facts["shape"] == [300, 420]
    assert facts["rgb"] is True
    assert facts["crs"] is None


def test_info_checkpoint_card(files):
    result = invoke("info", files / "net.safetensors")
    assert result.exit_code == 0, result.output
    assert "small net" in result.stdout
    assert "dark, light" in result.stdout
    card = json.loads(invoke("info", files / "net.safetensors", "--json").stdout)
    assert card["model"] == "plain"
    assert card["legend"]["classes"][1]["name"] == "light"


@pytest.mark.parametrize("name", ["nothing.tif", "nothing.safetensors", "text.tif"])
def test_info_invalid_file_prints_message(tmp_path, name):
    (tmp_path / "text.tif").write_text("not an image")
    result = invoke("info", tmp_path / name)
    assert result.exit_code == 1
    assert name in result.stderr
    assert len(result.stderr.strip().splitlines()) >= 2  # what happened, what to do
    assert not result.stdout
    assert "Traceback" not in result.output


def test_version_and_help():
    assert __version__ in invoke("--version").stdout
    assert "segment" in invoke("--help").stdout


HELP = """
import atexit, sys
atexit.register(lambda: print(*{name.split(".")[0] for name in sys.modules}))
from napari_uhrseg.cli import app
app()
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["info", "train", "segment", "evaluate", "demo"])
def test_help_imports_neither_torch_nor_qt(command):
    done = subprocess.run(
        [
            sys.executable, "-c", HELP, command, "--help",
        ],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    *text, loaded = done.stdout.splitlines()
    assert any("--help" in line for line in text)
    assert not {"torch", "napari", "qtpy", "zarr"} & set(loaded.split())
