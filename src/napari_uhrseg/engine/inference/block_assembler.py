"""Logits of the active blocks, and of windows that neighbouring blocks share.

The window runner adds the logits of its windows here, and takes a block's labels
when its last window is there. `window_cache` decides which windows are kept for
neighbouring blocks.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from napari_uhrseg.engine.inference.window_loader import WindowTask
from napari_uhrseg.engine.tiling.window_merge import (
    TiledLabels,
    WindowLogits,
    WindowMerger,
)
from napari_uhrseg.types import Roi


class BlockAssembler:
    """The logits that a run of windows has in memory.

    Parameters
    ----------
    make_merger
        Returns an empty merger for a block, which is given in level-0 pixels.
    """

    def __init__(
        self, make_merger: Callable[[Roi], WindowMerger | TiledLabels]
    ) -> None:
        self.make_merger = make_merger
        self._mergers: dict[Roi, WindowMerger | TiledLabels] = {}
        self._kept: dict[Roi, Tensor] = {}

    @property
    def kept(self) -> int:
        """Return the number of windows kept for neighbouring blocks."""
        return len(self._kept)

    def open(self, tasks: Iterable[WindowTask]) -> None:
        """Allocate the mergers of the blocks that windows belong to."""
        for task in tasks:
            roi = task.block.roi
            if roi not in self._mergers:
                self._mergers[roi] = self.make_merger(roi)

    def keep_shared(self, tasks: Sequence[WindowTask], logits: WindowLogits) -> None:
        """Copy the logits that neighbouring blocks need into main memory.

        It may fail half way. The caller then calls it again with the same tasks.

        Parameters
        ----------
        tasks
            The windows that have run, in order.
        logits
            (N, K, window, window), N at least the number of tasks.
        """
        for task, one in zip(tasks, logits, strict=False):  # the batch is padded
            if task.instead is not None:
                self._kept.pop(task.instead, None)
            if task.keep:
                self._kept[task.window] = one.to("cpu", copy=True)

    def add(
        self,
        tasks: Sequence[WindowTask],
        logits: WindowLogits | None,
        device: torch.device,
    ) -> None:
        """Add windows to the mergers of their blocks, in grid order.

        Parameters
        ----------
        tasks
            Windows that have run, and windows kept from another block.
        logits
            (N, K, window, window) of those that have run, in order. None if there
            are none.
        device
            Device of the mergers.
        """
        at = 0
        for (roi, kept), group in groupby(tasks, lambda t: (t.block.roi, t.kept)):
            windows = []
            for task in group:
                windows.append(task.window)
                task.block.labelled.append(task.window)
            if kept:
                for window in windows:
                    one = self._kept[window].to(device)
                    self._mergers[roi].add([window], one[None])
                continue
            assert logits is not None
            self._mergers[roi].add(windows, logits[at : at + len(windows)])
            at += len(windows)

    def drop_shared(self, windows: Iterable[Roi]) -> None:
        """Free the logits of windows that no block needs any more."""
        for window in windows:
            del self._kept[window]

    def find(self, roi: Roi) -> WindowMerger | TiledLabels | None:
        """Return the merger of a block, or None if none of its windows has run."""
        return self._mergers.get(roi)

    def take(self, roi: Roi) -> WindowMerger | TiledLabels | None:
        """Return the merger of a block and remove it here, which frees its memory."""
        return self._mergers.pop(roi, None)

    def to(self, device: torch.device) -> None:
        """Move all mergers to a device."""
        for merger in self._mergers.values():
            merger.to(device)
