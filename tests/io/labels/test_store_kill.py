"""Tests with real processes that are killed while they write a store."""

import random
import time

import numpy as np
import pytest

from helpers.forked import forked_code
from helpers.label_stores import (
    LEGEND,
    RUN,
    FakeImage,
    assert_levels_consistent,
    chunk_block,
)
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels import chunk_status
from napari_uhrseg.io.labels.downsample import coarser_confidence, coarser_labels
from napari_uhrseg.io.labels.store import LabelStore

pytestmark = pytest.mark.slow

IMAGE = FakeImage(shape=(3100, 1100))  # 4 by 2 chunks

SETUP = """
import sys
import numpy as np
from helpers.label_stores import LEGEND, OTHER, RUN, FakeImage, chunk_block
from napari_uhrseg.io.labels.store import LabelStore
path = sys.argv[1]
def say(*words):
    print(*words, flush=True)
"""

# chunks in the run's order, the second row of chunks in one block with the third
WRITER = (
    SETUP
    + """
store = LabelStore.open(path, write=True)
run = store.run_ledger.start_run(RUN if sys.argv[2] == "1" else OTHER, replace=True)
pending = store.pending(run)
say("begun", run.id, int(pending.sum()))
for row, column in np.argwhere(pending).tolist():
    rows = 2 if row == 1 and pending[2, column] else 1
    if store.chunk_status()[row, column] == run.id << 2 | 1:
        continue
    sys.stdin.readline()
    block = chunk_block(row, column, int(sys.argv[2]), store.shape, rows)
    store.write(block, run.id, "done")
    say(row, column)
store.close()
say("finished")
"""
)

HOLDER = (
    SETUP
    + """
store = LabelStore.open(path, write=True)
say("held")
sys.stdin.read()
"""
)

MAKER = (
    SETUP
    + """
for i in range(1000):
    say(i)
    LabelStore.create(f"{path}/{i}.zarr", FakeImage(), LEGEND).close()
"""
)


def expected(row, column, seed):
    """What the writer puts into a chunk: the third row's comes with the second's."""
    if row != 2:
        return [chunk_block(row, column, seed, IMAGE.shape)]
    pair = chunk_block(1, column, seed, IMAGE.shape, 2)
    halves = [x[1024:] for x in (pair.labels, pair.confidence)]
    alone = chunk_block(2, column, seed, IMAGE.shape)
    return [type(alone)(alone.roi, *halves), alone]


def matches(levels, block, data, coarser):
    roi = block.roi
    for k, level in enumerate(levels):
        if k:
            data = coarser(data)
        y, x = roi.y >> k, roi.x >> k
        found = level[y : y + data.shape[0], x : x + data.shape[1]]
        if not np.array_equal(found, data):
            return False
    return True


def check_whole(store):
    """Every chunk decodes; where a run is said to be done, its labels are there."""
    for levels in (store.prediction, store.confidence):
        for level in levels:
            level[:]
    state = store.chunk_status()
    for row, column in np.argwhere(state).tolist():
        assert state[row, column] & 3 == 1
        model = store.runs[(int(state[row, column]) >> 2) - 1].model
        candidates = expected(row, column, 1 if model == RUN.model else 2)
        assert any(
            matches(store.prediction, b, b.labels, coarser_labels)
            and matches(store.confidence, b, b.confidence, coarser_confidence)
            for b in candidates
        ), f"chunk {row}, {column} says {model}, and its labels are others"
    return int(chunk_status.has_status(state, "done").sum())


def test_killed_writer_leaves_chunks_done_or_pending(tmp_path):
    path = tmp_path / "labels.zarr"
    LabelStore.create(path, IMAGE, LEGEND).close()
    random.seed(0)
    for settings in (1, 2):  # the second run replaces the first one's labels
        for blocks in (0, 1, 1):  # that are whole before the kill, of six in all
            with forked_code(WRITER, path, settings) as process:
                for _, line in zip(range(blocks + 1), process.stdout, strict=False):
                    assert line != "finished\n"
                    process.stdin.write("next\n")
                    process.stdin.flush()
                time.sleep(random.random() * 0.04)
                process.kill()
            with LabelStore.open(path, write=True) as store:  # nothing blocks it
                check_whole(store)
                assert not list(path.rglob("*.partial"))
        with forked_code(WRITER, path, settings) as process:
            assert process.communicate("next\n" * 6).endswith("finished\n")
        with LabelStore.open(path) as store:
            assert check_whole(store) == 8
            assert not store.pending(store.runs[-1]).any()
            assert_levels_consistent(store)


def test_killed_create_leaves_complete_store_or_none(tmp_path):
    for seed in range(3):
        folder = tmp_path / str(seed)
        with forked_code(MAKER, folder) as process:
            for line in process.stdout:
                if line.strip() == "3":
                    break
            time.sleep(random.Random(seed).random() * 0.1)
        made = list(folder.glob("[0-9]*.zarr"))
        assert len(made) >= 3
        for path in made:
            LabelStore.open(path, write=True).close()


def test_write_lock_excludes_processes_and_ends_with_owner(tmp_path):
    path = tmp_path / "labels.zarr"
    LabelStore.create(path, IMAGE, LEGEND).close()
    with forked_code(HOLDER, path) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="being written by another"):
            LabelStore.open(path, write=True)
        with LabelStore.open(path) as reader:
            assert reader.legend == LEGEND
        process.kill()
        process.wait()
        LabelStore.open(path, write=True).close()
