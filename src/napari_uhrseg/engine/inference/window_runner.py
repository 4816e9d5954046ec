"""Runner of windows: a block is done when all its windows have run.

A block that takes long is previewed while its windows run.

::

    prefetch thread                the generator (caller's thread)      writing thread
    ---------------                -------------------------------      --------------
    nearest pending block; those   forward pass, in slices of the
    of its windows that show       batch size, on a CPU in threads
    data and are not kept from     of its own; logits go to the
    another block; one batch of    BlockAssembler; after a block's
    views at a time, filled up     last window its labels          ->   store -> event
    from the next block        ->
"""

import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
import torch

from napari_uhrseg.engine.background_writer import BackgroundWriter
from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    PreviewWritten,
    RetriedWithLess,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.block_assembler import BlockAssembler
from napari_uhrseg.engine.inference.label_windows import pad_batch
from napari_uhrseg.engine.inference.out_of_memory import retried
from napari_uhrseg.engine.inference.runner import RunContext, Runner, read_block
from napari_uhrseg.engine.inference.window_loader import (
    BlockState,
    WindowBatch,
    WindowLoader,
    covered,
)
from napari_uhrseg.engine.network.device import is_out_of_memory
from napari_uhrseg.engine.network.parallel_forward import ForwardFuture, ParallelForward
from napari_uhrseg.engine.network.profiling import release_memory
from napari_uhrseg.engine.prefetch import Prefetcher
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.engine.tiling.window_merge import (
    SumMemory,
    TiledLabels,
    WindowMerger,
    make_merger,
    window_weights,
)
from napari_uhrseg.types import Labels, Roi

PREVIEW_INTERVAL_S = 2.0  # seconds between two previews of unfinished blocks
QUICK_BLOCK_S = 1.0  # seconds; a first block that takes less has no preview at once

_Writer = BackgroundWriter[BlockDone | BlockFailed | PreviewWritten]


@dataclass(frozen=True, slots=True)
class _PendingForward:
    """Running forward pass, with the batch size with which it was started."""

    batch_size: int
    result: ForwardFuture


class WindowRunner(Runner):
    """Runner of the windows of a plan.

    Memory is that of the logits of at most two blocks, of a few batches of views, and
    of the logits of ``plan.sized.kept`` windows that lie across blocks.

    Parameters
    ----------
    context
        The context of the run.
    grid
        The windows of the whole image.
    """

    def __init__(self, context: RunContext, grid: WindowGrid) -> None:
        super().__init__(context)
        self.grid = grid
        self.batch_size = context.plan.run.batch_size
        threads = 1
        if self.device.type == "cpu":
            threads = context.threads or torch.get_num_threads()
        self._previews = context.previews
        self._preview_due = math.inf  # time of the next preview
        self._done = self._failed = 0  # blocks
        self.passes = ParallelForward(self.logits, self.batch_size, threads)
        if self.passes.parts > 1:
            self._threads = 1  # this thread only makes labels
        self.weights = window_weights(
            self.run.window, self.run.overlap, self.spec.merge
        )
        self._memory = SumMemory()
        self.assembler = BlockAssembler(self.make_merger)

    def run_pending(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        """Yield the events of the run, from the first window to ``Finished``."""
        # a worker of a cluster uses one runner for many blocks, one after another
        self.assembler = BlockAssembler(self.make_merger)
        self._done = self._failed = 0
        blocks = self.plan.blocks(self.pending())
        loader = WindowLoader(self, self.grid, blocks)
        first = loader.count(blocks[0]) * self.plan.sized.seconds if blocks else 0.0
        wait = PREVIEW_INTERVAL_S if first < QUICK_BLOCK_S else 0.0
        self._preview_due = time.monotonic() + wait
        left = sum(loader.count(b) for b in blocks)
        # share of the windows left that no other block has run before
        share = self.plan.windows / max(1, self.plan.at_most)
        seen = 0
        items = Prefetcher(loader.batches(viewport), self.plan.sized.ahead)
        with closing(items), closing(_Writer()) as writer, self.passes:
            for item, pending in self._overlapped(items):
                # windows that did not run do not count in the estimate
                left -= sum(block.skipped for block in item.ended) + len(item.tasks)
                if item.tasks:
                    yield from self._forward(item, pending)
                    seen += sum(not task.kept for task in item.tasks)
                    yield self.timer.progress(seen, seen + math.ceil(left * share))
                self.assembler.drop_shared(item.gone)
                for block in item.ended:
                    self._end(block, len(blocks), writer)
                self._preview(item, writer)
                yield from writer.written(most=1)
            yield from writer.written()
        yield self.finished(self._done, self._failed)

    def make_merger(self, roi: Roi) -> WindowMerger | TiledLabels:
        """Return an empty merger for a block, which is given in level-0 pixels."""
        region = self.plan.run_region(roi)
        classes, device = len(self.ids), self.device
        return make_merger(
            self.grid, region, classes, self.weights, device, self._memory
        )

    # -- on the caller's thread ---------------------------------------------

    def _overlapped(
        self, items: Prefetcher[WindowBatch]
    ) -> Iterator[tuple[WindowBatch, _PendingForward | None]]:
        """Yield each item once the next ones are started, if they have been read."""
        most = self.plan.sized.started if self.passes.parts > 1 else 1
        started: deque[tuple[WindowBatch, _PendingForward | None]] = deque()
        for item in items:
            started.append((item, self._start(item)))
            del item  # a batch that waits for nothing is freed
            while started and (len(started) >= most or not items.ready):
                yield started.popleft()
        yield from started

    def _start(self, item: WindowBatch) -> _PendingForward | None:
        """Start the forward pass of an item whose windows fit one batch."""
        count = sum(not task.kept for task in item.tasks)
        if item.batch is None or count > self.batch_size:
            return None
        try:
            result = self.passes.start(pad_batch(item.batch, self.batch_size, 0, count))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None  # started again with less in `_forward`
        return _PendingForward(self.batch_size, result)

    def _forward(
        self, item: WindowBatch, pending: _PendingForward | None
    ) -> Iterator[RetriedWithLess]:
        """Add the logits of an item's windows; halve the batch if memory runs out."""
        if pending is not None and pending.batch_size != self.batch_size:
            with suppress(RuntimeError, MemoryError):  # it runs again with less
                pending.result()
            pending = None
        tasks, ran = item.tasks, 0
        while tasks:
            # as many as contain a batch of windows that must run
            runs = list(accumulate(not task.kept for task in tasks))
            count = bisect_right(runs, self.batch_size)
            part, new = tasks[:count], [t for t in tasks[:count] if not t.kept]
            logits = None
            try:
                self.assembler.open(part)
                if new:
                    assert item.batch is not None
                    if pending is None:
                        size = self.batch_size
                        batch = pad_batch(item.batch, size, ran, len(new))
                        pending = _PendingForward(size, self.passes.start(batch))
                    result, pending = pending.result, None
                    logits = result()
                    self.assembler.keep_shared(new, logits)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                yield self._use_less(error)
                continue
            self.assembler.add(part, logits, self.device)
            tasks, ran = tasks[count:], ran + len(new)

    def _use_less(self, error: BaseException) -> RetriedWithLess:
        """Halve the batch; continue on the CPU if a single window does not fit."""
        if self.batch_size > 1:
            self.batch_size //= 2
            release_memory()
            change = f"with batches of {self.batch_size}"
            return retried(error, change, self.batch_size)
        event = self.to_cpu("one window", error)
        self.assembler.to(self.device)
        return event

    def _end(self, block: BlockState, total: int, writer: _Writer) -> None:
        """Have the labels of a block without further windows written."""
        # taken here, so that nothing else refers to the logits
        merger = self.assembler.take(block.roi)
        if block.error:
            self._failed += 1
            write = partial(self._restore, block)
            writer.submit(write, BlockFailed(block.roi, block.error))
            return
        self._done += 1
        event = BlockDone(block.roi, self._done, total, merger is None)
        writer.submit(self._finish(block, merger), event)
        self._preview_due = time.monotonic() + PREVIEW_INTERVAL_S

    def _preview(self, item: WindowBatch, writer: _Writer) -> None:
        """Have the labels of an unfinished block written, if a preview is due."""
        if not item.tasks or not self._previews:
            return
        if time.monotonic() < self._preview_due:
            return
        block = item.tasks[-1].block
        merger = self.assembler.find(block.roi)
        if merger is not None:
            write = self._labels_so_far(block, merger)
            writer.submit(write, PreviewWritten(block.roi))
            self._preview_due = time.monotonic() + PREVIEW_INTERVAL_S

    def _finish(
        self, block: BlockState, merger: WindowMerger | TiledLabels | None
    ) -> Callable[[], None]:
        """Compute the labels of a finished block; return the call that writes them."""
        if merger is None:
            return partial(self.write_empty, block.roi)
        with torch.inference_mode():
            labels, confidence = merger.finish()
        merger.release()
        return partial(self._write_block, block, merger.region, labels, confidence)

    def _labels_so_far(
        self, block: BlockState, merger: WindowMerger | TiledLabels
    ) -> Callable[[], None]:
        """Compute the labels of a block's windows up to now; its chunks stay pending.

        Return the call that writes them.
        """
        region = merger.region
        with torch.inference_mode():
            labels, confidence = merger.finish()
        known = covered(region, block.labelled)
        if block.valid is not None:
            known &= block.valid
        labels, confidence, here = (
            self.at_level0(a, block.roi, region).copy()
            for a in (labels, confidence, known.view(np.uint8))
        )

        def write() -> None:
            self.replace_by_ids(labels)
            before = read_block(self.store, block.roi)
            block.before = block.before or before
            self.write(
                block.roi,
                np.where(here, labels, before.labels),
                np.where(here, confidence, before.confidence),
                "unfinished",
            )

        return write

    # -- on the writing thread ----------------------------------------------

    def _restore(self, block: BlockState) -> None:
        """Write back the labels from before the previews of a failed block."""
        self.write_failed(block.roi, block.before)

    def _write_block(
        self, block: BlockState, region: Roi, labels: Labels, confidence: Labels
    ) -> None:
        """Write class indices and confidence of a region as a finished block."""
        self.replace_by_ids(labels)
        if block.valid is not None:
            labels[~block.valid] = 0
            confidence[~block.valid] = 0
        labels, confidence = (
            self.at_level0(a, block.roi, region) for a in (labels, confidence)
        )
        self.write(block.roi, labels, confidence, "done")
