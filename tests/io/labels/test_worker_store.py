"""Tests of stores that several workers write."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.full_disk import file_size_limit
from helpers.label_stores import LEGEND, RUN, FakeImage
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.worker_store import TokenRevoked, WorkerStore, owned_levels
from napari_uhrseg.io.labels.write_lock import revoke_write_token
from napari_uhrseg.types import Block, Roi


def blocks(shape: tuple[int, int], side: int) -> list[Roi]:
    whole, step = Roi(0, 0, *shape), side * STORE_CHUNK
    return [
        Roi(y, x, step, step).intersect(whole)
        for y in range(0, shape[0], step)
        for x in range(0, shape[1], step)
    ]


def filled(roi: Roi, seed: int = 0) -> Block:
    noise = np.random.default_rng((roi.y, roi.x, seed))
    labels = noise.integers(0, 3, (roi.height // 64 + 1, roi.width // 64 + 1), np.uint8)
    labels = labels.repeat(64, 0).repeat(64, 1)[: roi.height, : roi.width]
    return Block(roi, labels, (labels * 70).astype(np.uint8))


def everything(store: LabelStore) -> list[np.ndarray]:
    levels = [*store.prediction, *store.confidence]
    return [*(level[:] for level in levels), store.chunk_status()]


@pytest.mark.slow
@settings(max_examples=8)
@given(
    shape=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    side=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_worker_blocks_equal_store_of_one_writer(shape, side, order):
    image = FakeImage(shape=shape)
    with (
        tempfile.TemporaryDirectory() as folder,
        LabelStore.create(Path(folder) / "one.zarr", image, LEGEND) as one,
        LabelStore.create(Path(folder) / "many.zarr", image, LEGEND) as many,
    ):
        runs = [s.run_ledger.start_run(RUN).id for s in (one, many)]
        top = many.coarsest_displayed()
        workers = [WorkerStore(many.path, many.issue_write_token())]
        workers.append(WorkerStore(many.path, (many.path / ".writer").read_text()))
        todo = blocks(shape, side)
        for roi in todo:
            one.write(filled(roi), runs[0], "done")
        order.shuffle(todo)
        for number, roi in enumerate(todo):
            worker = workers[number % 2]
            many.clear_status(roi)
            worker.set_block(roi)
            worker.write(filled(roi), runs[1], "done")
            for part in worker.results():
                assert part.labels.nbytes <= (roi.height + 1) * (roi.width + 1) // 4
                many.commit(part, runs[1])
        for a, b in zip(everything(one), everything(many), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(top, one.coarsest_displayed())


@pytest.mark.slow
@given(
    shape=st.tuples(st.integers(1, 40_000), st.integers(1, 40_000)),
    side=st.integers(1, 9),
    place=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_no_chunk_of_any_level_belongs_to_two_blocks(shape, side, place):
    all_blocks = blocks(shape, side)
    mine, other = (all_blocks[p % len(all_blocks)] for p in place)
    if mine == other:
        return
    for level in range(1, min(owned_levels(r, shape, 6) for r in (mine, other))):
        chunks = [r.align(STORE_CHUNK << level) for r in (mine, other)]
        assert chunks[0].intersect(chunks[1]).area == 0


@pytest.fixture
def store(tmp_path):
    image = FakeImage(shape=(2100, 2100))
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as made:
        made.run_ledger.start_run(RUN)
        yield made


ROI = Roi(0, 0, 1024, 1024)


def test_worker_of_replaced_client_writes_nothing(store):
    worker = WorkerStore(store.path, store.issue_write_token())
    worker.set_block(ROI)
    store.close()
    with LabelStore.open(store.path, write=True) as other:
        with pytest.raises(TokenRevoked):
            worker.write(filled(ROI), 1, "done")
        assert not other.prediction[0][:].any()
        assert not other.chunk_status().any()


def test_write_token_ends_with_next_token_and_when_revoked(store):
    first = WorkerStore(store.path, store.issue_write_token())
    second = WorkerStore(store.path, store.issue_write_token())
    for worker in (first, second):
        worker.set_block(ROI)
    with pytest.raises(TokenRevoked):
        first.write(filled(ROI), 1, "done")
    second.write(filled(ROI), 1, "done")
    revoke_write_token(store.path)
    with pytest.raises(TokenRevoked):
        second.write(filled(ROI), 1, "done")


def test_cleared_block_is_pending_until_committed(store):
    store.write(filled(ROI), 1, "done")
    assert store.chunk_status()[0, 0]
    worker = WorkerStore(store.path, store.issue_write_token())
    store.clear_status(ROI)
    worker.set_block(ROI)
    worker.write(filled(ROI, 1), 1, "done")
    with LabelStore.open(store.path) as reader:
        assert not reader.chunk_status()[0, 0]
    (part,) = worker.results()
    store.commit(part, 1)
    with LabelStore.open(store.path) as reader:
        assert reader.chunk_status()[0, 0]


def test_worker_rejects_writing_outside_its_block(store):
    worker = WorkerStore(store.path, store.issue_write_token())
    worker.set_block(ROI)
    with pytest.raises(ValueError, match="outside the worker's block"):
        worker.write(filled(Roi(1024, 0, 1024, 1024)), 1, "done")


def test_worker_reports_missing_store(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened by a worker"):
        WorkerStore(tmp_path / "none.zarr", "token")


def test_reader_cannot_issue_write_token(store):
    with (
        LabelStore.open(store.path) as reader,
        pytest.raises(StoreError, match="reading only"),
    ):
        reader.issue_write_token()


def test_worker_has_the_chunks_of_its_block_pending(store):
    worker = WorkerStore(store.path, store.issue_write_token())
    worker.set_block(Roi(0, 1024, 2048, 1024))
    pending = worker.pending(store.runs[0])
    assert np.argwhere(pending).tolist() == [[0, 1], [1, 1]]


def test_worker_on_a_full_disk_returns_no_result(store):
    worker = WorkerStore(store.path, store.issue_write_token())
    worker.set_block(ROI)
    noise = np.random.default_rng(0).integers(1, 3, (1024, 1024), np.uint8)
    message = r"cannot be written: File too large.*Free some space"
    with pytest.raises(StoreError, match=message), file_size_limit(20_000):
        worker.write(Block(ROI, noise, noise), 1, "done")
    assert not worker.results()
    worker.write(Block(ROI, noise, noise), 1, "done")
    assert len(worker.results()) == 1


def test_worker_replaces_a_damaged_chunk_that_it_erases(store):
    worker = WorkerStore(store.path, store.issue_write_token())
    worker.set_block(ROI)
    worker.write(filled(ROI), 1, "done")
    (store.path / "labels/prediction/0/c/0/0").write_bytes(b"")
    nothing = np.zeros((1024, 1024), np.uint8)
    worker.write(Block(ROI, nothing, nothing), 1, "empty")
    assert not store.read_labels(ROI).any()


def test_worker_whose_store_was_moved_writes_nothing(store):
    worker = WorkerStore(store.path, store.issue_write_token())
    worker.set_block(ROI)
    moved = store.path.rename(store.path.with_name("moved.zarr"))
    with pytest.raises(TokenRevoked):
        worker.write(filled(ROI), 1, "done")
    assert not store.path.exists()
    moved.rename(store.path)


def test_worker_reports_arrays_of_another_kind(store):
    folder = store.path / "labels/prediction/0"
    shutil.rmtree(folder)
    zarr.create_group(folder)
    with pytest.raises(StoreError, match="is not an array of labels"):
        WorkerStore(store.path, "token")
