"""A clean-up as corrections, and its preview."""

import numpy as np
import pytest
from rasterio.features import sieve

from helpers.label_stores import LEGEND, RUN, FakeImage
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.cleanup.correct_labels import clean_corrections, preview_clean_up
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import AreaSize, Block, CleanUp, Roi, Stroke

SHAPE = (90, 120)
CLEAN = CleanUp(min_object=AreaSize(20), fill_holes=AreaSize(20))


def picture() -> np.ndarray:
    noise = np.random.default_rng(0)
    labels = noise.integers(1, 3, (9, 12), np.uint8).repeat(10, 0).repeat(10, 1)
    labels[noise.random(SHAPE) < 0.05] = 0
    labels[40:60, 30:70] = 0
    labels[50, 50] = 1  # a speck in a region without labels
    return labels


@pytest.fixture
def store(tmp_path):
    image = FakeImage(shape=SHAPE)
    with LabelStore.create(tmp_path / "a.zarr", image, LEGEND) as opened:
        run = opened.run_ledger.start_run(RUN)
        labels = picture()
        block = Block(Roi(0, 0, *SHAPE), labels, np.ones_like(labels))
        opened.write(block, run.id, "done")
        yield opened


def test_clean_up_is_one_step_that_can_be_undone(store):
    before = store.read_labels(Roi(0, 0, *SHAPE))
    cleaned = sieve(picture(), 20)
    assert not cleaned[50, 50]
    with Corrections.open(store) as corrections:
        shares = list(clean_corrections(corrections, CLEAN))
        assert shares == sorted(shares)
        after = store.read_labels(Roi(0, 0, *SHAPE))
        expected = np.where(cleaned > 0, cleaned, before)  # no label is removed
        np.testing.assert_array_equal(after, expected)
        corrections.undo()
        assert not corrections.can_undo
        np.testing.assert_array_equal(store.read_labels(Roi(0, 0, *SHAPE)), before)


def test_labels_that_change_meanwhile_are_not_overwritten(store):
    with Corrections.open(store) as corrections:
        steps = clean_corrections(corrections, CLEAN)
        next(steps)
        one = np.ones((5, 5), np.uint8)
        corrections.apply(Stroke(Roi(0, 0, 5, 5), one > 0, one))
        with pytest.raises(StoreError, match="changed during the clean-up"):
            list(steps)
        assert corrections.counts() == {1: 25}


def test_preview_of_the_image_equals_the_clean_up(store):
    roi = Roi(0, 0, *SHAPE)
    np.testing.assert_array_equal(
        preview_clean_up(store, CLEAN, roi), sieve(picture(), 20)
    )
    part = Roi(10, 20, 30, 40)  # its surroundings take part
    np.testing.assert_array_equal(
        preview_clean_up(store, CLEAN, part), sieve(picture(), 20)[part.slices]
    )
