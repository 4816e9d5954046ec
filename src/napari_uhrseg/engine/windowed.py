"""Running a plan of windows: a block is done when its windows are.

::

    read-ahead thread              the generator (caller's thread)      writing thread
    -----------------              -------------------------------      --------------
    nearest pending block: which   forward, in slices of the batch
    of its windows show            size; logits into the Mergers of
    something; a batch of views    their blocks; with a block's last
    at a time, filled up from  ->  batch its labels                ->   store -> event
    the next block
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import numpy as np
import torch

from napari_uhrseg.engine.calibrate import release
from napari_uhrseg.engine.device import out_of_memory
from napari_uhrseg.engine.empty import Glass
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Retried,
    SegmentEvent,
)
from napari_uhrseg.engine.grid import Grid
from napari_uhrseg.engine.job import Focus, Job, Work, nearest
from napari_uhrseg.engine.merge import Merger, Mosaic, make_merger, window_weights
from napari_uhrseg.engine.readahead import ReadAhead
from napari_uhrseg.engine.writebehind import WriteBehind
from napari_uhrseg.errors import ReadError
from napari_uhrseg.models.base import Batch, joined
from napari_uhrseg.types import Labels, Mask, Roi

OPEN = 2  # blocks whose logits are held at once: the one being read, one before it


@dataclass(slots=True)
class _Block:
    """A block on its way.

    ``valid``: (h, w) bool, its run pixels that hold image and lie in a window that is
    run; None where all do. ``windows`` are still to be read, ``skipped`` is how many
    need no network.
    """

    roi: Roi
    valid: Mask | None = None
    windows: list[Roi] = field(default_factory=list)
    skipped: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Item:
    """What the read-ahead thread hands over: a batch of windows, each of a block.

    ``ended`` are the blocks whose last window this is; ``batch`` is None where they
    need none.
    """

    windows: tuple[tuple[_Block, Roi], ...] = ()
    batch: Batch | None = None
    ended: tuple[_Block, ...] = ()


class WindowJob(Job):
    """Holds the logits of two blocks at most, and the views of a few batches."""

    def __init__(self, work: Work, grid: Grid) -> None:
        super().__init__(work)
        self.grid = grid
        self.batch_size = work.plan.run.batch_size
        self.weights = window_weights(
            self.run.window, self.run.overlap, self.spec.merge
        )

    def work(self, focus: Focus | None) -> Iterator[SegmentEvent]:
        blocks = self.plan.blocks(self.pending())
        total = sum(self._count(b) for b in blocks)
        seen = done = failed = 0
        mergers: dict[Roi, Merger | Mosaic] = {}
        items = ReadAhead(self._read(blocks, focus), self.plan.sized.ahead)
        with closing(items), closing(WriteBehind[BlockDone]()) as writing:
            for item in items:
                # what was not run is off the clock
                total -= sum(block.skipped for block in item.ended)
                if item.batch is not None:
                    yield from self._forward(item, mergers)
                    seen += len(item.windows)
                    yield self.progress(seen, total)
                for block in item.ended:
                    if block.error:
                        failed += 1
                        mergers.pop(block.roi, None)
                        self.write_failed(block.roi)
                        yield BlockFailed(block.roi, block.error)
                        continue
                    done += 1
                    event = BlockDone(
                        block.roi, done, len(blocks), block.roi not in mergers
                    )
                    # popped here, so that nothing holds the logits any longer
                    write = self._finish(block, mergers.pop(block.roi, None))
                    writing.submit(write, event)
                yield from writing.written(most=1)
            yield from writing.written()
        yield Finished(self.run, done, failed, self.seconds())

    def _count(self, block: Roi) -> int:
        return self.grid.count(self.plan.run_region(block))

    # -- on the read-ahead thread -------------------------------------------

    def _read(self, blocks: list[Roi], focus: Focus | None) -> Iterator[_Item]:
        """The windows of all blocks in full batches; the last one may be short."""
        glass = self.glass()
        waiting = np.ones(len(blocks), bool)
        centers = np.array([b.center for b in blocks]).reshape(-1, 2)
        held: list[_Block] = []  # blocks with windows still to be read
        for _ in blocks:
            index = nearest(centers, waiting, focus() if focus else None)
            waiting[index] = False
            block = self._look(blocks[index], glass)
            if not block.windows:
                yield _Item(ended=(block,))
                continue
            held.append(block)
            size = self.plan.run.batch_size
            while sum(len(b.windows) for b in held) >= size or len(held) >= OPEN:
                yield self._batch(held)
        while held:
            yield self._batch(held)

    def _look(self, roi: Roi, glass: Glass | None) -> _Block:
        """A block, and those of its windows that have something to label."""
        block = _Block(roi)
        if self.outside(roi):
            block.skipped = self._count(roi)
            return block
        region = self.plan.run_region(roi)
        windows = list(self.grid.touching(region))
        try:
            valid = self.valid(region)
            for window in windows:
                here = window.intersect(region).shift(-region.y, -region.x).slices
                there = valid is None or valid[here].any()
                if there and not (glass and glass.only(self.level0(window))):
                    block.windows.append(window)
        except ReadError as error:
            return _Block(roi, skipped=len(windows), error=str(error))
        block.skipped = len(windows) - len(block.windows)
        if block.skipped and block.windows:
            answered = np.zeros((region.height, region.width), bool)
            for window in block.windows:
                here = window.intersect(region).shift(-region.y, -region.x).slices
                answered[here] = True
            valid = answered if valid is None else valid & answered
        block.valid = valid
        return block

    def _batch(self, held: list[_Block]) -> _Item:
        """Read the next windows of the blocks held; lets go of those that end."""
        size = self.plan.run.batch_size
        windows: list[tuple[_Block, Roi]] = []
        parts: list[Batch] = []
        ended: list[_Block] = []
        while held and len(windows) < size:
            block = held[0]
            some = block.windows[: size - len(windows)]
            del block.windows[: len(some)]
            try:
                parts.append(self.views(some))
                windows += [(block, w) for w in some]
            except ReadError as error:
                block.error = str(error)
                block.skipped += len(some) + len(block.windows)
                block.windows = []
            if not block.windows:
                ended.append(held.pop(0))
        return _Item(tuple(windows), joined(parts) if parts else None, tuple(ended))

    # -- on the caller's thread ---------------------------------------------

    def _forward(
        self, item: _Item, mergers: dict[Roi, Merger | Mosaic]
    ) -> Iterator[Retried]:
        """Run the windows of one item, in halves when memory runs out."""
        assert item.batch is not None
        first = 0
        while first < len(item.windows):
            windows = item.windows[first : first + self.batch_size]
            try:
                for block, _ in windows:
                    if block.roi not in mergers:
                        mergers[block.roi] = self._merger(block.roi)
                logits = self.logits(self._slice(item.batch, first, len(windows)))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                yield self._less(error, mergers)
                continue
            at = 0
            for roi, group in groupby(windows, key=lambda pair: pair[0].roi):
                places = [window for _, window in group]
                mergers[roi].add(places, logits[at : at + len(places)])
                at += len(places)
            first += len(windows)

    def _slice(self, batch: Batch, first: int, count: int) -> Batch:
        """Padded to the batch's size: kernels depend on it."""
        size = self.batch_size
        if count == size == len(next(iter(batch.views.values()))):
            return batch
        return batch[torch.arange(size).clamp(max=count - 1) + first]

    def _merger(self, roi: Roi) -> Merger | Mosaic:
        region = self.plan.run_region(roi)
        return make_merger(self.grid, region, len(self.ids), self.weights, self.device)

    def _less(
        self, error: BaseException, mergers: dict[Roi, Merger | Mosaic]
    ) -> Retried:
        """Half the batch; from one window on to the CPU."""
        if self.batch_size > 1:
            self.batch_size //= 2
            release()
            now = f"with batches of {self.batch_size}"
            return self.retried(error, now, self.batch_size)
        retried = self.to_cpu("one window", error)
        for merger in mergers.values():
            merger.to(self.device)
        return retried

    def _finish(
        self, block: _Block, merger: Merger | Mosaic | None
    ) -> Callable[[], None]:
        """The labels of a finished (or empty) block; gives what puts them away."""
        if merger is None:
            return partial(self.write_empty, block.roi)
        with torch.inference_mode():
            labels, confidence = merger.finish()
        return partial(self._keep, block, merger.region, labels, confidence)

    def _keep(
        self, block: _Block, region: Roi, labels: Labels, confidence: Labels
    ) -> None:
        """Put class indices and confidence of a region into the store."""
        labels = self.ids[labels]
        if block.valid is not None:
            labels[~block.valid] = 0
            confidence[~block.valid] = 0
        labels, confidence = (
            self.at_level0(a, block.roi, region) for a in (labels, confidence)
        )
        self.write(block.roi, labels, confidence, "done")
