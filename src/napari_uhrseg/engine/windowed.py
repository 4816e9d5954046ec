"""Running a plan of windows: a block is done when its windows are.

::

    read-ahead thread                      the generator (caller's thread)
    -----------------                      -------------------------------
    nearest pending block        ->        forward, in slices of the batch size
    empty? else its windows,               logits into the block's Merger
    a batch of views at a time             last batch: labels -> store -> event
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

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
from napari_uhrseg.engine.merge import Merger, window_weights
from napari_uhrseg.engine.readahead import ReadAhead
from napari_uhrseg.errors import DeviceError, ReadError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import Mask, Roi


@dataclass(frozen=True, slots=True)
class _Item:
    """What the read-ahead thread hands over: some windows of one block.

    ``valid``: (h, w) bool, run pixels of the block that hold image. ``batch`` is
    None where nothing is to be run; ``last`` closes the block.
    """

    roi: Roi
    valid: Mask | None = None
    windows: tuple[Roi, ...] = ()
    batch: Batch | None = None
    last: bool = True
    error: str = ""


class WindowJob(Job):
    """Holds the logits of one block, and the views of a few batches."""

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
        merger: Merger | None = None
        ahead = ReadAhead(self._read(blocks, focus))
        with closing(ahead):
            for item in ahead:
                if item.batch is not None:
                    if merger is None:
                        merger = self._merger(item.roi)
                    yield from self._forward(item, merger)
                    seen += len(item.windows)
                    yield self.progress(seen, total)
                if not item.last:
                    continue
                if item.error:
                    failed += 1
                    self.write_failed(item.roi)
                    yield BlockFailed(item.roi, item.error)
                else:
                    done += 1
                    self._finish(item, merger)
                    yield BlockDone(item.roi, done, len(blocks), empty=merger is None)
                if item.batch is None:  # what was not run is off the clock
                    total -= self._count(item.roi)
                merger = None
        yield Finished(self.run, done, failed, self.seconds())

    def _count(self, block: Roi) -> int:
        return self.grid.count(self.plan.run_region(block))

    # -- on the read-ahead thread -------------------------------------------

    def _read(self, blocks: list[Roi], focus: Focus | None) -> Iterator[_Item]:
        glass = self.glass()
        waiting = np.ones(len(blocks), bool)
        centers = np.array([b.center for b in blocks]).reshape(-1, 2)
        for _ in blocks:
            index = nearest(centers, waiting, focus() if focus else None)
            waiting[index] = False
            try:
                yield from self._read_block(blocks[index], glass)
            except ReadError as error:
                yield _Item(blocks[index], error=str(error))

    def _read_block(self, roi: Roi, glass: Glass | None) -> Iterator[_Item]:
        region = self.plan.run_region(roi)
        valid = None if self.outside(roi) else self.valid(region, glass)
        if valid is None:
            yield _Item(roi)
            return
        windows = list(self.grid.touching(region))
        size = self.plan.run.batch_size
        for first in range(0, len(windows), size):
            some = tuple(windows[first : first + size])
            last = first + size >= len(windows)
            yield _Item(roi, valid, some, self.views(some), last)

    # -- on the caller's thread ---------------------------------------------

    def _merger(self, roi: Roi) -> Merger:
        return Merger(
            self.plan.run_region(roi), len(self.ids), self.weights, self.device
        )

    def _forward(self, item: _Item, merger: Merger) -> Iterator[SegmentEvent]:
        """Run the windows of one item, in halves when memory runs out."""
        assert item.batch is not None
        first = 0
        while first < len(item.windows):
            windows = item.windows[first : first + self.batch_size]
            try:
                # padded to the batch's size: kernels depend on it
                index = torch.arange(self.batch_size).clamp(max=len(windows) - 1)
                logits = self.logits(item.batch[index + first])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                yield self._halve(error)
                continue
            for window, one in zip(windows, logits, strict=False):
                merger.add(window, one)
            first += len(windows)

    def _halve(self, error: BaseException) -> Retried:
        if self.batch_size == 1:
            raise DeviceError(
                f"{self.plan.device.name} has too little memory for one window.",
                "Close other programs that use it, or choose the CPU.",
            ) from error
        self.batch_size = max(1, self.batch_size // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return Retried(self.batch_size, str(error).partition("\n")[0])

    def _finish(self, item: _Item, merger: Merger | None) -> None:
        """Put a finished (or empty) block into the store."""
        if merger is None:
            self.write_empty(item.roi)
            return
        with torch.inference_mode():
            labels, confidence = merger.finish()
        labels = self.ids[labels]
        if item.valid is not None:
            labels[~item.valid] = 0
            confidence[~item.valid] = 0
        key = np.ix_(*self.run_pixels(item.roi, merger.region))
        self.write(item.roi, labels[key], confidence[key], "done")
