"""Choice of the largest batch, block, frame and read-ahead within the budget."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import torch

from napari_uhrseg.engine.network.device import Device, MemoryBudget, free_memory
from napari_uhrseg.engine.network.optimize import optimized_bytes
from napari_uhrseg.engine.network.profiling import ForwardProfile, Profiler
from napari_uhrseg.engine.planning.memory_estimate import (
    ALLOCATOR_SLACK,
    CHUNK_CACHE_BYTES,
    MemoryNeed,
    RunShape,
    budget_too_small_error,
    estimate_memory,
    pixel_bytes,
    window_bytes,
)
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import OPEN_BLOCKS, Limits, Precision, SegmentSettings
from napari_uhrseg.units import MB, format_bytes

MAX_BATCH = {"cuda": 64, "mps": 16, "cpu": 16}
PIXELS_PER_THREAD = 4 * 256**2  # fewer: overhead of calls; more: beyond the CPU cache
READ_AHEAD = 2  # batches, at least; of frames, one
READ_AHEAD_SECONDS = 0.25  # of the device, while other threads use all cores
READ_AHEAD_BYTES = 128 * MB
MOST_AHEAD = 16  # batches
MOST_READERS = 8  # threads
MOST, LEAST = CHUNK_CACHE_BYTES
MakeProfiler = Callable[[Checkpoint, Device, Precision, int], Profiler]
BAND_ROWS = (1024, 512, 256, 128)  # rows of a frame that is processed in bands


@dataclass(frozen=True, slots=True)
class RunSize:
    """Division of a run, and the cost of one part.

    Attributes
    ----------
    batch
        Windows per forward pass.
    block_chunks
        Side of a block in chunks of the store. 1 for frames.
    ahead, cache
        Batches or frames that are read ahead, and bytes of cached image chunks.
    seconds
        Seconds per window or frame.
    need
        Memory of the run.
    rows
        Rows of a frame that are processed at a time. None: all of them.
    kept
        Windows whose logits may wait for their next block.
    """

    batch: int
    block_chunks: int
    ahead: int
    cache: int
    seconds: float
    need: MemoryNeed
    rows: int | None = None
    kept: int = 0

    @property
    def started(self) -> int:
        """Return the batches whose passes have started and that have no labels yet."""
        return started_batches(self.ahead)

    @property
    def readers(self) -> int:
        """Return the threads that read the windows of a batch."""
        return reader_threads(self.ahead)


def reader_threads(ahead: int) -> int:
    """Return the threads that read a batch, if so many batches are read ahead.

    Several threads read if the network is fast and the budget has room: one for two
    cores. On two cores, a second one took 10 % of the speed.
    """
    if ahead <= READ_AHEAD:
        return 1
    return max(1, min(MOST_READERS, (os.cpu_count() or 1) // 2))


def started_batches(ahead: int) -> int:
    """Return how many passes have started on a CPU if so many batches are read."""
    return 3 if ahead > READ_AHEAD else 2


@dataclass(frozen=True, slots=True)
class RunSizer:
    """Sizer, which divides a run on one device so that it keeps the budget.

    ``warning`` is for the user, and empty if the whole budget is free.
    ``value_bytes`` is the size of a value in the data type of the image.
    """

    profiler: Profiler
    budget: MemoryBudget
    warning: str
    value_bytes: int
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def make(
        cls,
        checkpoint: Checkpoint,
        device: Device,
        budget: MemoryBudget,
        precision: Precision,
        settings: SegmentSettings,
        value_bytes: int,
        make_profiler: MakeProfiler,
    ) -> Self:
        """Return a sizer whose budget is at most the free memory of the device.

        Parameters
        ----------
        checkpoint
            The checkpoint that is to be run.
        device
            The device to run on.
        budget
            The user's budget for that device.
        precision
            ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        settings
            For the number of threads and the limits.
        value_bytes
            Bytes of a value in the data type of the image.
        make_profiler
            Returns the profiler of a checkpoint, device, precision and number of
            threads.
        """
        warning, free = "", free_memory(device)
        if free < budget.device_bytes:
            warning = (
                f"Only {format_bytes(free)} of {device.name} are free. The plan keeps "
                f"to that, not to the budget of {format_bytes(budget.device_bytes)}."
            )
            budget = replace(budget, device_bytes=free)
        threads = settings.threads or torch.get_num_threads()
        profiler = make_profiler(checkpoint, device, precision, threads)
        return cls(profiler, budget, warning, value_bytes, settings.limits)

    def windows(
        self,
        wanted: int | None,
        block_chunks: Callable[[float], int],
        waiting: Callable[[int], int],
        scale: float,
    ) -> RunSize:
        """Return the largest division of a run of windows that keeps the budget.

        The batch is chosen first, then the block, then read-ahead and chunk cache.
        Windows that reach into other blocks may use half of the memory that is left.

        Parameters
        ----------
        wanted
            Batch size that the user chose; halved until it fits. None: by device.
        block_chunks
            Function from the seconds per window to the side of a block in chunks.
        waiting
            Function from the side of a block in chunks to the number of windows that
            may wait for other blocks at a time.
        scale
            Level-0 pixels per run pixel.

        Raises
        ------
        DeviceError
            If not even one window at a time fits.
        """
        batch, found = self._fitting_batch(wanted or self._default_batch(), scale)
        seconds = found.seconds / batch
        most = self._read_ahead(found.seconds, batch)
        for ahead, cache in (
            (most, MOST), (READ_AHEAD, MOST), (READ_AHEAD, LEAST), (0, LEAST)
        ):  # fmt: skip
            for chunks in range(block_chunks(seconds), 0, -1):
                shape = replace(self._shape(chunks, scale, ahead, cache), batch=batch)
                taken = self._need(found, shape)
                if taken.within(self.budget):
                    kept = min(waiting(chunks), self._waiting_windows(taken))
                    taken = self._need(found, replace(shape, kept=kept))
                    return RunSize(
                        batch, chunks, ahead, cache, seconds, taken, kept=kept
                    )
        raise AssertionError("the smallest shape fitted a moment ago")

    def _read_ahead(self, seconds: float, batch: int) -> int:
        """Return the batches to be read ahead so that a fast device does not wait.

        Parameters
        ----------
        seconds
            Seconds of a batch on the device.
        batch
            Windows of a batch.
        """
        spec = self.profiler.checkpoint.card.spec
        pixels = sum(view.side**2 for view in spec.views.values())
        each = batch * pixels * pixel_bytes(spec, self.value_bytes)
        room = READ_AHEAD_BYTES // each
        wanted = math.ceil(READ_AHEAD_SECONDS / max(seconds, 1e-9))
        return max(READ_AHEAD, min(wanted, room, MOST_AHEAD))

    def _fitting_batch(self, batch: int, scale: float) -> tuple[int, ForwardProfile]:
        """Return the batch, halved until it fits, and the profile of its pass."""
        tight = self._shape(1, scale, 0, LEAST)
        while True:
            try:
                found = self.profiler.batch(batch)
            except DeviceError:
                if batch == 1:
                    raise
                batch = batch // 2
                continue
            least = self._need(found, replace(tight, batch=batch))
            if least.within(self.budget):
                return batch, found
            if batch == 1:
                raise budget_too_small_error(
                    "One window",
                    self.profiler.device.name,
                    least.on(self.profiler.device.id),
                    self.budget,
                    [*self._hints(), "choose a smaller model"],
                )
            batch = batch // 2

    def _default_batch(self) -> int:
        """Return the batch beyond which a device gains no speed.

        The threads of a CPU share its windows evenly.
        """
        most = MAX_BATCH[self.profiler.device.id.partition(":")[0]]
        if self.profiler.device.id != "cpu":
            return most
        threads = self.profiler.threads
        window = self.profiler.checkpoint.card.spec.window
        return threads * max(1, min(PIXELS_PER_THREAD // window**2, most // threads))

    def _waiting_windows(self, taken: MemoryNeed) -> int:
        """Return the number of windows that fit half of the remaining main memory."""
        if self.limits.waiting_windows is not None:
            return self.limits.waiting_windows
        if self.budget.device == "cpu":
            left = self.budget.device_bytes - taken.device - taken.host
        else:
            left = self.budget.host_bytes - taken.host
        card = self.profiler.checkpoint.card
        each = window_bytes(card.spec, len(card.legend))
        return int(left / 2 / ALLOCATOR_SLACK) // each

    def frames(self, grid: FrameGrid, scale: float) -> RunSize | None:
        """Return how frames of that grid are run. None if the budget is too small."""
        most = 1 if len(grid) > 1 else 0
        for rows in self._rows(grid):
            found = self.profiler.frame(grid.input_shape, rows)
            for ahead, cache in ((most, MOST), (most, LEAST), (0, LEAST)):
                taken = self._need(found, self._frame_shape(grid, scale, ahead, cache))
                if taken.within(self.budget):
                    return RunSize(1, 1, ahead, cache, found.seconds, taken, rows)
        return None

    def _rows(self, grid: FrameGrid) -> list[int | None]:
        """Return the possible numbers of rows at a time; None (all) is the first."""
        if not self.profiler.checkpoint.model.supports_banded:
            return [None]
        return [None, *(n for n in BAND_ROWS if n < grid.input_shape[0])]

    def frame_too_large(self, grid: FrameGrid, scale: float) -> DeviceError:
        """Return the error for a budget below the smallest possible frame."""
        found = self.profiler.frame(grid.input_shape, self._rows(grid)[-1])
        least = self._need(found, self._frame_shape(grid, scale, 0, LEAST))
        return budget_too_small_error(
            f"A frame of {grid.input_shape[0]} x {grid.input_shape[1]} pixels",
            self.profiler.device.name,
            least.on(self.profiler.device.id),
            self.budget,
            [*self._hints(), "choose a model that works on windows"],
        )

    def _need(self, found: ForwardProfile, shape: RunShape) -> MemoryNeed:
        card = self.profiler.checkpoint.card
        return estimate_memory(
            optimized_bytes(self.profiler.checkpoint.model, self.profiler.precision),
            card.spec,
            len(card.legend),
            found.bytes,
            shape,
            self.profiler.device.id,
        )

    def _shape(self, chunks: int, scale: float, ahead: int, cache: int) -> RunShape:
        side = chunks * STORE_CHUNK
        block = side / scale
        views = self.profiler.checkpoint.card.spec.views.values()
        return RunShape(
            ahead, cache,
            input_pixels=sum(view.side**2 for view in views),
            value_bytes=self.value_bytes,
            side=block, stored=side, merged=OPEN_BLOCKS * block**2,
            waiting_batches=started_batches(ahead), readers=reader_threads(ahead),
        )  # fmt: skip

    def _frame_shape(
        self, grid: FrameGrid, scale: float, ahead: int, cache: int
    ) -> RunShape:
        height, width = grid.input_shape
        views = self.profiler.checkpoint.card.spec.views.values()
        pixels = sum(
            height * width if view.extent == "frame" else view.side**2 for view in views
        )
        side = max(grid.input_shape)
        return RunShape(
            ahead,
            cache,
            input_pixels=pixels,
            value_bytes=self.value_bytes,
            side=side,
            stored=side * scale,
        )

    def _hints(self) -> list[str]:
        if self.profiler.precision != "fp32":
            return []
        return ["choose the precision bf16"]
