"""Tests of undo and redo, also of large changes that are stopped."""

import numpy as np
import pytest

from helpers.label_stores import LEGEND, FakeImage, assert_levels_consistent
from helpers.strokes import run_out, stroke
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Limits, Polygon

IMAGE = FakeImage(shape=(1200, 1060))
HOLE = ((750.0, 300.0), (750.0, 450.0), (900.0, 375.0))
SHAPE_WITH_HOLE = Polygon(((500, 100.5), (1050, 250), (850, 950.25)), (HOLE,))


@pytest.fixture
def store(tmp_path):
    limits = Limits(coarsest_level=320)  # three levels
    with LabelStore.create(tmp_path / "labels.zarr", IMAGE, LEGEND, limits) as made:
        assert len(made.correction) == 3
        yield made


@pytest.fixture
def corrections(store):
    with Corrections.open(store) as opened:
        yield opened


@pytest.mark.slow
def test_undo_and_redo_follow_order_of_steps(store, corrections):
    seen = [store.correction[0][:]]
    for seed in range(4):
        corrections.apply(stroke(50 * seed, 10, 90, 90, 1 + seed % 2, seed=seed))
        seen.append(store.correction[0][:])
    for wanted in seen[-2::-1]:
        assert corrections.undo() is not None
        np.testing.assert_array_equal(store.correction[0][:], wanted)
        assert_levels_consistent(store)
    assert corrections.undo() is None
    assert (corrections.can_undo, corrections.can_redo) == (False, True)
    for wanted in seen[1:]:
        corrections.redo()
        np.testing.assert_array_equal(store.correction[0][:], wanted)
    assert corrections.redo() is None
    assert_levels_consistent(store)
    corrections.undo()
    corrections.apply(stroke(0, 0, 5, 5, 1))
    assert not corrections.can_redo


SMALL_TILES = Limits(correction_tile=256)


def filled_over(corrections):
    """A fill of many parts over a stroke; how many."""
    corrections.apply(stroke(250, 200, 350, 150, 1, seed=1))
    run_out(corrections.fill(SHAPE_WITH_HOLE, 2))
    return corrections.next_part_count("undo")


@pytest.mark.slow
def test_large_change_is_undone_and_redone_tile_by_tile(store):
    with Corrections.open(store, limits=SMALL_TILES) as corrections:
        parts = filled_over(corrections)
        assert parts > 6
        after = store.correction[0][:], corrections.counts()
        assert run_out(corrections.undo_or_redo("undo")) == parts
        assert not (store.correction[0][:] == 2).any()
        assert_levels_consistent(store)
        assert run_out(corrections.undo_or_redo("redo")) == parts
        np.testing.assert_array_equal(store.correction[0][:], after[0])
        assert corrections.counts() == after[1]
        assert corrections.next_part_count("redo") == 0
        assert run_out(corrections.undo_or_redo("redo")) == 0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["undo", "redo"])
def test_stopped_undo_restores_what_it_had_changed(store, way):
    with Corrections.open(store, limits=SMALL_TILES) as corrections:
        parts = filled_over(corrections)
        if way == "redo":
            corrections.undo()
        before = store.correction[0][:], corrections.counts()
        turning = corrections.undo_or_redo(way)
        assert [next(turning) for _ in range(3)] == [n / parts for n in (1, 2, 3)]
        assert (store.correction[0][:] != before[0]).any()
        turning.close()
        np.testing.assert_array_equal(store.correction[0][:], before[0])
        assert corrections.counts() == before[1]
        assert_levels_consistent(store)
        assert corrections.next_part_count(way) == parts
    with Corrections.open(store) as corrections:
        assert corrections.counts() == before[1]
        run_out(corrections.undo_or_redo(way))
        assert (2 in corrections.counts()) == (way == "redo")
        assert_levels_consistent(store)
