"""What running a plan has in common, for windows and for frames."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.cancellation import Cancelled, Stop, Viewport, interruptible
from napari_uhrseg.engine.events import Progress, RetriedWithLess, SegmentEvent
from napari_uhrseg.engine.inference.background_mask import BackgroundMask, region_mask
from napari_uhrseg.engine.network.device import cpu_threads, inference_mode
from napari_uhrseg.engine.network.inputs import read_views, to_level0
from napari_uhrseg.engine.network.optimize import optimized
from napari_uhrseg.engine.network.profiling import release_memory
from napari_uhrseg.engine.planning.memory_estimate import CUDA_CONTEXT_BYTES
from napari_uhrseg.engine.planning.plan import Plan
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.worker_store import LabelSink
from napari_uhrseg.models.base import Batch, Outputs
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import Block, Labels, Mask, Roi, Run

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.chunk_status import Status

CpuFallback = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What ``segment()`` was asked for, and the run as the store recorded it.

    ``only``: chunks that are to be done now, of those pending; None: all.
    """

    image: Image
    checkpoint: Checkpoint
    store: LabelSink
    plan: Plan
    run: Run
    threads: int | None
    stop: Stop | None
    only: Mask | None = None
    cpu_fallback: CpuFallback | None = None


class Runner(ABC):
    """One running ``segment()``: runs the network, writes blocks, tells the time."""

    def __init__(self, work: RunContext) -> None:
        self.image = work.image
        self.model = optimized(work.checkpoint.model, work.plan.run.precision)
        self.spec = work.checkpoint.card.spec
        self.store = work.store
        self.plan = work.plan
        self.run = work.run
        self.device = torch.device(work.plan.device.id)
        self.ids = np.array(work.run.class_map, np.uint8)
        self._threads = work.threads
        self._stop = work.stop
        self._only = work.only
        self._cpu_fallback = work.cpu_fallback
        self._started = time.monotonic()

    def events(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        """Run what is pending, the nearest to the focus first.

        Torch has the run's threads while this works, and the caller's in between.
        """
        with closing(self._events(viewport)) as steps:
            while True:
                with cpu_threads(self._threads):
                    event = next(steps, None)
                if event is None:
                    return
                yield event

    def _events(self, viewport: Viewport | None) -> Generator[SegmentEvent, None, None]:
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
                yield from self.work(viewport)
            except Cancelled:
                return
            except MemoryError as error:  # where the network is not to blame
                raise DeviceError(
                    "Main memory ran out while a part of the image was read or kept.",
                    "Close other programs, or lower the memory budget. What is done "
                    "stays.",
                ) from error

    @abstractmethod
    def work(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        """The events of the run, from the first window to ``Finished``."""

    def pending(self) -> Mask:
        """The chunks to be done: (chunk rows, columns)."""
        waiting = self.store.pending(self.run)
        return waiting if self._only is None else waiting & self._only

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def progress(self, seen: int, total: int) -> Progress:
        left = self.seconds() * (total - seen) / max(1, seen)
        return Progress(seen, max(total, seen), left)

    # -- on the read-ahead thread -------------------------------------------

    def background(self) -> BackgroundMask | None:
        return BackgroundMask.of(self.image) if self.run.skip_background else None

    def valid(self, region: Roi) -> Mask | None:
        """Which run pixels hold image, (h, w); None where all of them do."""
        if self.image.opaque:
            return None
        pixels = self.image.read(
            self.level0(region), (region.height, region.width), self.run.bands
        )
        return None if pixels.valid.all() else pixels.valid

    def level0(self, region: Roi) -> Roi:
        """The part of the image that a rectangle of run pixels shows."""
        whole = Roi(0, 0, *self.image.shape)
        return to_level0(region, self.run.scale).intersect(whole)

    def views(self, windows: Sequence[Roi]) -> Batch:
        return read_views(
            self.image,
            windows,
            self.spec,
            bands=self.run.bands,
            value_range=self.run.value_range,
            scale=self.run.scale,
        )

    # -- on the caller's thread ---------------------------------------------

    def logits(self, batch: Batch) -> Tensor:
        """The network's answer at the run's precision, on the device."""
        with inference_mode(self.device, self.plan.run.precision):
            outputs: Outputs = self.model(batch.to(self.device))
            return outputs["logits"]

    def to_cpu(self, what: str, error: BaseException) -> RetriedWithLess:
        """The last resort: on to the CPU, if the person agrees.

        Raises
        ------
        DeviceError
            It is the CPU that has too little memory, or no one agreed.
        Cancelled
            The person ended the run instead of answering.
        """
        message = f"{self.plan.device.name} has too little memory for {what}."
        there = self.device.type == "cpu"
        if there or self._cpu_fallback is None or not self._cpu_fallback(message):
            if self._stop is not None and self._stop():
                raise Cancelled from error
            help_ = "lower the memory budget" if there else "go on on the CPU"
            raise DeviceError(
                message,
                f"Close other programs that use it, or {help_}: what is done stays, "
                "and the run goes on from there.",
            ) from error
        self.device = torch.device("cpu")
        self.model.to(self.device)
        release_memory()
        return self.retried(error, "on the CPU")

    def retried(
        self, error: BaseException, now: str, batch_size: int = 1
    ) -> RetriedWithLess:
        return RetriedWithLess(batch_size, str(error).partition("\n")[0], now)

    def write(
        self, roi: Roi, labels: Labels, confidence: Labels, status: "Status"
    ) -> None:
        """Put a block into the store; beyond a drawn shape, what was there stays."""
        inside = region_mask(self.run.region, roi)
        if inside is not None:
            before = self.stored(roi)
            labels = np.where(inside, labels, before.labels)
            confidence = np.where(inside, confidence, before.confidence)
        self.store.write(Block(roi, labels, confidence), self.run.id, status)

    def write_empty(self, roi: Roi) -> None:
        nothing = np.zeros((roi.height, roi.width), np.uint8)
        self.write(roi, nothing, nothing, "empty")

    def write_failed(self, roi: Roi, before: Block | None = None) -> None:
        """A block that could not be read keeps the labels it had, or gets them back."""
        before = before or self.stored(roi)
        self.write(roi, before.labels, before.confidence, "failed")

    def stored(self, roi: Roi) -> Block:
        """What the store holds there now."""
        labels = read_array(self.store.prediction[0], roi.slices)
        return Block(roi, labels, read_array(self.store.confidence[0], roi.slices))

    def outside(self, roi: Roi) -> bool:
        """Whether no pixel of a block lies in the drawn shape."""
        inside = region_mask(self.run.region, roi)
        return inside is not None and not inside.any()

    def at_level0(self, values: Labels, roi: Roi, region: Roi) -> Labels:
        """Run pixels of a region, (h, w), as the level-0 pixels of roi within it."""
        if roi == region and self.run.scale == 1:
            return values
        found: Labels = values[np.ix_(*self.run_pixels(roi, region))]
        return found

    def run_pixels(self, roi: Roi, region: Roi) -> tuple[np.ndarray, np.ndarray]:
        """For each level-0 row and column of roi, its run pixel within region."""
        rows, columns = (
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
        return rows, columns


def nearest(centers: np.ndarray, waiting: np.ndarray, view: Roi | None) -> int:
    """Index of the waiting one nearest to the view's centre; else the first.

    Parameters
    ----------
    centers
        (n, 2) float, y and x.
    waiting
        (n,) bool, at least one of them true.
    """
    indices = np.nonzero(waiting)[0]
    return int(indices[ranks(centers[indices], view).argmin()])


def ranks(centers: np.ndarray, view: Roi | None) -> np.ndarray:
    """How soon each comes, the lowest first, (n,) float; as `nearest` has it."""
    if view is None:
        return np.arange(len(centers), dtype=float)
    found: np.ndarray = ((centers - np.array(view.center)) ** 2).sum(axis=1)
    return found
