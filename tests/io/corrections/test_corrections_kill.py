"""Tests with real processes that are killed while they correct."""

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
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Limits, Roi

pytestmark = pytest.mark.slow

IMAGE = FakeImage(shape=(1250, 1060))  # chunks of 1024 pixels, and parts of chunks
LIMITS = Limits(coarsest_level=320)  # three levels
FILL = Roi(10, 20, 1200, 1000)  # six tiles of 512 pixels

SETUP = """
import os, signal, sys, time
import numpy as np
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels import pyramid
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Limits, Roi, Stroke
store = LabelStore.open(sys.argv[1])
painting = Corrections.open(store, limits=Limits(correction_tile=TILE))

def say(*words):
    print(*words, flush=True)

def stroke(number):
    shape = (60, 40)
    mask = np.random.default_rng(number).random(shape) < 0.7
    ids = np.full(shape, 1 + number % 2, np.uint8)
    return Stroke(Roi(31 * (number % 38), 997, *shape), mask, ids)
"""

PAINTER = (
    SETUP.replace("TILE", "2048")
    + """
number = int(sys.argv[2])
while True:
    painting.apply(stroke(number))
    say(number)
    number += 1
"""
)

# dies when so many of a stroke's levels are written
DYING = (
    SETUP.replace("TILE", "2048")
    + """
write, count = pyramid.write_chunks, int(sys.argv[2])
def dying(array, key, data):
    if str(array.store_path).endswith(f"correction/{count}"):
        os.kill(os.getpid(), signal.SIGKILL)
    write(array, key, data)
painting.apply(stroke(0))
pyramid.write_chunks = dying
if sys.argv[3] == "undo":
    painting.undo()
painting.apply(stroke(1))
"""
)

FILLER = (
    SETUP.replace("TILE", "512")
    + """
for share in painting.fill(Roi(10, 20, 1200, 1000), 2):
    say(share)
    if share > 0.6:
        sys.stdin.read()  # wait to be killed
"""
)

UNDOER = (
    SETUP.replace("TILE", "512")
    + """
for share in painting.fill(Roi(10, 20, 1200, 1000), 2):
    pass
for share in painting.undo_or_redo("undo"):
    say(share)
"""
)

HOLDER = SETUP.replace("TILE", "2048") + "say('held')\nsys.stdin.read()\n"

RUNNER = """
import sys
from helpers.label_stores import RUN, chunk_block
from napari_uhrseg.io.labels.store import LabelStore
store = LabelStore.open(sys.argv[1], write=True)
run = store.run_ledger.start_run(RUN)
print("running", flush=True)
for seed in range(1000):
    block = chunk_block(0, 0, seed, store.shape)
    store.write(block, run.id, "done")
    if sys.stdin.readable() and seed == 12:
        print("enough", flush=True)
        sys.stdin.read()
        break
"""


@pytest.fixture
def path(tmp_path):
    LabelStore.create(tmp_path / "labels.zarr", IMAGE, LEGEND, LIMITS).close()
    return tmp_path / "labels.zarr"


def strokes(count):
    """What the painter's strokes leave."""
    wanted = np.zeros(IMAGE.shape, np.uint8)
    for number in range(count):
        mask = np.random.default_rng(number).random((60, 40)) < 0.7
        y = 31 * (number % 38)
        wanted[y : y + 60, 997:1037][mask] = 1 + number % 2
    return wanted


def count_of(labels):
    return {i: int(n) for i, n in enumerate(np.bincount(labels.ravel())) if i and n}


def test_reported_stroke_survives_kill(path):
    said = 0
    for attempt in range(3):
        with forked_code(PAINTER, path, said) as process:
            for line in process.stdout:
                said = int(line) + 1
                if said % 9 == 8:
                    time.sleep(0.013 * attempt)
                    break
            process.kill()
            said = max([said, *(int(n) + 1 for n in process.stdout.read().split())])
        with LabelStore.open(path) as store, Corrections.open(store) as painting:
            found = store.correction[0][:]
            # the one it was at may be there, whole, or not
            known = next(n for n in (said, said + 1) if (found == strokes(n)).all())
            assert_levels_consistent(store)
            assert len(store.correction) == 3
            assert painting.counts() == count_of(found)
            for number in range(known - 1, max(said - 3, 0) - 1, -1):  # across sessions
                assert painting.undo() is not None
                np.testing.assert_array_equal(store.correction[0][:], strokes(number))
                said = number
            assert_levels_consistent(store)
    assert said > 0


@pytest.mark.parametrize("what", ["stroke", "undo"])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_kill_between_journal_and_arrays_is_recovered(path, levels, what):
    with forked_code(DYING, path, levels, what) as process:
        process.wait(60)
    with LabelStore.open(path) as store:
        with Corrections.open(store) as painting:
            wanted = strokes(2 if what == "stroke" else 0)
            np.testing.assert_array_equal(store.correction[0][:], wanted)
            assert_levels_consistent(store)
            assert painting.counts() == count_of(wanted)
            assert painting.can_redo == (what == "undo")
            if what == "stroke":
                painting.undo()
            else:
                painting.redo()
            np.testing.assert_array_equal(store.correction[0][:], strokes(1))
        assert_levels_consistent(store)


def test_killed_fill_is_one_step_of_complete_tiles(path):
    with forked_code(FILLER, path) as process:
        assert float(process.stdout.readline()) < 0.2
        assert float(process.stdout.readline()) < 0.4
        time.sleep(0.05)
        process.kill()
    with LabelStore.open(path) as store, Corrections.open(store) as painting:
        found = store.correction[0][:]
        whole = np.zeros_like(found)
        whole[FILL.slices] = 2
        parts = [p.slices for p in FILL.tiles(512)]
        done = [bool(found[p].any()) for p in parts]
        assert sum(done) >= 2
        assert not all(done)
        for part, there in zip(parts, done, strict=True):
            np.testing.assert_array_equal(found[part], whole[part] if there else 0)
        assert_levels_consistent(store)
        assert painting.counts() == count_of(found)
        painting.undo()
        assert not painting.can_undo
        assert not store.correction[0][:].any()
        assert_levels_consistent(store)


def test_killed_undo_is_completed_on_opening(path):
    with forked_code(UNDOER, path) as process:
        assert float(process.stdout.readline()) < 0.2
        process.kill()
    with LabelStore.open(path) as store, Corrections.open(store) as painting:
        assert not store.correction[0][:].any()
        assert_levels_consistent(store)
        assert painting.counts() == {}
        painting.redo()
        assert painting.counts() == {2: FILL.area}


def test_kill_releases_lock_of_corrections(path):
    with LabelStore.open(path) as store, forked_code(HOLDER, path) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=r"Corrections of .* another window"):
            Corrections.open(store)
        assert Corrections.open(store, write=False).counts() == {}
        process.kill()
        process.wait()
        Corrections.open(store).close()


def test_corrections_during_run_of_another_process(path):
    with (
        forked_code(RUNNER, path) as process,
        LabelStore.open(path) as store,
        Corrections.open(store) as painting,
    ):
        assert process.stdout.readline() == "running\n"
        list(painting.fill(Roi(0, 0, 500, 1024), 2))
        for number in range(5):
            list(painting.fill(Roi(100 * number, 300, 50, 50), 1))
        assert process.stdout.readline() == "enough\n"
        wanted = np.full((500, 1024), 2, np.uint8)
        for number in range(5):
            wanted[100 * number : 100 * number + 50, 300:350] = 1
        np.testing.assert_array_equal(store.read_labels(Roi(0, 0, 500, 1024)), wanted)
        process.communicate("")
        assert process.returncode == 0
        last = chunk_block(0, 0, 12, IMAGE.shape).labels
        np.testing.assert_array_equal(
            store.read_labels(Roi(500, 0, 524, 1024)), last[500:]
        )
        assert_levels_consistent(LabelStore.open(path))
        assert LabelStore.open(path).runs[0].model == RUN.model
