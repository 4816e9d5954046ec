"""Batch, block, frame, reading ahead: the largest that keep the memory budget."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch

from napari_uhrseg.engine.network.device import Device, MemoryBudget, free_bytes
from napari_uhrseg.engine.network.optimize import prepared_bytes
from napari_uhrseg.engine.network.profiling import How, Measured
from napari_uhrseg.engine.planning.memory_estimate import (
    CACHE,
    SLACK,
    Need,
    Shape,
    need,
    too_small,
    window_bytes,
)
from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.labels.store import CHUNK
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.units import format_bytes

MAX_BATCH = {"cuda": 64, "mps": 16, "cpu": 16}
A_THREAD = 4 * 256**2  # pixels: calls weigh more in fewer, more leave the CPU's cache
AHEAD = 2  # batches, or one frame
ROWS = (1024, 512, 256, 128)  # of a frame, where it is worked in bands


@dataclass(frozen=True, slots=True)
class Sized:
    """How the work is cut up, and what one piece takes.

    ``seconds`` of one window or frame; ``block_chunks`` is 1 for frames; ``ahead`` and
    ``cache`` as in ``memory.Shape``; ``kept`` windows at most wait for the blocks that
    they reach into; ``rows`` of a frame that are worked at a time,
    None where that is all of them.
    """

    batch: int
    block_chunks: int
    ahead: int
    cache: int
    seconds: float
    need: Need
    rows: int | None = None
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Sizer:
    """Fits a checkpoint into a budget on a device."""

    how: How
    budget: MemoryBudget
    warning: str

    @classmethod
    def make(
        cls,
        checkpoint: Checkpoint,
        device: Device,
        budget: MemoryBudget,
        precision: str,
        threads: int | None,
    ) -> Self:
        """What is free bounds the budget: other programs may have taken the rest."""
        warning, free = "", free_bytes(device)
        if free < budget.device_bytes:
            warning = (
                f"Only {format_bytes(free)} of {device.name} are free: planned for "
                f"that, not for the budget of {format_bytes(budget.device_bytes)}."
            )
            budget = replace(budget, device_bytes=free)
        how = How(checkpoint, device, precision, threads or torch.get_num_threads())
        return cls(how, budget, warning)

    def windows(
        self,
        wanted: int | None,
        block_chunks: Callable[[float], int],
        waiting: Callable[[int], int],
        scale: float,
    ) -> Sized:
        """The batch first, then the block, then reading ahead and the cache.

        Windows that reach into other blocks are kept in half of what that leaves.

        Parameters
        ----------
        wanted
            The batch asked for; it is halved where it does not fit.
        block_chunks
            Side of a block in chunks by the seconds a window takes.
        waiting
            How many windows may wait for other blocks, by the side of a block.

        Raises
        ------
        DeviceError
            Not even one window at a time fits.
        """
        batch = wanted or self._batch()
        tight = self._shape(1, scale, 0, CACHE[1])
        while True:
            try:
                found = self.how.batch(batch)
            except DeviceError:
                if batch == 1:
                    raise
                batch = batch // 2
                continue
            least = self._need(found, replace(tight, batch=batch))
            if least.within(self.budget):
                break
            if batch == 1:
                raise too_small(
                    "One window",
                    self.how.device.name,
                    least.on(self.how.device.id),
                    self.budget,
                    [*self._hints(), "choose a smaller model"],
                )
            batch = batch // 2
        seconds = found.seconds / batch
        for ahead, cache in ((AHEAD, CACHE[0]), (AHEAD, CACHE[1]), (0, CACHE[1])):
            for chunks in range(block_chunks(seconds), 0, -1):
                shape = replace(self._shape(chunks, scale, ahead, cache), batch=batch)
                taken = self._need(found, shape)
                if taken.within(self.budget):
                    kept = min(waiting(chunks), self._room(taken))
                    taken = self._need(found, replace(shape, kept=kept))
                    return Sized(batch, chunks, ahead, cache, seconds, taken, kept=kept)
        raise AssertionError("the smallest shape fitted a moment ago")

    def _batch(self) -> int:
        """As many windows as are worth it; on a CPU its threads share them evenly."""
        most = MAX_BATCH[self.how.device.id.partition(":")[0]]
        if self.how.device.id != "cpu":
            return most
        threads, window = self.how.threads, self.how.checkpoint.card.spec.window
        return threads * max(1, min(A_THREAD // window**2, most // threads))

    def _room(self, taken: Need) -> int:
        """How many windows fit half of what the budget leaves in main memory."""
        if self.budget.device == "cpu":
            left = self.budget.device_bytes - taken.device - taken.host
        else:
            left = self.budget.host_bytes - taken.host
        card = self.how.checkpoint.card
        return int(left / 2 / SLACK) // window_bytes(card.spec, len(card.legend))

    def frames(self, grid: FrameGrid, scale: float) -> Sized | None:
        """How frames of that size run; None where the budget is too small."""
        most = 1 if len(grid) > 1 else 0
        for rows in self._rows(grid):
            found = self.how.frame(grid.fed, rows)
            for ahead, cache in ((most, CACHE[0]), (most, CACHE[1]), (0, CACHE[1])):
                taken = self._need(found, self._frame_shape(grid, scale, ahead, cache))
                if taken.within(self.budget):
                    return Sized(1, 1, ahead, cache, found.seconds, taken, rows)
        return None

    def _rows(self, grid: FrameGrid) -> list[int | None]:
        """All rows at once, or in bands from the widest to the thinnest."""
        if not self.how.checkpoint.model.in_bands:
            return [None]
        return [None, *(n for n in ROWS if n < grid.fed[0])]

    def frame_too_large(self, grid: FrameGrid, scale: float) -> DeviceError:
        """For the smallest frames there can be."""
        found = self.how.frame(grid.fed, self._rows(grid)[-1])
        least = self._need(found, self._frame_shape(grid, scale, 0, CACHE[1]))
        return too_small(
            f"A frame of {grid.fed[0]} x {grid.fed[1]} pixels",
            self.how.device.name,
            least.on(self.how.device.id),
            self.budget,
            [*self._hints(), "choose a model that works on windows"],
        )

    def _need(self, found: Measured, shape: Shape) -> Need:
        card = self.how.checkpoint.card
        return need(
            prepared_bytes(self.how.checkpoint.model, self.how.precision),
            card.spec,
            len(card.legend),
            found.bytes,
            shape,
            self.how.device.id,
        )

    def _shape(self, chunks: int, scale: float, ahead: int, cache: int) -> Shape:
        side = chunks * CHUNK
        return Shape(ahead, cache, block=side / scale, stored=side)

    def _frame_shape(
        self, grid: FrameGrid, scale: float, ahead: int, cache: int
    ) -> Shape:
        stored = max(grid.fed) * scale
        return Shape(ahead, cache, stored=stored, frame=grid.fed)

    def _hints(self) -> list[str]:
        if self.how.precision != "fp32":
            return []
        return ["choose the precision bf16"]
