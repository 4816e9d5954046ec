"""Running a plan of windows: a block is done when its windows are.

A block that takes long is shown as far as it has come.

::

    read-ahead thread              the generator (caller's thread)      writing thread
    -----------------              -------------------------------      --------------
    nearest pending block: which   forward, in slices of the batch
    of its windows show            size, on a CPU in threads of its
    something, and are not kept    own; logits into the Mergers of
    from another block; a batch    their blocks, and kept where other
    of views at a time, filled     blocks need them; with a block's
    up from the next block     ->  last batch its labels           ->   store -> event
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, groupby

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.background_writer import BackgroundWriter
from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    PreviewWritten,
    RetriedWithLess,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.runner import RunContext, Runner
from napari_uhrseg.engine.inference.window_loader import (
    BlockState,
    WindowBatch,
    WindowLoader,
    WindowTask,
    covered,
)
from napari_uhrseg.engine.network.device import is_out_of_memory
from napari_uhrseg.engine.network.parallel_forward import ForwardFuture, ParallelForward
from napari_uhrseg.engine.network.profiling import release_memory
from napari_uhrseg.engine.prefetch import Prefetcher
from napari_uhrseg.engine.tiling.merge import (
    Merger,
    TiledLabels,
    make_merger,
    window_weights,
)
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import Labels, Roi

EVERY = 2.0  # seconds between two looks at a block that is not finished


@dataclass(frozen=True, slots=True)
class _PendingForward:
    """What the network was begun with, and its answer."""

    batch_size: int
    answer: ForwardFuture


class WindowRunner(Runner):
    """Holds the logits of two blocks at most, and the views of a few batches.

    Also the logits of ``plan.sized.kept`` windows that lie across blocks.
    """

    def __init__(self, work: RunContext, grid: WindowGrid) -> None:
        super().__init__(work)
        self.grid = grid
        self.batch_size = work.plan.run.batch_size
        threads = 1
        if self.device.type == "cpu":
            threads = work.threads or torch.get_num_threads()
        self._shown = -math.inf  # when labels were last put away
        self.passes = ParallelForward(self.logits, self.batch_size, threads)
        if self.passes.parts > 1:
            self._threads = 1  # what is left for this one makes labels
        self.weights = window_weights(
            self.run.window, self.run.overlap, self.spec.merge
        )

    def work(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        blocks = self.plan.blocks(self.pending())
        reader = WindowLoader(self, self.grid, blocks)
        left = sum(reader.count(b) for b in blocks)
        # of what is left, so much has not been run for another block before
        share = self.plan.windows / self.plan.at_most
        seen = done = failed = 0
        mergers: dict[Roi, Merger | TiledLabels] = {}
        kept: dict[Roi, Tensor] = {}
        items = Prefetcher(reader.items(viewport), self.plan.sized.ahead)
        with (
            closing(items),
            closing(
                BackgroundWriter[BlockDone | BlockFailed | PreviewWritten]()
            ) as writing,
            self.passes,
        ):
            for item, begun in self._begun(items):
                # what was not run is off the clock
                left -= sum(block.skipped for block in item.ended) + len(item.steps)
                if item.steps:
                    yield from self._forward(item, begun, mergers, kept)
                    seen += sum(not step.kept for step in item.steps)
                    yield self.progress(seen, seen + math.ceil(left * share))
                for window in item.gone:
                    del kept[window]
                for block in item.ended:
                    if block.error:
                        failed += 1
                        mergers.pop(block.roi, None)
                        writing.submit(
                            partial(self._give_up, block),
                            BlockFailed(block.roi, block.error),
                        )
                        continue
                    done += 1
                    event = BlockDone(
                        block.roi, done, len(blocks), block.roi not in mergers
                    )
                    # popped here, so that nothing holds the logits any longer
                    write = self._finish(block, mergers.pop(block.roi, None))
                    writing.submit(write, event)
                    self._shown = time.monotonic()
                if item.steps and self.is_preview_due():
                    block = item.steps[-1].block
                    if block.roi in mergers:
                        write = self._so_far(block, mergers[block.roi])
                        writing.submit(write, PreviewWritten(block.roi))
                        self._shown = time.monotonic()
                yield from writing.written(most=1)
            yield from writing.written()
        yield Finished(self.run, done, failed, self.seconds())

    # -- on the caller's thread ---------------------------------------------

    def _begun(
        self, items: Prefetcher[WindowBatch]
    ) -> Iterator[tuple[WindowBatch, _PendingForward | None]]:
        """Each item, when the network is at work on the next one, if that is read."""
        previous: tuple[WindowBatch, _PendingForward | None] | None = None
        for item in items:
            this = item, self._begin(item)
            if previous is not None:
                yield previous
            previous = this
            if self.passes.parts == 1 or not items.ready:
                yield this
                previous = None
        if previous is not None:
            yield previous

    def _begin(self, item: WindowBatch) -> _PendingForward | None:
        """The network's answer to an item's windows, where they are one batch."""
        count = sum(not step.kept for step in item.steps)
        if item.batch is None or count > self.batch_size:
            return None
        try:
            answer = self.passes.start(self._slice(item.batch, 0, count))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None  # when its turn comes, with less
        return _PendingForward(self.batch_size, answer)

    def _forward(
        self,
        item: WindowBatch,
        begun: _PendingForward | None,
        mergers: dict[Roi, Merger | TiledLabels],
        kept: dict[Roi, Tensor],
    ) -> Iterator[RetriedWithLess]:
        """Label the windows of one item, run in halves when memory runs out."""
        if begun is not None and begun.batch_size != self.batch_size:
            with suppress(RuntimeError, MemoryError):  # it is run again with less
                begun.answer()
            begun = None
        steps, ran = item.steps, 0
        while steps:
            # as many as hold a batch of windows to be run
            runs = list(accumulate(not step.kept for step in steps))
            count = bisect_right(runs, self.batch_size)
            part, new = steps[:count], [s for s in steps[:count] if not s.kept]
            try:
                for step in part:
                    roi = step.block.roi
                    if roi not in mergers:
                        mergers[roi] = self._merger(roi)
                if new:
                    assert item.batch is not None
                    if begun is None:
                        batch = self._slice(item.batch, ran, len(new))
                        begun = _PendingForward(
                            self.batch_size, self.passes.start(batch)
                        )
                    answer, begun = begun.answer, None
                    logits = answer()
                    self._keep(new, logits, kept)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                yield self._less(error, mergers)
                continue
            at = 0
            for (roi, before), group in groupby(part, lambda s: (s.block.roi, s.kept)):
                places = []
                for step in group:
                    places.append(step.window)
                    step.block.labelled.append(step.window)
                if before:
                    for place in places:
                        one = kept[place].to(self.device)
                        mergers[roi].add([place], one[None])
                    continue
                mergers[roi].add(places, logits[at : at + len(places)])
                at += len(places)
            steps, ran = steps[count:], ran + len(new)

    def _keep(
        self, steps: list[WindowTask], logits: Tensor, kept: dict[Roi, Tensor]
    ) -> None:
        """Keep what other blocks need, (K, window, window) each, in main memory.

        May fail half way and be done again, in order.
        """
        for step, one in zip(steps, logits, strict=False):  # the batch is padded
            if step.instead is not None:
                kept.pop(step.instead, None)
            if step.keep:
                kept[step.window] = one.to("cpu", copy=True)

    def _slice(self, batch: Batch, first: int, count: int) -> Batch:
        """Padded to the batch's size: kernels depend on it."""
        size = self.batch_size
        if count == size == len(batch):
            return batch
        return batch[torch.arange(size).clamp(max=count - 1) + first]

    def _merger(self, roi: Roi) -> Merger | TiledLabels:
        region = self.plan.run_region(roi)
        return make_merger(self.grid, region, len(self.ids), self.weights, self.device)

    def _less(
        self, error: BaseException, mergers: dict[Roi, Merger | TiledLabels]
    ) -> RetriedWithLess:
        """Half the batch; from one window on to the CPU."""
        if self.batch_size > 1:
            self.batch_size //= 2
            release_memory()
            now = f"with batches of {self.batch_size}"
            return self.retried(error, now, self.batch_size)
        retried = self.to_cpu("one window", error)
        for merger in mergers.values():
            merger.to(self.device)
        return retried

    def _finish(
        self, block: BlockState, merger: Merger | TiledLabels | None
    ) -> Callable[[], None]:
        """The labels of a finished (or empty) block; gives what puts them away."""
        if merger is None:
            return partial(self.write_empty, block.roi)
        with torch.inference_mode():
            labels, confidence = merger.finish()
        return partial(self._put_away, block, merger.region, labels, confidence)

    def is_preview_due(self) -> bool:
        """Whether the person has waited long for labels: at once for the first."""
        return time.monotonic() - self._shown > EVERY

    def _so_far(
        self, block: BlockState, merger: Merger | TiledLabels
    ) -> Callable[[], None]:
        """The labels of a block's windows up to now; its chunks stay pending."""
        region = merger.region
        with torch.inference_mode():
            labels, confidence = merger.finish()
        known = covered(region, block.labelled)
        if block.valid is not None:
            known &= block.valid
        labels, confidence, here = (
            self.at_level0(a, block.roi, region).copy()
            for a in (self.ids[labels], confidence, known.view(np.uint8))
        )

        def write() -> None:
            before = self.stored(block.roi)
            block.before = block.before or before
            self.write(
                block.roi,
                np.where(here, labels, before.labels),
                np.where(here, confidence, before.confidence),
                "unfinished",
            )

        return write

    def _give_up(self, block: BlockState) -> None:
        """On the writing thread: by then it is known what was there before."""
        self.write_failed(block.roi, block.before)

    def _put_away(
        self, block: BlockState, region: Roi, labels: Labels, confidence: Labels
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
