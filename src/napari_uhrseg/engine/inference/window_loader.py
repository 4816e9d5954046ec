"""What a run of windows reads: blocks in their order, as full batches of views."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.inference.background_mask import BackgroundMask
from napari_uhrseg.engine.inference.runner import Runner, nearest, ranks
from napari_uhrseg.engine.inference.window_cache import SharedWindowCache
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import ReadError
from napari_uhrseg.models.base import Batch, concatenate_batches
from napari_uhrseg.types import OPEN_BLOCKS, Block, Mask, Roi


@dataclass(slots=True)
class BlockState:
    """A block on its way.

    ``valid``: (h, w) bool, its run pixels that hold image and lie in a window that is
    run; None where all do. ``windows`` are still to be read, ``labelled`` have an
    answer, ``skipped`` is how many need no network. ``before`` is what the store held,
    once a part was shown.
    """

    roi: Roi
    index: int
    valid: Mask | None = None
    windows: deque[Roi] = field(default_factory=deque)
    labelled: list[Roi] = field(default_factory=list)
    skipped: int = 0
    error: str = ""
    before: Block | None = None


@dataclass(frozen=True, slots=True)
class WindowTask:
    """A window of a block: ``kept`` from another block, or run for this one.

    ``keep``: other blocks will need it; ``instead`` of that one, which goes.
    """

    block: BlockState
    window: Roi
    kept: bool = False
    keep: bool = False
    instead: Roi | None = None


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """What the read-ahead thread hands over: windows in order, of one or two blocks.

    ``batch`` holds those that are to be run, None where there are none; ``ended`` are
    the blocks that have no windows after these, ``gone`` the kept windows that no
    block waits for any longer.
    """

    steps: tuple[WindowTask, ...] = ()
    batch: Batch | None = None
    ended: tuple[BlockState, ...] = ()
    gone: tuple[Roi, ...] = ()


class WindowLoader:
    """The windows of a job's blocks, those in focus first; for one thread.

    Holds a batch of views, and for ``OPEN_BLOCKS`` blocks which of their pixels are
    image.
    """

    def __init__(self, job: Runner, grid: WindowGrid, blocks: Sequence[Roi]) -> None:
        self._job, self._grid, self._blocks = job, grid, blocks
        self._regions = [job.plan.run_region(b) for b in blocks]
        self._borders = SharedWindowCache(self._regions, job.plan.sized.kept)

    def count(self, block: Roi) -> int:
        """Windows of a block, those included that will not be run."""
        return self._grid.count(self._job.plan.run_region(block))

    def items(self, viewport: Viewport | None) -> Iterator[WindowBatch]:
        """The windows of all blocks in full batches; the last one may be short."""
        background, borders = self._job.background(), self._borders
        waiting = np.ones(len(self._blocks), bool)
        centers = np.array([b.center for b in self._blocks]).reshape(-1, 2)
        held: list[BlockState] = []  # blocks with windows still to be read
        for _ in self._blocks:
            view = viewport() if viewport else None
            index = nearest(centers, waiting, view)
            waiting[index] = False
            reach = self._regions[index].grow(self._job.run.window - 1)
            borders.begin(index, reach, ranks(centers, view))
            block = self._look(self._blocks[index], index, background)
            if not block.windows:
                yield WindowBatch(ended=(block,), gone=borders.leave(index))
                continue
            held.append(block)
            while len(held) >= OPEN_BLOCKS or self._full(held):
                yield self._batch(held)
        while held:
            yield self._batch(held)

    def _full(self, held: list[BlockState]) -> bool:
        """Whether the blocks held have enough windows for a batch."""
        windows = [w for block in held for w in block.windows]
        return self._borders.to_run(windows) >= self._job.plan.run.batch_size

    def _look(
        self, roi: Roi, index: int, background: BackgroundMask | None
    ) -> BlockState:
        """A block, and those of its windows that have something to label."""
        block = BlockState(roi, index)
        if self._job.outside(roi):
            block.skipped = self.count(roi)
            return block
        region = self._regions[index]
        windows = list(self._grid.touching(region))
        try:
            valid = self._job.valid(region)
            for window in windows:
                here = window.intersect(region).shift(-region.y, -region.x).slices
                there = valid is None or valid[here].any()
                if there and not (
                    background and background.is_background(self._job.level0(window))
                ):
                    block.windows.append(window)
        except ReadError as error:
            return BlockState(roi, index, skipped=len(windows), error=str(error))
        block.skipped = len(windows) - len(block.windows)
        if block.skipped and block.windows:
            answered = covered(region, block.windows)
            valid = answered if valid is None else valid & answered
        block.valid = valid
        return block

    def _batch(self, held: list[BlockState]) -> WindowBatch:
        """Read the next windows of the blocks held; lets go of those that end."""
        room = self._job.plan.run.batch_size
        steps: list[WindowTask] = []
        parts: list[Batch] = []
        ended: list[BlockState] = []
        while held and room:
            block = held[0]
            run: list[Roi] = []
            some: list[Roi] = []
            while block.windows:
                if block.windows[0] not in self._borders:
                    if len(run) == room:
                        break
                    run.append(block.windows[0])
                some.append(block.windows.popleft())
            try:
                if run:
                    parts.append(self._job.views(run))
                steps += [self._step(block, w) for w in some]
                room -= len(run)
            except ReadError as error:
                block.error = str(error)
                block.skipped += len(some) + len(block.windows)
                block.windows.clear()
            if not block.windows:
                ended.append(held.pop(0))
        gone = tuple(w for block in ended for w in self._borders.leave(block.index))
        batch = concatenate_batches(parts) if parts else None
        return WindowBatch(tuple(steps), batch, tuple(ended), gone)

    def _step(self, block: BlockState, window: Roi) -> WindowTask:
        if window in self._borders:
            return WindowTask(block, window, kept=True)
        keep, instead = self._borders.keep(window, block.index)
        return WindowTask(block, window, keep=keep, instead=instead)


def covered(region: Roi, windows: Iterable[Roi]) -> Mask:
    """(h, w) bool: the pixels of a region that lie in one of the windows."""
    found = np.zeros((region.height, region.width), bool)
    for window in windows:
        here = window.intersect(region).shift(-region.y, -region.x).slices
        found[here] = True
    return found
