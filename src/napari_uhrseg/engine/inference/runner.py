"""Base class of the runners of windows and of frames."""

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.cancellation import Cancelled, Stop, Viewport, interruptible
from napari_uhrseg.engine.events import (
    Finished,
    Progress,
    RetriedWithLess,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.background_mask import (
    BackgroundMask,
    is_outside,
    region_mask,
)
from napari_uhrseg.engine.inference.out_of_memory import (
    CpuFallback,
    confirm_cpu,
    retried,
)
from napari_uhrseg.engine.network.device import cpu_threads, inference_mode
from napari_uhrseg.engine.network.inputs import read_pixels, to_level0
from napari_uhrseg.engine.network.optimize import optimized
from napari_uhrseg.engine.network.pixel_batch import PixelBatch, ViewBuffers
from napari_uhrseg.engine.network.profiling import release_memory
from napari_uhrseg.engine.network.reader_threads import ReaderThreads
from napari_uhrseg.engine.planning.memory_estimate import CUDA_CONTEXT_BYTES
from napari_uhrseg.engine.planning.plan import Plan
from napari_uhrseg.engine.planning.tissue_windows import level0_pixels
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.worker_store import LabelSink
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import Block, BoolMask, Labels, Roi, Run

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.chunk_status import Status


@dataclass(frozen=True, slots=True)
class RunContext:
    """Context of a run: its record, plan, image, checkpoint and store.

    Attributes
    ----------
    image, checkpoint, store
        Image to read, network that labels it, and store of the labels.
    plan
        The plan of the run.
    run
        The run's record in the store.
    threads
        CPU threads of torch. None: as many as the caller has.
    stop
        Polled between the layers of the network. If it returns True, the run ends.
    only
        (chunk rows, columns) bool: pending chunks to be done now. None: all.
    cpu_fallback
        Asks the user whether to continue on the CPU, given a message.
    previews
        If True, blocks that take long are shown before they are finished.
    """

    image: Image
    checkpoint: Checkpoint
    store: LabelSink
    plan: Plan
    run: Run
    threads: int | None
    stop: Stop | None
    only: BoolMask | None = None
    cpu_fallback: CpuFallback | None = None
    previews: bool = True


class RunTimer:
    """Time since the start of a run, and the time left."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the run started."""
        return time.monotonic() - self._started

    def progress(self, seen: int, total: int) -> Progress:
        """Return the progress of a run, with the time left.

        Parameters
        ----------
        seen
            Windows or frames that have run.
        total
            Windows or frames of the whole run.
        """
        left = self.seconds() * (total - seen) / max(1, seen)
        return Progress(seen, max(total, seen), left)


class Runner(ABC):
    """Base class of the runners of windows and of frames.

    It runs the network, writes blocks and estimates the time left.
    """

    def __init__(self, context: RunContext) -> None:
        self.image = context.image
        self.model = optimized(context.checkpoint.model, context.plan.run.precision)
        self.spec = context.checkpoint.card.spec
        self.store = context.store
        self.plan = context.plan
        self.run = context.run
        self.tissue = context.plan.tissue
        self.device = torch.device(context.plan.device.id)
        self.ids = np.array(context.run.class_map, np.uint8)
        self._threads = context.threads
        self._stop = context.stop
        self._only = context.only
        self._cpu_fallback = context.cpu_fallback
        self._buffers = ViewBuffers()
        self._readers = ReaderThreads(context.plan.sized.readers)
        self.timer = RunTimer()

    def events(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        """Run all pending chunks, the nearest to the viewport first."""
        return self.on_device(self.run_pending(viewport))

    def on_device(self, work: Iterator[SegmentEvent]) -> Iterator[SegmentEvent]:
        """Yield the events of a part of the run, with the network on its device.

        Torch has the run's threads during the work, and the caller's in between.
        """
        with closing(self._limited(work)) as steps:
            while True:
                with cpu_threads(self._threads):
                    event = next(steps, None)
                if event is None:
                    return
                yield event

    def _limited(
        self, work: Iterator[SegmentEvent]
    ) -> Generator[SegmentEvent, None, None]:
        """Keep to the budget; end without an error if the user stops the run."""
        self.model.to(self.device)
        if self.device.type == "cuda":
            most = self.plan.budget.device_bytes - CUDA_CONTEXT_BYTES
            share = most / self.plan.device.total_bytes
            torch.cuda.set_per_process_memory_fraction(min(1.0, share), self.device)
        with (
            interruptible(self.model, self._stop),
            CHUNK_CACHE.limited(self.plan.sized.cache),
        ):
            try:
                yield from work
            except Cancelled:
                return
            except MemoryError as error:  # where the network is not the cause
                raise DeviceError(
                    "Main memory ran out while a part of the image was read or kept.",
                    "Close other programs, or lower the memory budget. Finished "
                    "blocks are kept.",
                ) from error

    @abstractmethod
    def run_pending(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        """Yield the events of the run, from the first window to ``Finished``."""

    def pending(self) -> BoolMask:
        """Return the chunks to be done, (chunk rows, columns) bool."""
        waiting = self.store.pending(self.run)
        return waiting if self._only is None else waiting & self._only

    # -- on the prefetch thread ---------------------------------------------

    @cached_property
    def background(self) -> BackgroundMask | None:
        """Return the background mask of the image, if background is skipped."""
        return BackgroundMask.of(self.image) if self.run.skip_background else None

    def valid(self, region: Roi) -> BoolMask | None:
        """Return which run pixels have data, (h, w) bool. None: all."""
        if self.image.opaque:
            return None
        pixels = self.image.read(
            self.level0(region), (region.height, region.width), self.run.bands
        )
        return None if pixels.valid.all() else pixels.valid

    def level0(self, region: Roi) -> Roi:
        """Return the level-0 rectangle that a rectangle of run pixels shows."""
        whole = Roi(0, 0, *self.image.shape)
        return to_level0(region, self.run.scale).intersect(whole)

    def views(self, windows: Sequence[Roi]) -> PixelBatch:
        """Read the network's views of windows in run pixels."""
        return read_pixels(
            self.image,
            windows,
            self.spec,
            bands=self.run.bands,
            value_range=self.run.value_range,
            scale=self.run.scale,
            buffers=self._buffers,
            threads=self._readers,
        )

    # -- on the caller's thread ---------------------------------------------

    def logits(self, batch: PixelBatch) -> Tensor:
        """Return the network's logits at the run's precision, on the device."""
        with inference_mode(self.device, self.plan.run.precision):
            inputs = batch.normalized(self.device, self._buffers)
            logits: Tensor = self.model(inputs)["logits"]
            return logits

    def to_cpu(self, what: str, error: BaseException) -> RetriedWithLess:
        """Move the run to the CPU, if the user agrees.

        Parameters
        ----------
        what
            Work for which the device has too little memory, such as "one window".
        error
            The error that the device raised.

        Returns
        -------
        RetriedWithLess
            The event for the user.

        Raises
        ------
        DeviceError
            If the run is on the CPU already, or the user does not agree.
        Cancelled
            If the user ended the run instead of answering.
        """
        confirm_cpu(
            f"{self.plan.device.name} has too little memory for {what}.",
            error,
            on_cpu=self.device.type == "cpu",
            ask=self._cpu_fallback,
            stop=self._stop,
        )
        self.device = torch.device("cpu")
        self.model.to(self.device)
        release_memory()
        return retried(error, "on the CPU")

    def write(
        self, roi: Roi, labels: Labels, confidence: Labels, status: "Status"
    ) -> None:
        """Write a block. Pixels outside the region of the run keep their labels.

        Pixels of the region without tissue get no label, unless the block failed.

        Parameters
        ----------
        roi
            The block in level-0 pixels.
        labels, confidence
            (h, w) uint8 of the block.
        status
            Status of the block's chunks.
        """
        if self.tissue is not None and status != "failed":
            there = self.tissue.inside(roi)
            labels, confidence = labels * there, confidence * there
        inside = region_mask(self.run.region, roi)
        if inside is not None:
            before = read_block(self.store, roi)
            labels = np.where(inside, labels, before.labels)
            confidence = np.where(inside, confidence, before.confidence)
        self.store.write(Block(roi, labels, confidence), self.run.id, status)

    def replace_by_ids(self, indices: Labels) -> None:
        """Replace class indices (h, w) by class ids, in place."""
        if (np.diff(self.ids) == 1).all():
            # consecutive ids take a fiftieth of the time
            np.add(indices, self.ids[0], out=indices)
            return
        for row in indices:  # numpy makes eight bytes of each index
            row[...] = self.ids[row]

    def write_empty(self, roi: Roi) -> None:
        """Write a block that has nothing to label."""
        nothing = np.zeros((roi.height, roi.width), np.uint8)
        self.write(roi, nothing, nothing, "empty")

    def write_failed(self, roi: Roi, before: Block | None = None) -> None:
        """Mark a block that could not be read; it keeps its previous labels."""
        before = before or read_block(self.store, roi)
        self.write(roi, before.labels, before.confidence, "failed")

    def outside(self, roi: Roi) -> bool:
        """Return whether no pixel of a block lies in the region and in tissue."""
        without = self.tissue is not None and not self.tissue.touches(roi)
        return without or is_outside(self.run.region, roi)

    def has_tissue(self, region: Roi) -> bool:
        """Return whether run pixels have tissue; True for a run without a mask."""
        if self.tissue is None:
            return True
        return self.tissue.touches(level0_pixels(region, self.run.scale))

    def finished(self, done: int, failed: int) -> Finished:
        """Return the last event of a run with these numbers of blocks."""
        left_out, area = self.plan.left_out, self.plan.left_out_area
        seconds = self.timer.seconds()
        return Finished(self.run, done, failed, seconds, left_out, area)

    def at_level0(self, values: Labels, roi: Roi, region: Roi) -> Labels:
        """Return run pixels of a region, (h, w), as the level-0 pixels of a rectangle.

        Parameters
        ----------
        values
            (h, w) uint8: values of the region's run pixels.
        roi
            Level-0 pixels.
        region
            Run pixels that the rectangle lies in.
        """
        if roi == region and self.run.scale == 1:
            return values
        rows, columns = nearest_run_pixels(roi, region, self.run.scale)
        found: Labels = values[np.ix_(rows, columns)]
        return found


def read_block(store: LabelSink, roi: Roi) -> Block:
    """Return the labels and confidence that a store has for a rectangle."""
    labels = read_array(store.prediction[0], roi.slices)
    return Block(roi, labels, read_array(store.confidence[0], roi.slices))


def nearest_run_pixels(
    roi: Roi, region: Roi, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the run pixel of each level-0 row and column of a rectangle.

    Parameters
    ----------
    roi
        Level-0 pixels.
    region
        Run pixels that the rectangle lies in.
    scale
        Level-0 pixels for each run pixel, above 0.

    Returns
    -------
    rows, columns : (h,) and (w,) int
        Numbers of run pixels, counted from the region's corner.
    """
    rows, columns = (
        np.minimum(
            ((np.arange(first, first + count) + 0.5) / scale).astype(int) - start,
            length - 1,
        )
        for first, count, start, length in (
            (roi.y, roi.height, region.y, region.height),
            (roi.x, roi.width, region.x, region.width),
        )
    )
    return rows, columns
