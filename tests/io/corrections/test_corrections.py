"""Tests of corrections on real folders."""

from pathlib import Path

import numpy as np
import pytest

from helpers.label_stores import (
    LEGEND,
    RUN,
    FakeImage,
    assert_levels_consistent,
    chunk_block,
)
from helpers.strokes import run_out, stroke
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.layer_levels import correction_levels, displayed_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Polygon, Roi, Stroke

IMAGE = FakeImage()
SHAPE = IMAGE.shape
HOLE = ((1500.0, 600.0), (1500.0, 900.0), (1800.0, 750.0))
SHAPE_WITH_HOLE = Polygon(((1000, 200.5), (2100, 500), (1700, 1900.25)), (HOLE,))


@pytest.fixture
def store(tmp_path):
    with LabelStore.create(tmp_path / "labels.zarr", IMAGE, LEGEND) as made:
        run = made.run_ledger.start_run(RUN)
        made.write(chunk_block(0, 0, 1, SHAPE, 2, 3), run.id, "done")
        yield made


@pytest.fixture
def corrections(store):
    with Corrections.open(store) as opened:
        yield opened


@pytest.mark.slow
def test_stroke_overrides_prediction_at_every_level(store, corrections):
    shown, alone = displayed_levels(store), correction_levels(store)
    before = store.read_labels(Roi(0, 0, *SHAPE))
    changed = corrections.apply(stroke(100, 200, 50, 70, 2, seed=3))
    mask = stroke(100, 200, 50, 70, 2, seed=3).mask
    wanted = before.copy()
    wanted[100:150, 200:270][mask] = 2
    np.testing.assert_array_equal(store.read_labels(Roi(0, 0, *SHAPE)), wanted)
    assert Roi(100, 200, 50, 70).contains(changed)
    assert changed.area
    assert_levels_consistent(store)
    for level, corrected, k in zip(shown, alone, range(3), strict=True):
        np.testing.assert_array_equal(corrected[:], store.correction[k][:])
        np.testing.assert_array_equal(
            level[:],
            np.where(corrected[:], corrected[:], store.prediction[k][:]),
        )
    assert corrections.counts() == {2: int(mask.sum())}


@pytest.mark.parametrize("level", [1, 2])
def test_stroke_at_coarser_level_covers_pixels_up_to_border(store, corrections, level):
    step = 2**level
    y, x = SHAPE[0] // step - 20, SHAPE[1] // step - 20
    corrections.apply(stroke(y, x, 60, 60, 1, level))
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[y * step :, x * step :] = 1
    np.testing.assert_array_equal(store.correction[0][:], wanted)
    assert_levels_consistent(store)


def test_stroke_confirming_prediction_counts_once(store, corrections):
    there = store.read_labels(Roi(0, 0, 8, 8))
    assert there[0, 0]
    right = stroke(0, 0, 8, 8, int(there[0, 0]))
    assert corrections.apply(right) == Roi(0, 0, 8, 8)
    version = corrections.version
    assert corrections.counts() == {int(there[0, 0]): 64}
    assert corrections.apply(right).area == 0
    assert corrections.version == version
    corrections.undo()
    assert not corrections.can_undo


def test_erasing_restores_prediction(store, corrections):
    before = [level[:].copy() for level in displayed_levels(store)]
    corrections.apply(stroke(10, 10, 100, 100, 2))
    corrections.apply(stroke(0, 0, 200, 200, 0))
    for level, wanted in zip(displayed_levels(store), before, strict=True):
        np.testing.assert_array_equal(level[:], wanted)
    assert corrections.counts() == {}
    assert corrections.corrected_regions() == ()
    corrections.undo()
    assert corrections.counts() == {2: 10_000}


@pytest.mark.slow
def test_fill_of_many_tiles_is_one_undo_step(store, corrections):
    corrections.apply(stroke(1200, 600, 40, 40, 1))
    before = store.correction[0][:]
    assert run_out(corrections.fill(Roi(-100, 50, 4999, 9999), 2)) == 6
    wanted = before.copy()
    wanted[:4899, 50:] = 2
    np.testing.assert_array_equal(store.correction[0][:], wanted)
    assert corrections.counts() == {2: 4899 * 2050}
    assert corrections.undo() == Roi(0, 50, 4899, 2050)
    np.testing.assert_array_equal(store.correction[0][:], before)
    corrections.redo()
    assert corrections.counts() == {2: 4899 * 2050}
    assert_levels_consistent(store)


def test_fill_closed_early_can_be_undone(store, corrections):
    filling = corrections.fill(Roi(0, 0, *SHAPE), 1)
    next(filling)
    filling.close()
    assert corrections.counts() == {1: 2048 * 2048}
    corrections.undo()
    assert corrections.counts() == {}


@pytest.mark.slow
def test_stroke_during_fill_keeps_order_of_steps(store, corrections):
    filling = corrections.fill(Roi(0, 0, *SHAPE), 1)
    next(filling)
    corrections.apply(stroke(2040, 0, 20, 20, 2))
    list(filling)
    assert (store.correction[0][2040:2060, 0] == [2] * 8 + [1] * 12).all()
    corrections.undo()
    assert (store.correction[0][2040:2060, 0] == 2).all()
    corrections.undo()
    assert (store.correction[0][2040:2060, 0] == [1] * 8 + [0] * 12).all()
    corrections.undo()
    assert corrections.counts() == {}
    assert_levels_consistent(store)


def test_fill_of_polygon_with_hole_uses_pixel_centres(store, corrections):
    from skimage.draw import polygon2mask

    run_out(corrections.fill(SHAPE_WITH_HOLE, 2))
    outer, hole = (
        polygon2mask(SHAPE, np.asarray(ring) - 0.5)
        for ring in (SHAPE_WITH_HOLE.corners, HOLE)
    )
    filled = store.correction[0][:] == 2
    wanted = outer & ~hole
    # the two may differ where an edge passes through a centre, and nowhere else
    assert (filled != wanted).sum() < 20
    assert abs(int(filled.sum()) - int(wanted.sum())) < 20


def test_confirm_makes_displayed_labels_corrections(store, corrections):
    corrections.apply(stroke(0, 0, 100, 100, 2))
    shown = store.read_labels(Roi(0, 0, *SHAPE))
    run_out(corrections.confirm(Roi(50, 50, 3000, 900)))
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[:100, :100] = 2
    wanted[50:3050, 50:950] = shown[50:3050, 50:950]
    np.testing.assert_array_equal(store.correction[0][:], wanted)
    np.testing.assert_array_equal(store.read_labels(Roi(0, 0, *SHAPE)), shown)
    corrections.undo()
    assert corrections.counts() == {2: 10_000}


def test_revert_restores_prediction(store, corrections):
    corrections.apply(stroke(0, 0, 100, 100, 2))
    corrections.apply(stroke(1000, 1000, 100, 100, 1))
    run_out(corrections.revert(Roi(0, 0, 512, 512)))
    assert corrections.counts() == {1: 10_000}
    assert not store.correction[0][:512, :512].any()


def test_corrected_regions_are_connected(store, corrections):
    corrections.apply(stroke(10, 10, 20, 20, 2))
    corrections.apply(stroke(45, 250, 20, 20, 1))
    corrections.apply(stroke(50, 30, 10, 200, 1))  # it connects them, across cells
    corrections.apply(stroke(3000, 1500, 9, 9, 1))
    first, second = corrections.corrected_regions()
    assert first.roi == Roi(0, 0, 256, 512)
    assert first.pixels == {1: 2400, 2: 400}
    assert second.roi.contains(Roi(3000, 1500, 9, 9))
    assert second.pixels == {1: 81}
    run_out(corrections.revert(first.roi))
    assert corrections.corrected_regions() == (second,)


@pytest.mark.slow
def test_corrected_regions_are_counted_by_distance(store, corrections):
    """Forty-eight strokes in eight fields, of which several lie in one cell of 256."""
    fields = [(y, x) for y in (100, 300) for x in (100, 250, 400, 650)]
    for y, x in fields:
        for k in range(6):
            corrections.apply(stroke(y + 10 * k, x, 4, 60, 1 + k % 2))
    found = corrections.corrected_regions()
    assert len(found) == 8
    assert all(place.pixels == {1: 720, 2: 720} for place in found)
    chosen = next(p for p in found if p.roi.contains(Roi(100, 250, 54, 60)))
    before = store.correction[0][:]
    run_out(corrections.revert(chosen))
    before[100:154, 250:310] = 0
    np.testing.assert_array_equal(store.correction[0][:], before)
    left = corrections.corrected_regions()
    assert left == tuple(place for place in found if place is not chosen)


@pytest.mark.slow
def test_reverting_region_keeps_others_in_its_bounding_box(store, corrections):
    corrections.apply(stroke(10, 10, 1500, 20, 2))  # an L around the other one
    corrections.apply(stroke(1500, 10, 20, 1500, 2))
    before = store.correction[0][:]
    corrections.apply(stroke(300, 1000, 50, 60, 1))
    corner, other = corrections.corrected_regions()
    assert corner.roi.contains(other.roi)
    run_out(corrections.revert(corner))
    assert corrections.counts() == {1: 3000}
    assert corrections.corrected_regions() == (other,)
    corrections.undo()
    run_out(corrections.revert(other))
    np.testing.assert_array_equal(store.correction[0][:], before)
    assert_levels_consistent(store)


@pytest.mark.slow
def test_corrections_survive_reopening(store):
    with Corrections.open(store) as first:
        first.apply(stroke(0, 0, 30, 30, 1))
        first.apply(stroke(20, 20, 30, 30, 2))
        first.undo()
        kept = first.counts(), first.corrected_regions(), first.version
    with Corrections.open(store) as again:
        assert (again.counts(), again.corrected_regions(), again.version) == kept
        assert again.redo() == Roi(20, 20, 30, 30)
        assert again.counts() == {1: 800, 2: 900}
        again.undo()
        again.undo()
        assert again.counts() == {}
        assert not again.can_undo
        assert_levels_consistent(store)


@pytest.mark.slow
def test_closed_corrections_open_without_replay_or_counting(store):
    with Corrections.open(store) as first:
        for number in range(40):
            first.apply(stroke(30 * number, 0, 20, 20, 1 + number % 2))
        kept = first.counts(), first.corrected_regions(), first.version
    for chunk in store.path.glob("labels/correction/*/c/*/*"):
        header, body = chunk.read_bytes()[:16], chunk.read_bytes()[16:]
        chunk.write_bytes(header + b"\xff" * len(body))  # pixels cannot be decoded
    with pytest.raises(StoreError):
        store.read_labels(Roi(0, 0, 10, 10))
    with Corrections.open(store) as again:
        assert (again.counts(), again.corrected_regions(), again.version) == kept


def test_lost_counts_are_counted_again(store):
    with Corrections.open(store) as first:
        first.apply(stroke(1000, 900, 300, 300, 1))
        wanted = first.counts(), first.corrected_regions()
    (file,) = store.path.rglob("counts.npz")
    for harm in (file.unlink, lambda: file.write_bytes(b"PK not much")):
        harm()
        with Corrections.open(store) as again:
            assert (again.counts(), again.corrected_regions()) == wanted


def test_corrections_reopen_after_counts_could_not_be_saved(store):
    with Corrections.open(store) as first:
        first.apply(stroke(1000, 900, 300, 300, 1))
    blocker = store.path / ".corrections" / "counts.new"
    blocker.mkdir()  # as a full disk: the counts cannot be written
    with Corrections.open(store) as second:
        second.apply(stroke(1100, 900, 300, 300, 2))
        wanted = second.counts(), second.corrected_regions(), second.version
    assert not second.writable
    with Corrections.open(store) as third:
        assert (third.counts(), third.corrected_regions(), third.version) == wanted
        third.undo()
        assert third.counts() == {1: 90_000}
    blocker.rmdir()
    Corrections.open(store).close()
    with Corrections.open(store) as last:
        assert last.counts() == {1: 90_000}


def test_corrections_reject_second_writer_and_allow_run(store):
    with Corrections.open(store) as first:
        with pytest.raises(StoreError, match=r"Corrections of .* another window"):
            Corrections.open(store)
        with LabelStore.open(store.path) as reader:
            looking = Corrections.open(reader, write=False)
            first.apply(stroke(0, 0, 30, 30, 1))
            assert looking.counts() == {1: 900}
            with pytest.raises(StoreError, match="open for reading only"):
                looking.undo()
    with pytest.raises(StoreError, match="are closed"):
        first.undo()
    with LabelStore.open(store.path) as reader, Corrections.open(reader) as second:
        second.apply(stroke(0, 0, 30, 30, 2))  # the run's lock is still held
        assert reader.coarsest_displayed()[:7, :7].tolist() == [[2] * 7] * 7
        store.write(chunk_block(0, 0, 9, SHAPE), 1, "done")
        assert (store.read_labels(Roi(0, 0, 30, 30)) == 2).all()


def test_stroke_of_unknown_class_is_rejected(store, corrections):
    with pytest.raises(ValueError, match=r"\[3\] are not in the legend"):
        corrections.apply(stroke(0, 0, 2, 2, 3))
    with pytest.raises(ValueError, match="not on multiples of 4"):
        Stroke(Roi(0, 2, 4, 4), np.ones((1, 1), bool), np.ones((1, 1), np.uint8), 2)
    assert not corrections.can_undo


def test_reading_corrections_creates_no_files(store):
    def files():
        return {f for f in Path(store.path).rglob("*") if f.is_file()}

    before = files()
    looking = Corrections.open(store, write=False)
    assert (looking.counts(), looking.can_undo) == ({}, False)
    assert files() == before
