"""``napari-uhrseg card``, and ONNX networks in other commands."""

import json

import numpy as np
import onnxruntime
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from helpers.corrections import correct
from helpers.onnx_networks import DEEPNESS, export, small_network
from napari_uhrseg.cli import app
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def network(tmp_path):
    return export(small_network(), tmp_path / "net.onnx", window=64)


def test_card_describes_network_once(network):
    refused = invoke("info", network)
    assert refused.exit_code == 1
    assert "napari-uhrseg card net.onnx" in " ".join(refused.stderr.split())
    result = invoke("card", network, "--names", "wall, roof,door", "--mean", "0,0,1",
                    "--pixel-size", 0.1, "--overlap", 16)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "net.card.json" in result.stdout
    shown = invoke("info", network, "--json")
    card = json.loads(shown.stdout)
    assert [c["name"] for c in card["legend"]["classes"]] == ["wall", "roof", "door"]
    assert card["spec"]["mean"] == [0, 0, 1]
    assert "ONNX network cannot be trained" in invoke("info", network).stdout


def test_card_takes_classes_of_file_or_numbers(network, tmp_path):
    assert "class 1, class 2, class 3" in invoke("card", network).stdout
    (tmp_path / "classes.txt").write_text("a #ff0000\nb #00ff00\nc #0000ff\n")
    result = invoke("card", network, "--classes", tmp_path / "classes.txt", "--json")
    assert json.loads(result.stdout)["legend"]["classes"][0]["color"] == "#ff0000"


@pytest.mark.parametrize(
    "options",
    [("--mean", "a,b"), ("--names", "a,a,b"), ("--value-range", "per-band"),
     ("--names", "a", "--classes", "x.txt")],
)  # fmt: skip
def test_card_refuses_wrong_options(network, options):
    assert invoke("card", network, *options).exit_code == 2


def test_card_refuses_what_does_not_fit(network, tmp_path):
    assert "3 classes" in invoke("card", network, "--names", "a,b").stderr
    assert "no ONNX network" in invoke("card", tmp_path / "a.safetensors").stderr


def test_evaluate_scores_onnx_network(network, tmp_path):
    described = invoke("card", network, "--names", "a,b,c", "--mean", "0.5,0.5,0.5",
                       "--std", "0.25,0.25,0.25")  # fmt: skip
    assert described.exit_code == 0
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 255, (64, 64, 3), np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="rgb")
    session = onnxruntime.InferenceSession(network)
    values = ((pixels / 255 - 0.5) / 0.25).astype(np.float32).transpose(2, 0, 1)[None]
    labels = session.run(None, {"image": values})[0][0].argmax(0)
    assert len(np.unique(labels)) > 1
    tifffile.imwrite(tmp_path / "mask.tif", labels.astype(np.uint8))
    result = invoke("evaluate", tmp_path / "image.tif", tmp_path / "mask.tif",
                    "--checkpoint", network, "--device", "cpu", "--report",
                    tmp_path / "matrix.png")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "mIoU 100.0%" in result.stdout
    with Image.open(tmp_path / "matrix.png") as picture:
        assert min(picture.size) > 200


@pytest.mark.slow
def test_segment_with_onnx_network_and_refused_fine_tuning(files, tmp_path):
    path = export(small_network(), tmp_path / "net.onnx", DEEPNESS)
    store = tmp_path / "labels.zarr"
    result = invoke("segment", files / "picture.tif", "--checkpoint", path,
                    "--output", store, "--scale", 1, "--device", "cpu")  # fmt: skip
    assert result.exit_code == 0, result.output
    with LabelStore.open(store, write=True) as opened:
        assert (opened.prediction[0][:] > 0).all()
        assert [c.name for c in opened.legend] == ["background", "field", "water"]
        correct(opened, Roi(0, 0, 50, 50), 2)
    result = invoke("finetune", store, "--checkpoint", path, "--output",
                    tmp_path / "new.safetensors", "--device", "cpu")  # fmt: skip
    assert result.exit_code == 1
    assert "cannot be trained further" in " ".join(result.stderr.split())
