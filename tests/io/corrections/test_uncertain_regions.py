"""Tests of the ranking of uncertain regions."""

import numpy as np
import pytest

from helpers.label_stores import LEGEND, RUN, FakeImage
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.corrections.uncertain_regions import find_uncertain_regions
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, Roi

SHAPE = (4096, 3072)
LARGE, SMALL = Roi(512, 512, 512, 384), Roi(3000, 2000, 100, 128)


@pytest.fixture
def store(tmp_path):
    image = FakeImage(shape=SHAPE)
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as made:
        run = made.run_ledger.start_run(RUN)
        labels = np.ones(SHAPE, np.uint8)
        confidence = np.full(SHAPE, 240, np.uint8)
        confidence[LARGE.slices] = 60
        confidence[SMALL.slices] = 20
        confidence[2048:, :1024] = labels[2048:, :1024] = 0  # not segmented
        made.write(Block(Roi(0, 0, *SHAPE), labels, confidence), run.id, "done")
        yield made


def test_uncertain_regions_are_sorted_and_not_repeated(store):
    first, second = find_uncertain_regions(store)
    assert first.roi.contains(LARGE)
    assert first.roi.area < 1.2 * LARGE.area
    assert second.roi.contains(SMALL)
    assert second.score > first.score > 0.7
    assert find_uncertain_regions(store, [first.roi]) == (second,)
    assert find_uncertain_regions(store, [first.roi, second.roi]) == ()


def test_uncertain_regions_exclude_corrections(store):
    with Corrections.open(store) as corrections:
        list(corrections.fill(LARGE, 2))
        (place,) = find_uncertain_regions(store)
        assert place.roi.contains(SMALL)
        list(corrections.fill(Roi(0, 0, *SHAPE), 2))
        assert find_uncertain_regions(store) == ()


def test_large_uncertain_region_is_divided(store):
    run = store.runs[0]
    confidence = np.full((4096, 3072), 250, np.uint8)
    confidence[1100:1200] = 3
    labels = np.ones_like(confidence)
    store.write(Block(Roi(0, 0, *SHAPE), labels, confidence), run.id, "done")
    places = find_uncertain_regions(store)
    assert len(places) == 3
    assert max(p.roi.width for p in places) <= 1024
    covered = np.zeros(SHAPE, bool)
    for place in places:
        assert not covered[place.roi.slices].any()
        covered[place.roi.slices] = True
    assert covered[1100:1200].all()


def test_no_uncertain_regions_without_labels_or_differences(tmp_path):
    image = FakeImage(shape=(600, 700))
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as store:
        assert find_uncertain_regions(store) == ()
        alike = np.full((600, 700), 80, np.uint8)
        run = store.run_ledger.start_run(RUN)
        store.write(Block(Roi(0, 0, 600, 700), alike // 80, alike), run.id, "done")
        assert find_uncertain_regions(store) == ()
