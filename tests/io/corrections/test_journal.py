"""Tests of the journal: its bounds, full disks and damage."""

import os
from unittest.mock import patch

import numpy as np
import pytest

from helpers.label_stores import LEGEND, FakeImage, assert_levels_consistent
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Limits, Roi, Stroke

IMAGE = FakeImage(shape=(1100, 1100))
LIMITS = Limits(coarsest_level=600)  # two levels


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "labels.zarr"
    with LabelStore.create(path, IMAGE, LEGEND, LIMITS) as made:
        yield made


def noise(seed, side=60):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 3, (side, side), np.uint8)
    y, x = rng.integers(0, 1040, 2).tolist()
    return Stroke(Roi(y, x, side, side), np.ones((side, side), bool), ids)


def size_of(store):
    return sum(f.stat().st_size for f in store.path.glob(".corrections/*.log"))


@pytest.mark.slow
def test_full_journal_removes_oldest_steps(store):
    limits = Limits(
        journal_bytes=30_000, journal_segment_bytes=5_000, snapshot_interval=4
    )
    states = [store.correction[0][:]]
    with Corrections.open(store, limits=limits) as corrections:
        for seed in range(44):
            corrections.apply(noise(seed))
            states.append(store.correction[0][:])
            assert size_of(store) < 45_000
        counts = corrections.counts()
    with Corrections.open(
        store, limits=limits
    ) as corrections:  # and so it is read again
        assert corrections.counts() == counts
        undone = 0
        while corrections.undo() is not None:
            undone += 1
            np.testing.assert_array_equal(store.correction[0][:], states[44 - undone])
        assert 5 < undone < 40
        assert_levels_consistent(store)
        while corrections.redo() is not None:
            undone -= 1
        assert undone == 0
        np.testing.assert_array_equal(store.correction[0][:], states[44])


@pytest.mark.slow
def test_journal_keeps_last_step_of_any_size(store):
    limits = Limits(
        journal_bytes=10_000,
        journal_segment_bytes=5_000,
        snapshot_interval=2,
        correction_tile=256,
    )
    with Corrections.open(store, limits=limits) as corrections:
        for seed in range(8):
            corrections.apply(noise(seed))
        before = store.correction[0][:]
        rng = np.random.default_rng(0)
        ids = rng.integers(0, 3, (1000, 1000), np.uint8)
        corrections.apply(Stroke(Roi(0, 0, 1000, 1000), ids > 0, ids))
        assert size_of(store) > 100_000
        corrections.undo()
        np.testing.assert_array_equal(store.correction[0][:], before)


def test_full_disk_before_journal_changes_nothing(store):
    with Corrections.open(store) as corrections:
        corrections.apply(noise(1))
        before, counts = store.correction[0][:], corrections.counts()

        def full(handle):
            raise OSError(28, "No space left on device")

        message = r"No space left on device.*This change was not kept"
        with patch.object(os, "fsync", full), pytest.raises(StoreError, match=message):
            corrections.apply(noise(2))
        np.testing.assert_array_equal(store.correction[0][:], before)
        assert corrections.counts() == counts
        corrections.apply(noise(3))
        after = store.correction[0][:]
    with Corrections.open(store) as corrections:
        np.testing.assert_array_equal(store.correction[0][:], after)
        corrections.undo()
        np.testing.assert_array_equal(store.correction[0][:], before)
        corrections.undo()
        assert not corrections.can_undo


@pytest.mark.parametrize("keep", [0, 7, 60, 200])
def test_truncated_record_is_ignored(store, keep):
    with Corrections.open(store) as corrections:
        corrections.apply(noise(1))
        before = store.correction[0][:]
        corrections.apply(noise(2))
        after = store.correction[0][:]
    (log,) = store.path.glob(".corrections/*.log")
    whole = log.read_bytes()
    with log.open("ab") as file:  # what a kill leaves of a third stroke
        file.write(whole[: keep + 1])
    with Corrections.open(store) as corrections:
        np.testing.assert_array_equal(store.correction[0][:], after)
        assert log.read_bytes()[: len(whole)] == whole
        corrections.apply(noise(3))
        corrections.undo()
        corrections.undo()
        np.testing.assert_array_equal(store.correction[0][:], before)


@pytest.mark.slow
def test_damaged_journal_loses_only_history(store):
    limits = Limits(journal_segment_bytes=1_500)
    with Corrections.open(store, limits=limits) as corrections:
        for seed in range(12):
            corrections.apply(noise(seed))
        after, counts = store.correction[0][:], corrections.counts()
    logs = sorted(store.path.glob(".corrections/*.log"))
    assert len(logs) > 3
    data = bytearray(logs[1].read_bytes())
    data[100] ^= 255
    logs[1].write_bytes(data)
    with Corrections.open(store) as corrections:
        np.testing.assert_array_equal(store.correction[0][:], after)
        assert corrections.counts() == counts
        undone = sum(1 for _ in iter(corrections.undo, None))
        assert 0 < undone < 12
        assert_levels_consistent(store)
        corrections.apply(noise(50))
        assert corrections.can_undo
