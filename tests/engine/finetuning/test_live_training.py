"""Test the pixel classifier that follows the corrections of a store."""

import numpy as np
import pytest

from helpers.corrections import LEGEND, METHODS, correct, two_tone
from napari_uhrseg.engine.data.correction_sites import sampled
from napari_uhrseg.engine.events import LiveLabels, LiveView
from napari_uhrseg.engine.finetuning.live_training import LiveTrainer
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.pixel_trainer import POINTS_PER_CLASS, balanced
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.types import LabelClass, Legend, Roi, SegmentSettings

SIDE = 320
WHOLE = Roi(0, 0, SIDE, SIDE)
FAR = np.abs(np.arange(SIDE) - SIDE // 2) > 40  # columns far from the border


@pytest.fixture
def scene():
    truth, image = two_tone((SIDE, SIDE))
    with LabelStore.create(None, image, LEGEND) as store:
        yield truth, image, store


def new(image, legend=LEGEND):
    arguments = {**METHODS["pixel_classifier"], "window": 128}
    return new_checkpoint(
        "pixel_classifier", arguments, legend, image, pretrained=False
    )


def labels_of(trainer, seen=WHOLE, stroke=None):
    """Return the labels that cover a view, and the view that was announced."""
    found, view = np.zeros((SIDE, SIDE), np.uint8), None
    for part in trainer.follow(seen, stroke):
        if isinstance(part, LiveView):
            view = part
        elif isinstance(part, LiveLabels):
            found[part.roi.slices] = part.labels
    return found, view


@pytest.mark.slow
def test_labels_of_the_view_appear_with_the_second_class(scene):
    truth, image, store = scene
    trainer = LiveTrainer(image, new(image), store)
    assert list(trainer.follow(WHOLE)) != []
    correct(store, Roi(40, 40, 30, 30), 1)
    found, view = labels_of(trainer)
    assert view is None
    assert not found.any()
    correct(store, Roi(40, 240, 30, 30), 2)
    found, view = labels_of(trainer)
    assert view == LiveView(WHOLE, 1.0, True)
    assert (found[:, FAR] == truth[:, FAR]).all()


@pytest.mark.slow
def test_another_stroke_changes_the_labels(scene):
    _, image, store = scene
    trainer = LiveTrainer(image, new(image), store)
    correct(store, Roi(40, 40, 30, 30), 1)
    correct(store, Roi(40, 240, 30, 30), 2)
    labels_of(trainer)
    correct(store, Roi(40, 40, 30, 30), 2)
    correct(store, Roi(40, 240, 30, 30), 1)
    found, _ = labels_of(trainer)
    assert found[200, 40] == 2
    assert found[200, 280] == 1


@pytest.mark.slow
def test_labels_near_the_stroke_come_first(scene):
    _, image, store = scene
    trainer = LiveTrainer(image, new(image), store)
    correct(store, Roi(40, 40, 30, 30), 1)
    correct(store, Roi(40, 240, 30, 30), 2)
    labels_of(trainer)
    stroke = Roi(300, 20, 10, 10)
    parts = [p for p in trainer.follow(WHOLE, stroke) if isinstance(p, LiveLabels)]
    assert parts[0].roi.contains(stroke)


@pytest.mark.slow
def test_a_small_cache_covers_the_middle_of_the_view(scene):
    truth, image, store = scene
    trainer = LiveTrainer(image, new(image), store, cache_bytes=1)
    correct(store, Roi(140, 120, 30, 30), 1)
    correct(store, Roi(140, 170, 30, 30), 2)
    found, view = labels_of(trainer)
    assert not view.whole
    assert view.roi.contains(Roi(155, 155, 10, 10))
    assert view.roi.area < WHOLE.area
    inside = found[view.roi.slices][:, 5]
    assert (inside == truth[view.roi.slices][:, 5]).all()


@pytest.mark.slow
def test_labels_are_class_ids_of_the_store(scene):
    truth, image, _ = scene
    legend = Legend(
        (
            LabelClass(7, "dark", "#000000"),
            LabelClass(3, "light", "#ffffff"),
            LabelClass(9, "pale", "#eeeeee"),
        )
    )
    with LabelStore.create(None, image, legend) as store:
        store.legend_editor.merge_class(9, 3)
        trainer = LiveTrainer(image, new(image, store.legend), store)
        correct(store, Roi(40, 40, 30, 30), 7)
        correct(store, Roi(40, 240, 30, 30), 9)
        found, _ = labels_of(trainer)
    ids = np.array([0, 7, 3])
    assert (found[:, FAR] == ids[truth][:, FAR]).all()


@pytest.mark.slow
def test_saved_classifier_gives_a_run_the_labels_of_the_view(scene, tmp_path):
    _, image, store = scene
    trainer = LiveTrainer(image, new(image), store)
    with pytest.raises(TrainingError, match="two"):
        trainer.save(tmp_path / "none.safetensors")
    correct(store, Roi(40, 40, 30, 30), 1)
    correct(store, Roi(40, 240, 30, 30), 2)
    found, _ = labels_of(trainer)
    made = load_checkpoint(trainer.save(tmp_path / "mine.safetensors"))
    assert made.card.name == "mine"
    assert [c.name for c in made.card.legend] == ["dark", "light"]
    for _ in segment(image, made, store, SegmentSettings("cpu", precision="fp32")):
        pass
    # rounding decides where two classes are equally likely, on the border of the tones
    decided = np.asarray(store.confidence[0][:]) > 1
    assert decided[:, FAR].all()
    labels = np.asarray(store.prediction[0][:])
    assert (labels[decided] == found[decided]).all()


@pytest.mark.slow
def test_kept_classifier_takes_a_class_that_was_added(scene, tmp_path):
    _, image, store = scene
    correct(store, Roi(40, 40, 30, 30), 1)
    correct(store, Roi(40, 240, 30, 30), 2)
    kept = LiveTrainer(image, new(image), store).save(tmp_path / "a.safetensors")
    edge = Legend((LabelClass(3, "edge", "#00ff00"),))
    store.legend_editor.add_classes(edge)
    trainer = LiveTrainer(image, load_checkpoint(kept), store)
    correct(store, Roi(0, 156, SIDE, 8), 3)
    found, _ = labels_of(trainer)
    assert found[160, 160] == 3
    assert found[160, 20] == 1


def test_pixels_of_earlier_strokes_are_trained_on_again():
    at = np.argwhere(np.ones((60, 60), bool))
    before, channel = balanced(at[600:], np.zeros(3000, np.int64))
    after, _ = balanced(at, np.zeros(3600, np.int64))
    assert len(before) == len(channel) == len(after) == POINTS_PER_CLASS
    later = {tuple(p) for p in after.tolist()}
    assert len({tuple(p) for p in before.tolist()} & later) > 0.7 * POINTS_PER_CLASS


def test_chosen_points_hardly_change_with_later_ones():
    rows = np.arange(5000)
    before = sampled(np.c_[rows, rows % 70], 200)
    more = np.arange(5500)
    after = sampled(np.c_[more, more % 70], 200)
    assert len(before) == len(after) == 200
    kept = {tuple(p) for p in before.tolist()} & {tuple(p) for p in after.tolist()}
    assert len(kept) > 150
