"""Windows across the borders of blocks run once, and labels are as if they had not."""

from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from helpers.networks import LEGEND, ToyNet, make_checkpoint
from helpers.segmentation import SETTINGS, begin_run
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Planned,
    Progress,
    RetriedWithLess,
)
from napari_uhrseg.engine.inference.nearest_first import ranks
from napari_uhrseg.engine.inference.segment import make_runner
from napari_uhrseg.engine.inference.window_cache import SharedWindowCache
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Limits, Roi

OVERLAPPING = replace(SETTINGS, overlap=64)
ROOM = 10**6
WAITING = [ROOM]  # windows that may wait, in the next run


class Exact(ToyNet):
    """The same bits whatever the batch; counts windows, runs short at some calls."""

    def __init__(self, short: tuple[int, ...] = ()) -> None:
        super().__init__(256)
        self.calls, self.short = 0, short

    def forward(self, batch):
        views = batch.views["local"]
        if not views.is_meta and (views != 0).any():
            self.calls += 1
            if self.calls in self.short:
                raise torch.OutOfMemoryError("fake device: out of memory")
        return {"logits": views - views.flip(1) / 2}


@pytest.fixture
def room():
    """Sets how many windows may be kept."""
    WAITING[:] = [ROOM]
    return lambda windows: WAITING.__setitem__(0, windows)


def run(image, model=None, change=None, store=None, blocks=None, viewport=None):
    """Segment, or only until so many blocks are done; the store and the events."""
    store = store or LabelStore.create(None, image, LEGEND)
    limits = Limits(block_chunks=1, waiting_windows=WAITING[0])
    chosen = replace(OVERLAPPING, limits=limits, **change or {})
    context = begin_run(image, make_checkpoint(model or Exact()), store, chosen)
    runner = make_runner(context)
    seen = [Planned(context.plan)]
    with closing(runner.events(viewport)) as events:
        for event in events:
            seen.append(event)
            assert runner.assembler.kept <= WAITING[0]
            if isinstance(event, BlockDone) and event.done == blocks:
                break
    ran = [e for e in seen if isinstance(e, Progress)]
    assert all(a.done <= b.done for a, b in pairwise(ran))
    assert all(e.done <= e.total for e in ran)
    return store, seen


def run_windows(events) -> int:
    assert isinstance(events[-1], Finished)
    return [e for e in events if isinstance(e, Progress)][-1].done


def same(one: LabelStore, other: LabelStore) -> None:
    np.testing.assert_array_equal(one.prediction[0][:], other.prediction[0][:])
    np.testing.assert_array_equal(one.confidence[0][:], other.confidence[0][:])


@pytest.mark.slow
def test_window_cache_runs_each_window_once(picture, room):
    image, model = picture(1200, 2100), Exact()
    kept, events = run(image, model)
    plan, last = events[0].plan, [e for e in events if isinstance(e, Progress)][-1]
    assert last.done == last.total
    assert isinstance(events[0], Planned)
    assert run_windows(events) == plan.windows == len(plan.grid)
    assert plan.computed_twice == 0
    assert model.calls - 1 <= len(plan.grid) / 4 + 3  # hardly a batch is not full
    room(0)
    without, events = run(image)
    plan = events[0].plan
    assert run_windows(events) == plan.windows == plan.at_most > 1.2 * len(plan.grid)
    same(kept, without)


@pytest.mark.slow
def test_window_cache_without_overlap(picture, room):
    image = picture(1200, 2100)
    scaled = {"overlap": 0, "scale": 1.7}
    kept, events = run(image, change=scaled)
    assert run_windows(events) == len(events[0].plan.grid) < events[0].plan.at_most
    room(0)
    without, _ = run(image, change=scaled)
    same(kept, without)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))  # without and with a viewport
def test_window_cache_does_not_change_labels(picture, room, seed):
    random = np.random.default_rng(seed)
    image = picture(1100, 1150, seed)
    change = {"overlap": int(random.integers(0, 200)), "batch_size": seed + 2}

    def focus():  # the user pans
        y, x = random.integers(0, 1100, 2)
        return Roi(int(y), int(x), 10, 10) if seed else None

    room(0)
    without, at_most = run(image, change=change)
    room(int(random.integers(1, 40)))
    stopped, _ = run(image, change=change, viewport=focus, blocks=3)
    kept, events = run(image, change=change, viewport=focus, store=stopped)
    same(kept, without)
    whole, events = run(image, change=change, viewport=focus)
    same(whole, without)
    assert len(events[0].plan.grid) <= run_windows(events) < run_windows(at_most)


class FailingCopy(TorchFunctionMode):
    """Runs out of memory once, at a copy of the logits of one window."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.copies = at, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to and (kwargs or {}).get("copy"):
            self.copies += 1
            if self.copies == self.at:
                raise torch.OutOfMemoryError("fake device: out of memory")
        return function(*args, **(kwargs or {}))


@pytest.mark.slow
def test_window_cache_survives_out_of_memory(picture, room):
    image = picture(1200, 2100)
    whole, _ = run(image)
    # the first call measures; the copy is in the midst of a batch
    with FailingCopy(at=10) as copies:
        store, events = run(image, Exact(short=(17,)))
    assert copies.copies > copies.at
    retried = [e.batch_size for e in events if isinstance(e, RetriedWithLess)]
    assert retried == [2, 1]
    assert run_windows(events) == len(events[0].plan.grid)
    same(store, whole)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [(1010, 1010), (1300, 1300)])
def test_window_cache_survives_unreadable_blocks(picture, room, monkeypatch, broken):
    image = picture(1400, 2100)
    read = type(image).read

    def fragile(self, roi, size=None, bands=None):
        if roi.contains(Roi(*broken, 1, 1)):
            raise ReadError("tile 7 is damaged")
        return read(self, roi, size, bands)

    monkeypatch.setattr(type(image), "read", fragile)
    kept, events = run(image)
    room(0)
    without, other = run(image)
    failed, before = (
        {e.roi for e in seen if isinstance(e, BlockFailed)} for seen in (events, other)
    )
    assert failed == before != set()
    same(kept, without)
    for roi in failed:  # what was shown of it is taken back
        assert not kept.prediction[0][roi.slices].any()


@pytest.mark.slow
def test_window_cache_skips_background_and_nodata(room):
    slide = np.full((1900, 2000, 3), (240, 238, 242), np.uint8)
    slide[700:1300, 200:1900] = (180, 90, 160)
    slide[700:1300:3, 200:1900:5] = (120, 60, 130)
    slide[1100:1700, 800:1200] = 0
    image = image_from_array(slide, name="slide", rgb=True, is_slide=True, nodata=0)
    kept, events = run(image)
    room(0)
    without, other = run(image)
    same(kept, without)
    assert 0 < run_windows(events) < run_windows(other)


@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    window=st.integers(2, 70),
    overlap=st.floats(0, 0.9),
    side=st.integers(20, 90),
    room=st.integers(0, 30),
    random=st.randoms(use_true_random=False),
)
def test_window_cache_keeps_needed_windows_within_room(
    shape, window, overlap, side, room, random
):
    grid = WindowGrid.make(shape, window, int(overlap * window), "even")
    blocks = list(Roi(0, 0, *shape).tiles(side))
    borders = SharedWindowCache(blocks, room)
    waiting, held, kept, ran = set(range(len(blocks))), [], set(), 0
    centers = np.array([b.center for b in blocks])
    while waiting or held:
        # up to two blocks are begun before the windows of the first are gone through
        if waiting and len(held) < 2:
            view = Roi(random.randrange(300), random.randrange(300), 1, 1)
            rank = ranks(centers, random.choice([view, None]))
            block = min(waiting, key=lambda b: rank[b])
            waiting.remove(block)
            borders.begin(block, blocks[block].grow(window), rank)
            held.append(block)
            if random.random() < 0.1:  # nothing to label there
                kept.difference_update(borders.leave(held.pop()))
            continue
        block = held.pop(0)
        for place in grid.touching(blocks[block]):
            if place in borders:
                assert place in kept
                continue
            ran += 1
            keep, instead = borders.keep(place, block)
            kept.discard(instead)
            if keep:
                kept.add(place)
            assert len(kept) <= room
        kept.difference_update(borders.leave(block))
    assert not kept
    assert ran <= sum(grid.count(b) for b in blocks)
    if room == 30 > len(grid):
        assert ran <= len(grid)
