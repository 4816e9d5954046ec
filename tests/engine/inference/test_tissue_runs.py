"""Runs inside a tissue mask."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.networks import FrameNet, ToyNet, make_checkpoint
from helpers.segmentation import (
    AUTO_BATCH,
    BUDGET,
    SETTINGS,
    labels_of,
    noise_image,
    of_kind,
    segmenter,
)
from napari_uhrseg.engine.events import Finished, Planned, Progress
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.errors import OtherLabelsError, PlanError, ReadError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.tissue.stored_mask import read_tissue
from napari_uhrseg.types import Roi, TissueMask


def mask_of(shape: tuple[int, int], *pieces: Roi) -> TissueMask:
    pixels = np.zeros(TissueMask.shape_of(shape), bool)
    for piece in pieces:
        pixels[piece.slices] = True
    return TissueMask.of(pixels, shape)


def with_mask(mask: TissueMask, settings=SETTINGS):
    return replace(settings, tissue=mask)


@pytest.fixture
def run(tmp_path):
    return segmenter(tmp_path)


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, overlap=24)])
def test_labels_inside_equal_those_without_a_mask(run, settings):
    image = noise_image(1100, 400, 0)
    mask = mask_of((1100, 400), Roi(900, 60, 190, 70), Roi(20, 300, 3, 3))
    checkpoint = make_checkpoint(ToyNet())
    whole, _ = run(image, checkpoint, settings)
    store, _ = run(image, checkpoint, with_mask(mask, settings))
    inside = mask.inside(Roi(0, 0, 1100, 400))
    np.testing.assert_array_equal(labels_of(store), labels_of(whole) * inside)
    np.testing.assert_array_equal(
        store.confidence[0][:], whole.confidence[0][:] * inside
    )
    assert store.chunk_status().all()


def test_windows_without_tissue_do_not_run(run):
    mask = mask_of((1100, 400), Roi(955, 60, 10, 10))  # a piece of four windows
    settings = with_mask(mask, replace(SETTINGS, overlap=0))
    _, events = run(noise_image(1100, 400, 0), make_checkpoint(ToyNet()), settings)
    plan = of_kind(events, Planned)[0].plan
    assert len(plan.grid) == 18 * 7
    assert (plan.windows, plan.left_out) == (4, 18 * 7 - 4)
    assert plan.left_out_area == pytest.approx(1 - 100 / (1100 * 400))
    assert "122 windows without tissue are left out (100% of the area" in plan.summary()
    assert {(e.total) for e in of_kind(events, Progress)} == {4}
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.left_out, last.left_out_area) == (122, plan.left_out_area)


def test_pixels_without_tissue_are_not_read(run):
    data = np.random.default_rng(0).integers(0, 255, (600, 400, 3), np.uint8)
    image = image_from_array(data, name="slide", rgb=True)
    asked: list[Roi] = []
    read = image.read
    image.read = lambda roi, *rest: (asked.append(roi), read(roi, *rest))[1]
    run(
        image,
        make_checkpoint(ToyNet()),
        with_mask(mask_of((600, 400), Roi(9, 9, 9, 9))),
    )
    assert asked
    assert all(roi.bottom <= 64 and roi.right <= 64 for roi in asked)


def test_image_without_tissue_gets_no_label(run):
    settings = with_mask(mask_of((300, 200)))
    store, events = run(noise_image(300, 200, 0), make_checkpoint(ToyNet()), settings)
    assert not labels_of(store).any()
    assert of_kind(events, Planned)[0].plan.windows == 0
    assert isinstance(events[-1], Finished)


def test_mask_is_kept_and_identifies_the_run(run):
    image, checkpoint = noise_image(300, 200, 0), make_checkpoint(ToyNet())
    first, second = (mask_of((300, 200), Roi(0, 0, n, 99)) for n in (50, 90))
    store, _ = run(image, checkpoint, with_mask(first))
    assert read_tissue(store.path, store.shape) == first
    assert store.runs[-1].tissue == first.id

    def again(settings, **options: object) -> list:
        return list(segment(image, checkpoint, store, settings, BUDGET, **options))

    assert not of_kind(again(with_mask(first)), Progress)  # nothing is left
    for other, text in ((with_mask(second), "another"), (SETTINGS, "another")):
        with pytest.raises(OtherLabelsError, match=f"made with {text} tissue mask"):
            again(other)
    assert read_tissue(store.path, store.shape) == first
    assert of_kind(again(with_mask(second), replace_other=True), Progress)
    assert read_tissue(store.path, store.shape) == second
    np.testing.assert_array_equal(
        labels_of(store) > 0, second.inside(Roi(0, 0, 300, 200))
    )
    assert len(store.runs) == 2


def test_mask_erases_labels_without_tissue(run):
    image, checkpoint = noise_image(300, 200, 0), make_checkpoint(ToyNet())
    store, _ = run(image, checkpoint)
    mask = mask_of((300, 200), Roi(0, 0, 50, 99))
    settings = replace(with_mask(mask), region=Roi(0, 0, 300, 120))
    with pytest.raises(OtherLabelsError, match="made with no tissue mask"):
        list(segment(image, checkpoint, store, settings, BUDGET))
    list(segment(image, checkpoint, store, settings, BUDGET, replace_other=True))
    labelled = labels_of(store) > 0
    np.testing.assert_array_equal(labelled[:, :120], mask.pixels[:, :120])
    assert labelled[:, 120:].all()  # outside the region


def test_failed_block_keeps_its_labels(run):
    data = np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
    image = image_from_array(data, name="slide", rgb=True)
    checkpoint = make_checkpoint(ToyNet())
    store, _ = run(image, checkpoint)
    before = labels_of(store).copy()

    def read(*_: object) -> None:
        raise ReadError("no")

    image.read = read
    settings = with_mask(mask_of((300, 200), Roi(0, 0, 50, 99)))
    list(segment(image, checkpoint, store, settings, BUDGET, replace_other=True))
    np.testing.assert_array_equal(labels_of(store), before)


def test_mask_of_another_image_is_refused():
    settings = with_mask(mask_of((300, 201)))
    with pytest.raises(PlanError, match="of an image of 300 rows and 201 columns"):
        make_plan(noise_image(300, 200, 0), make_checkpoint(ToyNet()), settings, BUDGET)


@pytest.mark.slow
def test_frames_inside_a_mask_equal_those_without(tmp_path):
    image = noise_image(2100, 1500, 3)
    mask = mask_of((2100, 1500), Roi(510, 20, 20, 30), Roi(900, 700, 150, 40))
    assert mask.factor == 2
    checkpoint = make_checkpoint(FrameNet())
    run = segmenter(tmp_path, AUTO_BATCH)
    whole, _ = run(image, checkpoint)
    store, events = run(image, checkpoint, with_mask(mask, AUTO_BATCH))
    inside = mask.inside(Roi(0, 0, 2100, 1500))
    np.testing.assert_array_equal(labels_of(store), labels_of(whole) * inside)
    assert of_kind(events, Planned)[0].plan.left_out > 0
