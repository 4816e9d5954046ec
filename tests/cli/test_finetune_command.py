"""``napari-uhrseg finetune``: refused images, and new models."""

import pytest
from typer.testing import CliRunner

from helpers.corrections import correct
from helpers.label_stores import LEGEND, FakeImage
from napari_uhrseg.cli import app
from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.paths import to_path
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.types import Roi


def test_image_that_a_store_names_by_a_url_is_not_opened_unasked(tmp_path, files):
    url = "memory://elsewhere/none.tif"
    store = tmp_path / "labels.zarr"
    LabelStore.create(store, FakeImage(path=to_path(url)), LEGEND).close()
    command = ["finetune", store, "--checkpoint", files / "net.safetensors",
               "--output", tmp_path / "new.safetensors"]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert result.exit_code == 1
    assert f"by a URL, which is not opened unasked: {url}" in result.stderr
    assert f"--image {url}" in result.stderr
    command += ["--image", url]  # now it is opened, and is missing
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert f"{url} does not exist" in result.stderr


@pytest.mark.slow
def test_new_pixel_classifier_is_trained_from_a_store(tmp_path, files):
    store = tmp_path / "labels.zarr"
    image = open_image(files / "picture.tif")
    with LabelStore.create(store, image, LEGEND) as labels:
        height, width = image.shape
        correct(labels, Roi(0, 0, 16, 16), 1)
        correct(labels, Roi(height - 16, width - 16, 16, 16), 2)
    output = tmp_path / "new.safetensors"
    command = ["finetune", store, "--model", "pixel_classifier", "--output", output]
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert result.exit_code == 0, result.output
    assert "ImageNet weights of tf_efficientnet_lite0" in result.stderr
    assert str(output) in result.stdout
    assert read_card(output).model == "pixel_classifier"


def test_finetune_that_writes_no_checkpoint_exits_with_1(tmp_path, files, monkeypatch):
    store, output = tmp_path / "labels.zarr", tmp_path / "new.safetensors"
    LabelStore.create(store, open_image(files / "picture.tif"), LEGEND).close()
    worse = FineTuneFinished({"miou": 1.0}, {"miou": 0.0}, "worse", output, saved=False)
    monkeypatch.setattr(
        "napari_uhrseg.engine.finetuning.finetune.fine_tune",
        lambda *_, **__: (event for event in [worse]),
    )
    command = ["finetune", store, "--checkpoint", files / "net.safetensors",
               "--output", output]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert result.exit_code == 1
    assert f"{output} was not written: every validated step is worse" in result.stderr
    assert "Use the original checkpoint" in result.stderr


@pytest.mark.slow
def test_finetune_dry_run_prints_the_time_and_writes_nothing(tmp_path, files):
    store = tmp_path / "labels.zarr"
    image = open_image(files / "picture.tif")
    with LabelStore.create(store, image, LEGEND) as labels:
        correct(labels, Roi(0, 0, 16, 16), 1)
    command = ["finetune", store, "--checkpoint", files / "net.safetensors", "--output",
               tmp_path / "new.safetensors", "--steps", 7, "--batch-size", 2,
               "--device", "cpu", "--dry-run"]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert result.exit_code == 0, result.output
    for text in ("Training data: 1 window", "Memory: 2 samples a step", "for 7 steps"):
        assert text in result.stdout
    assert list(tmp_path.iterdir()) == [store]


@pytest.mark.parametrize("both", [True, False])
def test_finetune_needs_either_a_checkpoint_or_a_method(both, tmp_path):
    options = ["--checkpoint", "c.safetensors", "--model", "plain"] if both else []
    command = ["finetune", tmp_path, "--output", tmp_path / "o.safetensors", *options]
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert result.exit_code == 2
    assert "either --checkpoint or --model" in result.stderr
