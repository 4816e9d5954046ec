"""Scores against figures worked out by hand, and evaluation against segmenting."""

import threading
from contextlib import suppress
from dataclasses import fields

import numpy as np
import pytest
import torch

from helpers.networks import LEGEND, ConstantNet, ToyNet, make_checkpoint
from napari_uhrseg.engine.data.scenes import Scene
from napari_uhrseg.engine.evaluation.evaluate import (
    evaluate,
    label_scene,
)
from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix, Scores
from napari_uhrseg.engine.inference.label_windows import TilingSettings
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.errors import DeviceError, TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi, SegmentSettings


class ArrayTruth:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def read(self, roi: Roi) -> np.ndarray:
        return self.array[roi.slices]


def test_scores_equal_hand_computed_values():
    counter = ConfusionMatrix(["a", "b", "c", "never"])
    truth = np.array([[0, 0, 0, 1], [1, 2, 255, 255]], np.uint8)
    labels = np.array([[0, 0, 1, 1], [1, 1, 0, 2]], np.uint8)
    counter.add(labels, truth)
    scores = counter.scores()
    assert scores.counts[:3, :3].tolist() == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]
    np.testing.assert_allclose(scores.iou, [2 / 3, 2 / 4, 0, np.nan])
    np.testing.assert_allclose(scores.f1, [4 / 5, 4 / 6, 0, np.nan])
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.miou == pytest.approx((2 / 3 + 0.5 + 0) / 3)
    found = scores.to_dict()
    assert found["accuracy/a"] == pytest.approx(2 / 3)
    assert "iou/never" not in found
    assert (scores + scores).counts.sum() == 12


def test_confusion_matrix_of_parts_equals_whole():
    rng = np.random.default_rng(0)
    truth, labels = rng.integers(0, 3, (2, 64, 64)).astype(np.uint8)
    truth[:5] = 255
    parts, whole = ConfusionMatrix("abc"), ConfusionMatrix("abc")
    for rows in (slice(0, 7), slice(7, 64)):
        parts.add(labels[rows], truth[rows])
    whole.add(labels, truth)
    assert np.array_equal(parts.scores().counts, whole.scores().counts)
    only = ConfusionMatrix("abc")
    only.add(labels[:5], truth[:5])
    assert np.isnan(only.scores().miou)
    assert only.scores().to_dict() == {}


def test_scores_without_pixels_are_empty():
    assert Scores(("a",), np.zeros((1, 1), np.int64)).to_dict() == {}


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0, 20])
def test_label_scene_windows_equal_segment(picture, overlap):
    """Whatever the blocks are; even though the two loops are apart."""
    image = picture(300, 260)
    checkpoint = make_checkpoint(ToyNet(64, 96))
    settings = SegmentSettings(
        device="cpu", precision="fp32", overlap=overlap, batch_size=4
    )
    store = LabelStore.create(None, image, LEGEND)
    list(segment(image, checkpoint, store, settings))
    expected = store.prediction[0][:]
    store.close()
    scene = Scene("s", image, ArrayTruth(expected)).fitted(checkpoint.model.spec)
    how = TilingSettings(overlap, 4, torch.device("cpu"), "fp32", block=128)
    found = np.zeros(image.shape, np.uint8)
    for roi, labels in label_scene(checkpoint.model, scene, how):
        if labels is not None:
            found[roi.slices] = labels + 1
    assert np.array_equal(found, expected)
    assert evaluate(image, ArrayTruth(expected - 1), checkpoint, settings).miou == 1


def test_evaluate_constant_network(picture):
    image = picture(100, 100)
    truth = np.zeros((100, 100), np.uint8)
    truth[:30] = 1
    truth[90:] = 255
    scores = evaluate(image, ArrayTruth(truth), make_checkpoint(ConstantNet(64)))
    assert scores.accuracy == pytest.approx(30 / 90)
    assert scores.to_dict()["iou/middle"] == pytest.approx(30 / 90)


def test_evaluation_in_the_smallest_budget_reads_nothing_ahead(picture):
    readers = set()

    class Recorded(Image):
        def read(self, *args, **kwargs):
            readers.add(threading.current_thread())
            return super().read(*args, **kwargs)

    plain = picture(1100, 1100)
    image = Recorded(**{f.name: getattr(plain, f.name) for f in fields(plain)})
    truth = ArrayTruth(np.zeros(image.shape, np.uint8))
    checkpoint = make_checkpoint(ConstantNet(512))
    budget = smallest_budget(image, checkpoint)
    plan = make_plan(image, checkpoint, budget=budget)
    assert plan.sized.ahead == 0
    readers.clear()
    small = evaluate(image, truth, checkpoint, budget=budget)
    assert readers == {threading.current_thread()}
    assert np.array_equal(small.counts, evaluate(image, truth, checkpoint).counts)
    assert len(readers) == 2  # by default, another thread reads ahead


def smallest_budget(image, checkpoint):
    """Return the smallest budget that a run fits, to 1 MB."""
    for size in range(64 * 2**20, 2 * 2**30, 2**20):
        budget = MemoryBudget("cpu", size, size)
        with suppress(DeviceError):
            make_plan(image, checkpoint, budget=budget)
            return budget
    raise AssertionError("no budget up to 2 GB")


def test_evaluate_without_known_pixels_raises(picture):
    truth = ArrayTruth(np.full((100, 100), 255, np.uint8))
    with pytest.raises(TrainingError, match="No pixel of picture"):
        evaluate(picture(100, 100), truth, make_checkpoint(ConstantNet(64)))
