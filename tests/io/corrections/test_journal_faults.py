"""Tests of corrections under faults: full disks, kills, damage and hostile stores."""

import shutil
import struct
import zlib

import numpy as np
import pytest

from helpers.full_disk import file_size_limit
from helpers.label_stores import LEGEND, FakeImage, assert_levels_consistent
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.corrections.journal import Journal
from napari_uhrseg.io.corrections.journal_record import pack_record
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Limits, Roi, Stroke

SHAPE = (700, 600)
HEADER = struct.Struct("<4sIQQBBqqqq3I")


@pytest.fixture
def store(tmp_path):
    with LabelStore.create(tmp_path / "a.zarr", FakeImage(shape=SHAPE), LEGEND) as made:
        yield made


def stroke(y, x, height, width, class_id):
    ids = np.full((height, width), class_id, np.uint8)
    return Stroke(Roi(y, x, height, width), ids > 0, ids)


def noise(seed=0, shape=SHAPE):
    ids = np.random.default_rng(seed).integers(1, 3, shape, np.uint8)
    return Stroke(Roi(0, 0, *shape), ids > 0, ids)


def pixel_counts(store):
    counts = np.bincount(store.correction[0][:].ravel())
    return {i: int(n) for i, n in enumerate(counts) if i and n}


def log_of(store):
    (log,) = store.path.glob(".corrections/*.log")
    return log


# -- full disks -----------------------------------------------------------------


def test_full_disk_says_of_each_stroke_if_it_is_kept(store):
    limits = Limits(journal_segment_bytes=1000)
    with Corrections.open(store, limits=limits) as corrections:
        corrections.apply(noise())
        wanted = store.correction[0][:]
        with file_size_limit(20_000):  # the journal has room, the chunk has not
            with pytest.raises(StoreError, match="The change is kept"):
                corrections.apply(stroke(0, 0, 10, 10, 2))
            for y in (20, 40):
                with pytest.raises(StoreError, match="This change was not kept"):
                    corrections.apply(stroke(y, 0, 10, 10, 2))
            with pytest.raises(StoreError, match="This change was not kept"):
                list(corrections.fill(Roi(60, 0, 10, 10), 2))
            with pytest.raises(StoreError, match="This change was not kept"):
                corrections.undo()
        corrections.apply(stroke(100, 0, 10, 10, 2))
        wanted[:10, :10] = wanted[100:110, :10] = 2
        np.testing.assert_array_equal(store.correction[0][:], wanted)
        assert corrections.counts() == pixel_counts(store)
    with Corrections.open(store) as corrections:
        np.testing.assert_array_equal(store.correction[0][:], wanted)
        assert len(list(iter(corrections.undo, None))) == 3
        assert corrections.counts() == {}


@pytest.mark.slow
def test_full_disk_keeps_no_part_of_a_stroke_of_many_tiles(store):
    limits = Limits(correction_tile=64)
    with Corrections.open(store, limits=limits) as corrections:
        corrections.apply(stroke(0, 0, 10, 10, 1))
        before = store.correction[0][:]
        with (
            file_size_limit(10_000),
            pytest.raises(StoreError, match="This change was not kept"),
        ):
            corrections.apply(noise(1))
        np.testing.assert_array_equal(store.correction[0][:], before)
        assert log_of(store).stat().st_size < 1000
        corrections.apply(stroke(5, 5, 200, 200, 2))
        after = store.correction[0][:]
    with Corrections.open(store) as corrections:
        np.testing.assert_array_equal(store.correction[0][:], after)
        corrections.undo()
        np.testing.assert_array_equal(store.correction[0][:], before)


# -- kills ------------------------------------------------------------------------


@pytest.mark.slow
def test_kill_within_a_stroke_of_many_tiles_leaves_all_or_nothing(store, tmp_path):
    limits = Limits(correction_tile=64)
    with Corrections.open(store, limits=limits) as corrections:
        corrections.apply(stroke(3, 3, 30, 30, 1))
    before, start = store.correction[0][:], log_of(store).stat().st_size
    old = shutil.copytree(store.path, tmp_path / "old.zarr")
    with Corrections.open(store, limits=limits) as corrections:
        corrections.apply(stroke(10, 10, 150, 150, 2))
    after, whole = store.correction[0][:], log_of(store).read_bytes()
    for number, end in enumerate((start + 40, *range(start + 101, len(whole), 211))):
        killed = shutil.copytree(old, tmp_path / f"{number}.zarr")
        (log,) = killed.glob(".corrections/*.log")
        log.write_bytes(whole[:end])
        with LabelStore.open(killed) as again, Corrections.open(again) as corrections:
            np.testing.assert_array_equal(again.correction[0][:], before)
            assert log.stat().st_size == start
            assert corrections.counts() == pixel_counts(again)
    assert number >= 3
    (log,) = old.glob(".corrections/*.log")
    log.write_bytes(whole)
    with LabelStore.open(old) as again, Corrections.open(again) as corrections:
        np.testing.assert_array_equal(again.correction[0][:], after)
        assert_levels_consistent(again)
        assert corrections.counts() == pixel_counts(again)
        corrections.undo()
        np.testing.assert_array_equal(again.correction[0][:], before)


@pytest.mark.slow
def test_stroke_of_more_tiles_than_the_tail_is_completed_after_a_kill(store, tmp_path):
    old = shutil.copytree(store.path, tmp_path / "old.zarr")
    with Corrections.open(store, limits=Limits(correction_tile=64)) as corrections:
        assert corrections.apply(stroke(0, 0, *SHAPE, 2)) == Roi(0, 0, *SHAPE)
    log = log_of(store)
    (old / ".corrections").mkdir()
    shutil.copy(log, old / ".corrections" / log.name)
    with LabelStore.open(old) as again, Corrections.open(again) as corrections:
        assert (again.correction[0][:] == 2).all()
        assert corrections.counts() == {2: SHAPE[0] * SHAPE[1]}
        corrections.undo()
        assert not corrections.can_undo
        assert not again.correction[0][:].any()


# -- damage -------------------------------------------------------------------------


@pytest.mark.slow
def test_journal_cut_at_every_byte_gives_its_complete_steps(store, tmp_path):
    with Corrections.open(store, limits=Limits(correction_tile=64)) as corrections:
        ends = []
        for y, side in ((0, 5), (50, 30), (200, 5)):
            corrections.apply(stroke(y, 50, side, side, 1))
            ends.append(log_of(store).stat().st_size)
    whole = log_of(store).read_bytes()
    folder = tmp_path / "cut"
    folder.mkdir()
    for end in range(len(whole) + 1):
        (folder / "00000001.log").write_bytes(whole[:end])
        journal = Journal(folder, SHAPE, Limits())
        journal.load(write=False)
        assert len(journal.undoable) == sum(end >= n for n in ends)
        assert journal.incomplete == (end not in (0, *ends))
        assert not journal.damaged


def test_journal_cut_below_the_counts_is_reported_once(store, caplog):
    with Corrections.open(store) as corrections:
        for number in range(6):
            corrections.apply(stroke(20 * number, 0, 15, 100, 1 + number % 2))
        corrections.apply(stroke(0, 0, 100, 10, 2))  # over five others
    log, painted = log_of(store), store.correction[0][:]
    whole = log.read_bytes()
    log.write_bytes(whole[: 3 * len(whole) // 7 + 1])
    with Corrections.open(store) as corrections:
        np.testing.assert_array_equal(store.correction[0][:], painted)
        assert corrections.counts() == pixel_counts(store)
        assert "changes cannot be undone any more" in corrections.loss
        undone = len(list(iter(corrections.undo, None)))
        assert 0 < undone < 7
        # pixels of the lost stroke stay where an undone step had another class
        assert (store.correction[0][:15, :10] == 2).all()
        assert not store.correction[0][:15, 10:100].any()
        while corrections.redo():
            assert corrections.counts() == pixel_counts(store)
        np.testing.assert_array_equal(store.correction[0][:], painted)
        corrections.apply(stroke(300, 0, 5, 5, 1))
    assert len(caplog.messages) == 1
    assert "changes cannot be undone any more. All labels are kept." in caplog.text
    with Corrections.open(store) as corrections:
        assert corrections.counts() == pixel_counts(store)
        assert len(list(iter(corrections.undo, None))) == undone + 1
        assert corrections.counts() == pixel_counts(store)
    assert len(caplog.messages) == 1


def test_missing_segment_ends_the_history_before_it(store, caplog):
    limits = Limits(journal_segment_bytes=1)
    with Corrections.open(store, limits=limits) as corrections:
        for number in range(5):
            corrections.apply(stroke(20 * number, 0, 15, 15, 1))
    (store.path / ".corrections" / "00000003.log").unlink()
    (store.path / ".corrections" / "x.log").write_text("not a segment")
    (store.path / ".corrections" / "1.log").write_text("not a segment")
    with Corrections.open(store, limits=limits) as corrections:
        assert corrections.counts() == {1: 5 * 15 * 15}
        assert len(list(iter(corrections.undo, None))) == 2
        assert corrections.counts() == {1: 3 * 15 * 15}
    assert "its older changes cannot be undone" in caplog.text


def forged(**changed):
    """Return a record with changed fields and a right checksum."""
    fields = {"number": 1, "step": 1, "kind": 0, "level": 0, "y": 0, "x": 0,
              "height": 4, "width": 4, "mask": 0, "ids": 0, "old": 0}  # fmt: skip
    body = HEADER.pack(b"uhr1", 0, *{**fields, **changed}.values())[8:]
    return b"uhr1" + struct.pack("<I", zlib.crc32(body)) + body


@pytest.mark.parametrize(
    "changed",
    [
        {"height": 400_000, "width": 400_000},
        {"height": -4},
        {"y": -1},
        {"x": 2**62},
        {"height": 0},
        {"level": 40},
        {"level": 22, "height": 1, "width": 1},
        {"kind": 7},
        {"number": 2**63},
        {"number": 0},
        {"mask": 2**32 - 1},
        {"kind": 2, "mask": 0, "ids": 5},
        {"kind": 2 | 0x80},
    ],
    ids=str,
)
def test_forged_record_is_no_record(store, changed):
    folder = store.path / ".corrections"
    folder.mkdir()
    (folder / "00000001.log").write_bytes(forged(**changed) + bytes(100))
    with Corrections.open(store) as corrections:
        assert not corrections.can_undo
        corrections.apply(stroke(0, 0, 5, 5, 1))
        corrections.undo()
        assert corrections.counts() == {}


@pytest.mark.parametrize("kind", [2, 3])
def test_forged_undo_of_an_unknown_step_changes_nothing(store, kind):
    folder = store.path / ".corrections"
    folder.mkdir()
    sizes = {"height": 0, "width": 0}
    record = forged(kind=kind, step=77, **sizes)
    (folder / "00000001.log").write_bytes(record)
    with Corrections.open(store) as corrections:
        assert not corrections.can_undo
        assert not corrections.can_redo
        assert corrections.counts() == {}


def test_record_whose_data_has_another_size_is_reported(store):
    with Corrections.open(store) as corrections:
        corrections.apply(stroke(0, 0, 40, 40, 1))
    log = log_of(store)
    data = bytearray(log.read_bytes())
    data[HEADER.size - 28 : HEADER.size - 12] = struct.pack("<qq", 39, 39)
    data[4:8] = struct.pack("<I", zlib.crc32(data[8:]))
    log.write_bytes(data)
    with Corrections.open(store) as corrections:
        with pytest.raises(StoreError, match=r"The journal of .* is damaged"):
            corrections.undo()
        assert (store.correction[0][:40, :40] == 1).all()


def test_records_out_of_order_end_the_journal(store, tmp_path):
    first, third = (pack_record(n, n, "undo", None, more=False) for n in (5, 4))
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "00000001.log").write_bytes(first + third)
    journal = Journal(folder, SHAPE, Limits())
    journal.load(write=False)
    assert journal.last == 5
    assert journal.incomplete


def test_counts_of_another_journal_are_counted_again(store):
    with Corrections.open(store) as corrections:
        corrections.apply(stroke(0, 0, 40, 40, 1))
    counts = store.path / ".corrections" / "counts.npz"
    kept = counts.read_bytes()
    with Corrections.open(store) as corrections:
        corrections.apply(stroke(0, 0, 40, 40, 2))
        corrections.apply(stroke(0, 0, 20, 40, 1))
    np.savez(counts, position=np.int64(1), **{"1": np.array([[0], [7]], np.int64)})
    with Corrections.open(store) as corrections:
        assert corrections.counts() == {1: 800, 2: 800}
    counts.write_bytes(kept[:50])
    with Corrections.open(store) as corrections:
        assert corrections.counts() == {1: 800, 2: 800}


# -- damaged chunks of the corrections ----------------------------------------------


def damage(store, keep=0):
    file = store.path / "labels/correction/0/c/0/0"
    file.write_bytes(file.read_bytes()[:keep])
    return file


@pytest.fixture(params=[(700, 600), (2500, 2100)])
def large(request, tmp_path):
    image = FakeImage(shape=request.param)
    with LabelStore.create(tmp_path / "b.zarr", image, LEGEND) as made:
        yield made


@pytest.mark.parametrize("keep", [0, 40])
def test_damaged_chunk_is_restored_from_the_history(large, keep):
    store = large
    with Corrections.open(store) as corrections:
        corrections.apply(stroke(0, 0, 30, 30, 1))
        corrections.apply(stroke(10, 10, 30, 30, 2))
    wanted = [level[:] for level in store.correction]
    damage(store, keep)
    with pytest.raises(StoreError) as error:
        store.read_labels(Roi(0, 0, 50, 50))
    assert "all undamaged corrections are kept" in error.value.hint
    with Corrections.open(store) as corrections:
        assert "no pixel is lost" in corrections.loss
        assert "1 part of the corrections" in corrections.loss
        assert sum(corrections.counts().values()) == 1400
    for level, data in zip(store.correction, wanted, strict=True):
        np.testing.assert_array_equal(level[:], data)
    with Corrections.open(store) as corrections:
        assert not corrections.loss
        corrections.undo()
        assert corrections.counts() == {1: 900}


def test_damaged_chunk_without_history_is_reported_in_numbers(tmp_path):
    image = FakeImage(shape=(1200, 600))
    store = LabelStore.create(tmp_path / "b.zarr", image, LEGEND)
    with Corrections.open(store) as corrections:
        corrections.apply(stroke(0, 0, 30, 30, 1))
        corrections.apply(stroke(1100, 0, 20, 20, 2))  # in another chunk
    content = (store.path / "labels/correction/0/c/0/0").read_bytes()
    for file in (store.path / ".corrections").glob("*.log"):
        file.unlink()
    damage(store, len(content) - 1)
    with Corrections.open(store) as corrections:
        assert corrections.counts() == {2: 400}
        assert "y 0 to 1,024, x 0 to 600" in corrections.loss
        assert "900 of 1,300 corrected pixels are lost" in corrections.loss
        assert "the other corrections are kept" in corrections.loss
    aside = store.path / ".corrections" / "damaged" / "0-0"
    assert aside.read_bytes() == content[:-1]
    assert not store.read_labels(Roi(0, 0, 50, 50)).any()
    store.close()
