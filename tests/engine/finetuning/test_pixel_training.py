"""Test the training of a pixel classifier, from strokes and from a store."""

import numpy as np
import pytest
import torch

from helpers.corrections import (
    LEGEND,
    METHODS,
    correct,
    squares,
    stroke_everywhere,
    two_tone,
)
from napari_uhrseg.engine.events import (
    DatasetReady,
    FineTuneFinished,
    Progress,
    Saved,
    Validated,
)
from napari_uhrseg.engine.finetuning.finetune import (
    fine_tune,
    summarize_corrections,
)
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.pixel_trainer import fit_linear, trainer_of
from napari_uhrseg.engine.finetuning.pixel_training import train_pixel_classifier
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import (
    FineTuneSettings,
    LabelClass,
    Legend,
    Roi,
    SegmentSettings,
)

ARGUMENTS = METHODS["pixel_classifier"]
WHOLE = Roi(0, 0, 320, 320)


def new(image, legend: Legend = LEGEND) -> Checkpoint:
    arguments = {**ARGUMENTS, "window": 128}
    return new_checkpoint(
        "pixel_classifier", arguments, legend, image, pretrained=False
    )


def strokes() -> tuple[np.ndarray, np.ndarray]:
    """Return some pixels of both halves of ``two_tone``."""
    rows = np.arange(40, 200, 8)
    at = np.concatenate([np.c_[rows, 0 * rows + x] for x in (60, 260)])
    return at.astype(np.int64), np.repeat([0, 1], len(rows)).astype(np.int64)


def paint(store: LabelStore) -> None:
    for y in (20, 120, 220):
        correct(store, Roi(y, 40, 30, 30), 1)
        correct(store, Roi(y, 240, 30, 30), 2)


@pytest.mark.slow
def test_trainer_labels_the_view_from_strokes():
    truth, image = two_tone()
    trainer = trainer_of(image, new(image))
    assert list(trainer.compute(trainer.nearest(Roi(0, 0, 128, 320)))) == [2, 1, 0]
    trainer.fit(*strokes())
    labels, confidence = trainer.predict(WHOLE)
    assert labels.shape == confidence.shape == truth.shape
    far = np.abs(np.arange(320) - 160) > 40  # from the border of the classes
    assert (labels[:, far] + 1 == truth[:, far]).all()


@pytest.mark.slow
def test_trainer_does_not_change_the_checkpoint_and_is_reproducible():
    image = two_tone()[1]
    made = new(image)
    before = {k: v.clone() for k, v in made.model.state_dict().items()}
    found = []
    for _ in range(2):
        trainer = trainer_of(image, made)
        trainer.fit(*strokes())
        trainer.fit(*strokes())  # a second stroke starts from the same weights
        found.append(trainer.model.weights())
    assert torch.equal(*found)
    after = made.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_logistic_regression_separates_classes_and_keeps_its_start():
    features = torch.tensor([[-1.0, 0.3], [-2.0, 0.1], [1.0, 0.2], [3.0, 0.1]])
    channel = torch.tensor([0, 0, 2, 2])  # class 1 has no pixels
    weights, bias = fit_linear(features, channel, torch.zeros(3, 2), torch.zeros(3))
    assert torch.equal((features @ weights.T + bias).argmax(1), channel)
    again, _ = fit_linear(features, channel, weights, bias)
    assert (again - weights).abs().max() < weights.abs().max()


@pytest.mark.slow
def test_fine_tune_trains_a_new_pixel_classifier_and_segment_runs_it(tmp_path):
    truth, image = two_tone()
    output = tmp_path / "c.safetensors"
    with LabelStore.create(None, image, LEGEND) as store:
        paint(store)
        events = list(fine_tune(image, new(image), store, output))
        kinds = [type(e) for e in events]
        assert kinds[0] is DatasetReady
        assert kinds[-2:] == [Saved, FineTuneFinished]
        progress = [e for e in events if isinstance(e, Progress)]
        assert progress[-1].done == progress[-1].total > 1
        made = load_checkpoint(output)
        assert made.card.model == "pixel_classifier"
        assert "6 regions corrected" in made.card.trained_on
        assert made.card.encoder_weights == "random weights"
        settings = SegmentSettings(device="cpu", precision="fp32")
        for _ in segment(image, made, store, settings):
            pass
        labels = np.asarray(store.prediction[0][:])
    far = np.abs(np.arange(320) - 160) > 40
    assert (labels[:, far] == truth[:, far]).all()
    expected, _ = trainer_of(image, made).predict(WHOLE)
    assert (labels == expected + 1).all()


@pytest.mark.slow
def test_fine_tune_of_a_trained_pixel_classifier_is_validated(tmp_path):
    image = two_tone()[1]
    three = LEGEND.merged(Legend((LabelClass(3, "grey", "#888888"),)))
    with LabelStore.create(None, image, three) as store:
        paint(store)
        first = tmp_path / "first.safetensors"
        list(fine_tune(image, new(image), store, first))
        correct(store, Roi(290, 100, 20, 20), 3)
        events = list(
            fine_tune(image, load_checkpoint(first), store, tmp_path / "b.safetensors")
        )
    scores = [e for e in events if isinstance(e, Validated)]
    assert [e.step for e in scores] == [0, 1]
    assert scores[1].metrics["miou"] >= 0.5
    card = load_checkpoint(tmp_path / "b.safetensors").card
    assert [c.name for c in card.legend] == ["dark", "light", "grey"]
    assert card.parent == load_checkpoint(first).hash
    assert card.metrics == scores[1].metrics


@pytest.mark.slow
def test_cancelled_training_and_existing_output_write_nothing(tmp_path):
    image = two_tone()[1]
    output = tmp_path / "c.safetensors"
    with LabelStore.create(None, image, LEGEND) as store:
        paint(store)
        events = list(fine_tune(image, new(image), store, output, stop=lambda: True))
        assert not any(isinstance(e, Saved) for e in events)
        assert not output.exists()
        output.write_bytes(b"mine")
        with pytest.raises(TrainingError, match="exists"):
            list(fine_tune(image, new(image), store, output))
    assert output.read_bytes() == b"mine"


@pytest.mark.slow
def test_train_pixel_classifier_starts_from_the_shipped_encoder(tmp_path):
    image = two_tone((64, 96))[1]
    with LabelStore.create(None, image, LEGEND) as store:
        correct(store, Roi(8, 8, 16, 16), 1)
        correct(store, Roi(8, 72, 16, 16), 2)
        made = train_pixel_classifier(image, store, tmp_path / "c.safetensors")
    assert made.card.encoder_weights.startswith("ImageNet weights of tf_efficientnet")
    labels, _ = trainer_of(image, made).predict(Roi(0, 0, 64, 96))
    assert labels[16, 16] == 0
    assert labels[16, 80] == 1


@pytest.mark.slow
def test_new_network_is_compared_with_a_pixel_classifier(tmp_path):
    truth, image = squares((256, 320))
    plain = new_checkpoint("plain", METHODS["plain"], LEGEND, image, pretrained=False)
    settings = FineTuneSettings(steps=2, batch_size=2, device="cpu", compares=True)
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth, step=64)
        summary = summarize_corrections(image, plain, store, settings)
        assert summary.has_validation
        assert not summarize_corrections(image, plain, store).has_validation
        output = tmp_path / "n.safetensors"
        events = list(fine_tune(image, plain, store, output, settings))
    scores = [e.metrics for e in events if isinstance(e, Validated)]
    end = events[-1]
    assert isinstance(end, FineTuneFinished)
    assert end.before == scores[0]
    assert end.before["miou"] > 0.8  # dark and light squares are easy
    assert end.after == scores[-1]
    assert set(end.before) == set(end.after)
    assert end.saved
    assert load_checkpoint(output).card.model == "plain"
    assert "pixel classifier" in end.comparison
    assert f"{end.before['miou']:.1%}" in end.comparison


@pytest.mark.slow
def test_a_new_classifier_relies_on_colour_where_it_suffices():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (128, 128, 3)).astype(np.uint8)
    spots = np.zeros((128, 128), bool)
    for y, x in rng.integers(4, 124, (60, 2)):
        spots[y - 2 : y + 3, x - 2 : x + 3] = True
    pixels[spots] += 150
    image = image_from_array(pixels, name="spots", rgb=True)
    trainer = trainer_of(image, new(image))
    at = [np.argwhere(there)[::200] for there in (~spots, spots)]
    channel = np.repeat([0, 1], [len(a) for a in at]).astype(np.int64)
    trainer.fit(np.concatenate(at), channel)
    labels, _ = trainer.predict(Roi(0, 0, 128, 128))
    assert ((labels == 1) == spots).mean() > 0.95
