"""Cells are finished when the frames that label them have run, in any order."""

import itertools

import pytest

from helpers.networks import FrameNet
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.engine.tiling.frame_schedule import FrameSchedule

CELLS = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.fixture
def grid():
    """2 x 2 frames; each labels its cell and the seams of those after it."""
    spec = FrameNet().spec
    return FrameGrid.make((2100, 2100), (2100, 2100), 1.0, 1088, 64, spec)


def run(schedule, borders, frame):
    """Run a frame; return the cells that it completes."""
    borders[frame] = None
    schedule.set_ran(frame)
    return list(schedule.complete_cells(frame))


@pytest.mark.parametrize("order", list(itertools.permutations(CELLS)))
def test_schedule_completes_each_cell_after_its_frames(grid, order):
    borders = {}
    schedule = FrameSchedule(grid, CELLS, borders)
    assert schedule.frames == CELLS
    ran, finished = set(), []
    for frame in order:
        ran.add(frame)
        for cell, error in run(schedule, borders, frame):
            assert not error
            assert set(grid.frames_of(cell)) <= ran
            assert schedule.is_open(cell)
            finished.append(cell)
            schedule.close(cell)
            assert not schedule.is_open(cell)
        needed = {f for c in CELLS if c not in finished for f in grid.frames_of(c)}
        assert set(borders) == ran & needed  # no longer than a cell needs them
    assert sorted(finished) == CELLS
    assert not schedule.failed


def test_schedule_fails_cells_of_failed_frame(grid):
    borders = {}
    schedule = FrameSchedule(grid, CELLS, borders)
    schedule.set_failed((0, 1), "torn page")
    assert list(schedule.complete_cells((0, 1))) == []  # another frame is missing
    found = [run(schedule, borders, f) for f in ((0, 0), (1, 0), (1, 1))]
    assert found == [
        [((0, 0), ""), ((0, 1), "torn page")],
        [((1, 0), "")],
        [((1, 1), "torn page")],
    ]
    assert schedule.failed
    assert not schedule.is_open((0, 1))


def test_schedule_continues_with_stored_borders(grid):
    borders = dict.fromkeys([(0, 0), (0, 1), (1, 0)])
    schedule = FrameSchedule(grid, [(0, 1), (1, 1)], borders)
    assert schedule.frames == [(1, 1)]
    assert list(schedule.complete_cells()) == [((0, 1), "")]
    schedule.close((0, 1))
    assert set(borders) == {(0, 0), (0, 1), (1, 0)}  # the last cell needs them
    assert list(schedule.complete_cells()) == []
    assert run(schedule, borders, (1, 1)) == [((1, 1), "")]
    schedule.close((1, 1))
    assert not borders
