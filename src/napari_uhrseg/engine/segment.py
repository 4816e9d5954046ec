"""``segment()``: an image becomes labels, block by block, the nearest first.

::

    read-ahead thread                      the generator (caller's thread)
    -----------------                      -------------------------------
    nearest pending block        ->        forward, in slices of the batch size
    empty? else its windows,               logits into the block's Merger
    a batch of views at a time             last batch: labels -> store -> event
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.device import MemoryBudget, out_of_memory, running
from napari_uhrseg.engine.empty import Glass, region_mask
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Planned,
    Progress,
    Retried,
    SegmentEvent,
)
from napari_uhrseg.engine.merge import Merger, window_weights
from napari_uhrseg.engine.plan import Plan, make_plan
from napari_uhrseg.engine.readahead import ReadAhead
from napari_uhrseg.engine.views import read_views, to_level0
from napari_uhrseg.errors import DeviceError, ReadError
from napari_uhrseg.io.image import Image
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.io.levels import read
from napari_uhrseg.models.base import Batch, Outputs
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import Block, Legend, Mask, Roi, Run, SegmentSettings

if TYPE_CHECKING:
    from napari_uhrseg.io.runs import Status

Focus = Callable[[], Roi | None]


@dataclass(frozen=True, slots=True)
class _Work:
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


def segment(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    focus: Focus | None = None,
    *,
    replace_other: bool = False,
) -> Iterator[SegmentEvent]:
    """Label the image into the store, yielding events as it goes.

    Parameters
    ----------
    image, checkpoint, store
        The store must be open for writing and have the image's shape.
    settings, budget
        What the person chose; the plan says what follows from it.
    focus
        Asked before each block for the level-0 rectangle the person looks at:
        the nearest pending block comes next. Without it: row by row.
    replace_other
        Overwrite what a run with other settings has labelled.

    Yields
    ------
    SegmentEvent
        ``Planned`` before anything is written; at least one event a batch.
        Closing the generator stops the run; what is in the store stays, and the
        same call continues it and ends with the same labels.

    Raises
    ------
    PlanError, DeviceError
        The settings cannot be, or a single window does not fit the memory.
    StoreError
        The store holds another run's labels and ``replace_other`` is not set.

    Notes
    -----
    Memory is bounded by the block, ``plan.estimate``; nothing grows with the
    image. On the CPU in float32, at one batch size and thread count, labels are
    the same bit for bit whatever the block size and the order of blocks.
    """
    settings = settings or SegmentSettings()
    plan = make_plan(image, checkpoint, settings, budget)
    yield Planned(plan)
    legend = store.add_classes(checkpoint.card.legend)
    run = store.start_run(
        replace(plan.run, class_map=class_map(checkpoint.card.legend, legend)),
        replace=replace_other,
    )
    if run.batch_size < plan.run.batch_size:
        # an earlier process began this run with smaller batches: keep its bits
        plan = replace(plan, run=run)
    job = _Job(image, checkpoint, store, plan, run, settings.threads)
    yield from job.events(focus)


def class_map(network: Legend, store: Legend) -> tuple[int, ...]:
    """The store's class id of each network channel, matched by name."""
    ids = {c.name: c.id for c in store}
    return tuple(ids[c.name] for c in network)


class _Job:
    """The state of one running ``segment()``: the batch size, and the clock."""

    def __init__(
        self,
        image: Image,
        checkpoint: Checkpoint,
        store: LabelStore,
        plan: Plan,
        run: Run,
        threads: int | None,
    ) -> None:
        self.image = image
        self.checkpoint = checkpoint
        self.spec = checkpoint.card.spec
        self.store = store
        self.plan = plan
        self.run = run
        self.threads = threads
        self.batch_size = plan.run.batch_size
        self.device = torch.device(plan.device.id)
        self.weights = window_weights(run.window, run.overlap, self.spec.merge)
        self.ids = np.array(run.class_map, np.uint8)

    def events(self, focus: Focus | None) -> Iterator[SegmentEvent]:
        start = time.monotonic()
        blocks = self.plan.blocks(self.store.pending(self.run))
        regions = [self.plan.run_region(b) for b in blocks]
        total = sum(self.plan.grid.count(r) for r in regions)
        seen = done = failed = 0
        merger: Merger | None = None
        self.checkpoint.model.to(self.device)
        if self.device.type == "cuda":
            share = self.plan.budget.device_bytes / self.plan.device.total_bytes
            torch.cuda.set_per_process_memory_fraction(min(1.0, share), self.device)
        ahead = ReadAhead(self._read(blocks, focus))
        with closing(ahead):
            for work in ahead:
                if work.batch is not None:
                    if merger is None:
                        merger = self._merger(work.roi)
                    yield from self._forward(work, merger)
                    seen += len(work.windows)
                    yield self._progress(seen, total, start)
                if not work.last:
                    continue
                if work.error:
                    failed += 1
                    self._write_failed(work.roi)
                    yield BlockFailed(work.roi, work.error)
                else:
                    done += 1
                    self._write(work, merger)
                    yield BlockDone(work.roi, done, len(blocks), empty=merger is None)
                if work.batch is None:  # what was not run is off the clock
                    total -= self.plan.grid.count(self.plan.run_region(work.roi))
                merger = None
        yield Finished(self.run, done, failed, time.monotonic() - start)

    def _progress(self, seen: int, total: int, start: float) -> Progress:
        left = (time.monotonic() - start) * (total - seen) / max(1, seen)
        return Progress(seen, max(total, seen), left)

    # -- on the read-ahead thread -------------------------------------------

    def _read(self, blocks: list[Roi], focus: Focus | None) -> Iterator[_Work]:
        glass = Glass.of(self.image) if self.run.skip_glass else None
        waiting = np.ones(len(blocks), bool)
        centers = np.array([b.center for b in blocks]).reshape(-1, 2)
        for _ in blocks:
            index = _nearest(centers, waiting, focus() if focus else None)
            waiting[index] = False
            try:
                yield from self._read_block(blocks[index], glass)
            except ReadError as error:
                yield _Work(blocks[index], error=str(error))

    def _read_block(self, roi: Roi, glass: Glass | None) -> Iterator[_Work]:
        region = self.plan.run_region(roi)
        inside = region_mask(self.run.region, roi)
        if inside is not None and not inside.any():
            yield _Work(roi)
            return
        pixels = self.image.read(
            to_level0(region, self.run.scale).intersect(Roi(0, 0, *self.image.shape)),
            (region.height, region.width),
            self.run.bands,
        )
        if not pixels.valid.any() or (glass and glass.only(pixels.data, pixels.valid)):
            yield _Work(roi)
            return
        windows = list(self.plan.grid.touching(region))
        size = self.plan.run.batch_size
        for first in range(0, len(windows), size):
            some = tuple(windows[first : first + size])
            batch = read_views(
                self.image,
                some,
                self.spec,
                bands=self.run.bands,
                value_range=self.run.value_range,
                scale=self.run.scale,
            )
            last = first + size >= len(windows)
            yield _Work(roi, pixels.valid, some, batch, last)

    # -- on the caller's thread ---------------------------------------------

    def _merger(self, roi: Roi) -> Merger:
        return Merger(
            self.plan.run_region(roi), len(self.ids), self.weights, self.device
        )

    def _forward(self, work: _Work, merger: Merger) -> Iterator[SegmentEvent]:
        """Run the windows of one work item, in halves when memory runs out."""
        assert work.batch is not None
        first = 0
        while first < len(work.windows):
            windows = work.windows[first : first + self.batch_size]
            try:
                logits = self._logits(work.batch, first, len(windows))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                yield self._halve(error)
                continue
            for window, one in zip(windows, logits, strict=True):
                merger.add(window, one)
            first += len(windows)

    def _logits(self, batch: Batch, first: int, count: int) -> Tensor:
        """Float32 logits of ``count`` windows; the batch is padded to its size."""
        index = torch.arange(self.batch_size).clamp(max=count - 1) + first
        part = Batch(
            {k: v[index] for k, v in batch.views.items()},
            {k: v[index] for k, v in batch.boxes.items()},
        )
        with running(self.device, self.plan.run.precision, self.threads):
            outputs: Outputs = self.checkpoint.model(part.to(self.device))
            return outputs["logits"][:count].float()

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

    def _write(self, work: _Work, merger: Merger | None) -> None:
        """Put a finished (or empty) block into the store."""
        shape = (work.roi.height, work.roi.width)
        labels = np.zeros(shape, np.uint8)
        confidence = np.zeros(shape, np.uint8)
        if merger is not None:
            with torch.inference_mode():
                found, margin = merger.finish()
            found = self.ids[found]
            if work.valid is not None:
                found[~work.valid] = 0
                margin[~work.valid] = 0
            rows, columns = self._nearest_run_pixels(work.roi, merger.region)
            labels = found[np.ix_(rows, columns)]
            confidence = margin[np.ix_(rows, columns)]
        inside = region_mask(self.run.region, work.roi)
        if inside is not None:  # beyond the drawn shape, what was there stays
            before = self._stored(work.roi)
            labels = np.where(inside, labels, before.labels)
            confidence = np.where(inside, confidence, before.confidence)
        status: Status = "done" if merger is not None else "empty"
        self.store.write(Block(work.roi, labels, confidence), self.run.id, status)

    def _write_failed(self, roi: Roi) -> None:
        """A block that could not be read keeps the labels it had."""
        self.store.write(self._stored(roi), self.run.id, "failed")

    def _stored(self, roi: Roi) -> Block:
        """What the store holds there now."""
        labels = read(self.store.prediction[0], roi.slices)
        return Block(roi, labels, read(self.store.confidence[0], roi.slices))

    def _nearest_run_pixels(self, roi: Roi, region: Roi) -> tuple[np.ndarray, ...]:
        """For each level-0 row and column of roi, its index within region."""
        return tuple(
            np.minimum(
                ((np.arange(first, first + count) + 0.5) / self.run.scale).astype(int)
                - start,
                length - 1,
            )
            for first, count, start, length in (
                (roi.y, roi.height, region.y, region.height),
                (roi.x, roi.width, region.x, region.width),
            )
        )


def _nearest(centers: np.ndarray, waiting: np.ndarray, view: Roi | None) -> int:
    """Index of the waiting block nearest to the view's centre; else the first."""
    indices: Sequence[int] | np.ndarray = np.nonzero(waiting)[0]
    if view is None:
        return int(indices[0])
    distance = ((centers[indices] - np.array(view.center)) ** 2).sum(axis=1)
    return int(indices[int(distance.argmin())])
