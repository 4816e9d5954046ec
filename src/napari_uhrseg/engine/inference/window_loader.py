"""Loader of windows: blocks in their order, as full batches of views."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np

from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.inference.background_mask import BackgroundMask
from napari_uhrseg.engine.inference.nearest_first import NearestFirst
from napari_uhrseg.engine.inference.runner import Runner
from napari_uhrseg.engine.inference.window_cache import SharedWindowCache
from napari_uhrseg.engine.network.pixel_batch import PixelBatch, concatenate_batches
from napari_uhrseg.engine.planning.tissue_windows import touched_windows
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import ReadError
from napari_uhrseg.types import OPEN_BLOCKS, Block, BoolMask, Roi


@dataclass(slots=True)
class BlockState:
    """State of a block that is being computed.

    Attributes
    ----------
    roi
        The block in level-0 pixels.
    index
        Its number among the blocks of the run.
    valid
        (h, w) bool: run pixels that have data and lie in a window that runs. None if
        all do.
    windows
        Windows that are not read yet.
    labelled
        Windows whose logits have been added.
    skipped
        Number of windows that need no network.
    error
        Reason why the block could not be read; empty if it was read.
    before
        Content of the store before the first preview of the block.
    """

    roi: Roi
    index: int
    valid: BoolMask | None = None
    windows: deque[Roi] = field(default_factory=deque)
    labelled: list[Roi] = field(default_factory=list)
    skipped: int = 0
    error: str = ""
    before: Block | None = None


@dataclass(frozen=True, slots=True)
class WindowTask:
    """Task for a window of a block.

    Attributes
    ----------
    block
        The block that the window is for.
    window
        The window in run pixels.
    kept
        True if the logits were kept from another block. Otherwise the window runs.
    keep
        True if the logits are kept for other blocks.
    instead
        The kept window whose logits are removed to make room.
    """

    block: BlockState
    window: Roi
    kept: bool = False
    keep: bool = False
    instead: Roi | None = None


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows in order, of one or more blocks, with the views of those that run.

    Attributes
    ----------
    tasks
        The windows.
    batch
        Views of the windows that run. None if there are none.
    ended
        Blocks that have no windows after these.
    gone
        Kept windows that no block needs any more.
    """

    tasks: tuple[WindowTask, ...] = ()
    batch: PixelBatch | None = None
    ended: tuple[BlockState, ...] = ()
    gone: tuple[Roi, ...] = ()


class WindowLoader:
    """Loader of the windows of a run's blocks, the nearest to the viewport first.

    For one thread. Memory is that of a batch of views, and of a mask for each of
    ``OPEN_BLOCKS`` blocks.

    Parameters
    ----------
    runner
        The run, which reads the image.
    grid
        The windows of the whole image.
    blocks
        Level-0 rectangles to be labelled.
    """

    def __init__(self, runner: Runner, grid: WindowGrid, blocks: Sequence[Roi]) -> None:
        self._runner, self._grid, self._blocks = runner, grid, blocks
        self._regions = [runner.plan.run_region(b) for b in blocks]
        self._shared = SharedWindowCache(self._regions, runner.plan.sized.kept)

    def count(self, block: Roi) -> int:
        """Return the number of windows of a block, skipped ones included.

        Windows without tissue do not count.
        """
        return self._runner.plan.count(block)

    def _windows(self, region: Roi) -> list[Roi]:
        """Return the windows that label tissue in run pixels."""
        windows, runner = list(self._grid.touching(region)), self._runner
        if runner.tissue is None:
            return windows
        there = touched_windows(self._grid, region, runner.run.scale, runner.tissue)
        return list(compress(windows, there.ravel()))

    def batches(self, viewport: Viewport | None) -> Iterator[WindowBatch]:
        """Yield the windows of all blocks in full batches; the last may be smaller."""
        shared = self._shared
        order = NearestFirst(self._blocks, viewport)
        opened: list[BlockState] = []  # blocks whose windows are not all read
        while order:
            index = order.next()
            reach = self._regions[index].grow(self._runner.run.window - 1)
            shared.begin(index, reach, order.ranks)
            block = self._find_windows(self._blocks[index], index)
            if not block.windows:
                yield WindowBatch(ended=(block,), gone=shared.leave(index))
                continue
            opened.append(block)
            while len(opened) >= OPEN_BLOCKS or self._fill_batch(opened):
                yield self._read(opened)
        while opened:
            yield self._read(opened)

    def _fill_batch(self, opened: list[BlockState]) -> bool:
        """Return whether blocks have enough windows for a batch."""
        windows = [w for block in opened for w in block.windows]
        return self._shared.to_run(windows) >= self._runner.plan.run.batch_size

    def _find_windows(self, roi: Roi, index: int) -> BlockState:
        """Return a block with those of its windows that show data to be labelled."""
        block = BlockState(roi, index)
        if self._runner.outside(roi):
            block.skipped = self.count(roi)
            return block
        region, background = self._regions[index], self._runner.background
        windows = self._windows(region)
        try:
            valid = self._runner.valid(region)
            for window in windows:
                here = window.intersect(region).shift(-region.y, -region.x).slices
                there = valid is None or valid[here].any()
                if there and not self._is_background(window, background):
                    block.windows.append(window)
        except ReadError as error:
            return BlockState(roi, index, skipped=len(windows), error=str(error))
        block.skipped = len(windows) - len(block.windows)
        if block.windows and len(block.windows) < self._grid.count(region):
            seen = covered(region, block.windows)
            valid = seen if valid is None else valid & seen
        block.valid = valid
        return block

    def _is_background(self, window: Roi, background: BackgroundMask | None) -> bool:
        if background is None:
            return False
        return background.is_background(self._runner.level0(window))

    def _read(self, opened: list[BlockState]) -> WindowBatch:
        """Read the next windows; remove the blocks that end from the list."""
        room = self._runner.plan.run.batch_size
        tasks: list[WindowTask] = []
        parts: list[PixelBatch] = []
        ended: list[BlockState] = []
        while opened and room:
            block = opened[0]
            run, some = self._next_windows(block, room)
            try:
                if run:
                    parts.append(self._runner.views(run))
                tasks += [self._task(block, w) for w in some]
                room -= len(run)
            except ReadError as error:
                block.error = str(error)
                block.skipped += len(some) + len(block.windows)
                block.windows.clear()
            if not block.windows:
                ended.append(opened.pop(0))
        gone = tuple(w for block in ended for w in self._shared.leave(block.index))
        batch = concatenate_batches(parts) if parts else None
        return WindowBatch(tuple(tasks), batch, tuple(ended), gone)

    def _next_windows(
        self, block: BlockState, room: int
    ) -> tuple[list[Roi], list[Roi]]:
        """Take windows off a block: those that run, at most ``room``, and all."""
        run: list[Roi] = []
        some: list[Roi] = []
        while block.windows:
            if block.windows[0] not in self._shared:
                if len(run) == room:
                    break
                run.append(block.windows[0])
            some.append(block.windows.popleft())
        return run, some

    def _task(self, block: BlockState, window: Roi) -> WindowTask:
        if window in self._shared:
            return WindowTask(block, window, kept=True)
        keep, instead = self._shared.keep(window, block.index)
        return WindowTask(block, window, keep=keep, instead=instead)


def covered(region: Roi, windows: Iterable[Roi]) -> BoolMask:
    """Return the pixels of a region that lie in one of the windows, (h, w) bool."""
    found = np.zeros((region.height, region.width), bool)
    for window in windows:
        here = window.intersect(region).shift(-region.y, -region.x).slices
        found[here] = True
    return found
