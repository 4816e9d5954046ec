"""Tests of label stores under faults: moved folders, links, damage and two makers."""

import json
import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import zarr

from helpers.full_disk import file_size_limit
from helpers.label_stores import (
    LEGEND,
    RUN,
    FakeImage,
    assert_levels_consistent,
    chunk_block,
)
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels import disk_layout
from napari_uhrseg.io.labels.repair import repair
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.write_lock import WriteLock
from napari_uhrseg.types import Roi, Stroke

IMAGE = FakeImage(shape=(2500, 2100))
SHAPE = IMAGE.shape


@pytest.fixture
def store(tmp_path):
    with LabelStore.create(tmp_path / "labels.zarr", IMAGE, LEGEND) as made:
        yield made


@pytest.fixture
def filled(store):
    run = store.run_ledger.start_run(RUN)
    for row in range(3):
        store.write(chunk_block(row, 0, 1, SHAPE, 1, 3), run.id, "done")
    return store


def stroke(side=20):
    ids = np.full((side, side), 2, np.uint8)
    return Stroke(Roi(0, 0, side, side), ids > 0, ids)


# -- the folder is gone -----------------------------------------------------------


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_write_to_a_folder_that_is_gone_is_an_error(store, how):
    run = store.run_ledger.start_run(RUN)
    corrections = Corrections.open(store)
    moved = store.path.with_name("moved.zarr")
    store.path.rename(moved)
    if how == "deleted":
        shutil.rmtree(moved)
    if how == "replaced":
        LabelStore.create(store.path, IMAGE, LEGEND).close()
    there = sorted(store.path.rglob("*"))
    for change in (
        lambda: store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done"),
        lambda: store.run_ledger.start_run(replace(RUN, overlap=8)),
        store.issue_write_token,
        lambda: corrections.apply(stroke()),
        lambda: list(corrections.fill(Roi(0, 0, 9, 9), 1)),
        corrections.undo,
    ):
        with pytest.raises(StoreError, match=r"The label folder .* is gone"):
            change()
    assert sorted(store.path.rglob("*")) == there  # no stray file
    corrections.close()
    if how == "moved":
        with LabelStore.open(moved) as again:
            assert not again.chunk_status().any()


def test_folder_that_is_gone_is_not_opened_for_writing(store):
    store.close()
    with LabelStore.open(store.path) as reader:
        store.path.rename(store.path.with_name("moved.zarr"))
        for opening in (reader.acquire, lambda: Corrections.open(reader)):
            with pytest.raises(StoreError, match=r"The label folder .* is gone"):
                opening()
    assert not store.path.exists()


@pytest.mark.parametrize("part", ["labels", "labels/prediction/0"])
def test_write_to_a_store_without_its_levels_is_an_error(store, part):
    run = store.run_ledger.start_run(RUN)
    shutil.rmtree(store.path / part)
    with pytest.raises(StoreError, match=r"A part of the label folder .* is gone"):
        store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
    assert not (store.path / part).exists()


def test_store_that_is_moved_during_a_change_is_an_error(store):
    lock = WriteLock(store.path, ".other", "The store is")
    lock.acquire()
    with (
        pytest.raises(StoreError, match=r"The label folder .* is gone"),
        lock.writing(),
    ):
        store.path.rename(store.path.with_name("moved.zarr"))
    lock.close()


@pytest.mark.parametrize("other", ["", "notes.txt"])
def test_chunks_written_to_the_old_place_of_a_store_are_removed(store, other):
    lock = WriteLock(store.path, ".other", "The store is")
    lock.acquire()

    def write_elsewhere():
        store.path.rename(store.path.with_name("moved.zarr"))
        store.prediction[0][:1500] = 1
        assert (store.path / "labels/prediction/0/c").is_dir()
        if other:
            (store.path / other).write_text("of the user")

    with pytest.raises(StoreError, match="is gone"), lock.writing():
        write_elsewhere()
    lock.close()
    assert store.path.exists() == bool(other)
    if other:
        assert (store.path / "labels/prediction/0/c").is_dir()


def test_empty_chunk_is_reported_as_empty(filled):
    chunk = next((filled.path / "labels/prediction/0/c").glob("*/*"))
    chunk.write_bytes(b"")
    with pytest.raises(StoreError, match="a chunk is empty"):
        filled.read_labels(Roi(0, 0, *SHAPE))


def test_store_that_is_moved_back_is_written_again(store):
    run = store.run_ledger.start_run(RUN)
    moved = store.path.rename(store.path.with_name("moved.zarr"))
    with pytest.raises(StoreError, match="is gone"):
        store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
    moved.rename(store.path)
    store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
    assert_levels_consistent(store)


# -- links --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        ".corrections/00000001.log",
        ".corrections/counts.new",
        ".lock",
        "labels/prediction/0/c/0/0",
        "labels/correction/0/c",
        "frames",
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_link_out_of_the_store_is_refused(store, tmp_path, name, write):
    store.close()
    victim = tmp_path / "victim"
    if name in ("labels/correction/0/c", "frames"):
        victim.mkdir()
    else:
        victim.write_text("precious")
    link = store.path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(victim, link.parent))
    with pytest.raises(StoreError, match=rf"a link that leaves it: {name} points to"):
        LabelStore.open(store.path, write=write)
    assert victim.is_dir() or victim.read_text() == "precious"


def test_links_to_and_within_a_store_are_followed(store, tmp_path):
    store.close()
    (store.path / "readme").symlink_to("zarr.json")
    link = tmp_path / "link.zarr"
    link.symlink_to(store.path)
    with LabelStore.open(link, write=True) as again, Corrections.open(again) as opened:
        opened.apply(stroke())
        assert opened.counts() == {2: 400}


# -- damaged chunks ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 7, 40])
@pytest.mark.parametrize("array", ["labels/prediction/0", "0"])
def test_repair_makes_a_damaged_chunk_pending(filled, keep, array):
    wanted = [level[:] for level in (*filled.prediction, *filled.confidence)]
    file = filled.path / array / "c" / "1" / "0"
    file.write_bytes(file.read_bytes()[:keep])
    assert repair(filled) == 1
    run = filled.runs[-1]
    assert np.argwhere(filled.pending(run)).tolist() == [[1, 0]]
    assert_levels_consistent(filled)  # readable, with zeros in that chunk
    filled.write(chunk_block(1, 0, 1, SHAPE, 1, 3), run.id, "done")
    levels = (*filled.prediction, *filled.confidence)
    for level, data in zip(levels, wanted, strict=True):
        np.testing.assert_array_equal(level[:], data)
    assert repair(filled) == 0


@pytest.mark.parametrize("array", ["1", "labels/prediction/1", "labels/correction/1"])
def test_damaged_coarser_chunks_are_computed_from_finer_ones(filled, array):
    with Corrections.open(filled) as corrections:
        corrections.apply(stroke(50))
    file = filled.path / array / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[:-1])
    assert repair(filled) == 0
    with Corrections.open(filled) as corrections:
        assert corrections.counts() == {2: 2500}
    assert not filled.pending(filled.runs[-1]).any()
    assert_levels_consistent(filled)


def test_repair_on_a_full_disk_is_an_error(filled):
    for level in ("0", "1"):
        file = filled.path / "labels/prediction" / level / "c" / "0" / "0"
        file.write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"), file_size_limit(50):
        repair(filled)


def test_write_into_a_damaged_coarser_chunk_is_reported(filled):
    chunk = next((filled.path / "labels/prediction/1/c").glob("*/*"))
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StoreError, match=r"cannot be written to .* bytes instead of"):
        filled.write(chunk_block(0, 0, 2, SHAPE), 1, "done")
    assert not filled.chunk_status()[0, 0]  # pending


def test_damaged_correction_is_reported_and_not_removed(filled):
    with Corrections.open(filled) as corrections:
        corrections.apply(stroke())
    file = filled.path / "labels/correction/0/c/0/0"
    file.write_bytes(b"")
    assert repair(filled) == 0
    with pytest.raises(StoreError, match="A part of the store is damaged"):
        filled.read_labels(Roi(0, 0, 5, 5))
    assert file.exists()


# -- metadata ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("affine", [1, 2, 3]),
        ("affine", "abcdef"),
        ("affine", [1, 0, 0, 0, float("nan"), 0]),
        ("affine", [1, 0, 0, 0, True, 0]),
        ("pixel_size", [0, 1]),
        ("pixel_size", 3),
        ("shape", [2**40, 2**40]),
        ("shape", None),
        ("name", 7),
        ("crs", ["WKT"]),
    ],
)
def test_wrong_metadata_of_the_image_is_reported(store, key, value):
    store.close()
    file = store.path / "zarr.json"
    data = json.loads(file.read_text())
    data["attributes"]["napari-uhrseg"]["image"][key] = value
    file.write_text(json.dumps(data))
    with pytest.raises(StoreError, match="is damaged"):
        LabelStore.open(store.path)


def test_damaged_corrections_are_reported(store):
    shutil.rmtree(store.path / "labels/correction/0")
    with pytest.raises(StoreError, match=r"The corrections in .* are damaged"):
        Corrections.open(store)


# -- making --------------------------------------------------------------------------


def test_of_two_makers_of_one_store_one_is_refused(tmp_path, monkeypatch):
    """The other run makes the store after this one has found the path free."""
    path, files = tmp_path / "a.zarr", disk_layout.ome_metadata.empty_store_files
    both = threading.Barrier(2, timeout=300)

    def slow(*args):
        both.wait()
        return files(*args)

    monkeypatch.setattr(disk_layout.ome_metadata, "empty_store_files", slow)
    errors = []

    def make():
        try:
            LabelStore.create(path, IMAGE, LEGEND).close()
        except StoreError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert "Another run is making" in errors[0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    LabelStore.open(path).close()


def test_array_of_another_kind_is_reported(store):
    store.close()
    shutil.rmtree(store.path / "states")
    zarr.create_group(store.path / "states")
    with pytest.raises(StoreError, match="states is not an array"):
        LabelStore.open(store.path)


def test_reader_loads_what_another_writer_wrote_and_then_writes(store):
    with LabelStore.open(store.path) as reader:
        assert not reader.reload_if_changed()
        run = store.run_ledger.start_run(RUN)
        store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
        assert reader.reload_if_changed()
        assert reader.runs == store.runs
        store.close()
        reader.acquire()
        reader.acquire()
        reader.release()
        reader.write(chunk_block(1, 0, 1, SHAPE), run.id, "done")
        assert_levels_consistent(reader)
        reader.release()
        assert not reader.writable
