"""Merging of overlapping windows into the labels of a block."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.tiling.confidence import (
    Labeller,
    labelled_rows,
    labels_and_confidence,
)
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.types import Labels, Roi

WindowLogits = Tensor | Sequence[Tensor]
"""(N, K, window, window) logits, or N of (K, window, window) from several threads."""


class SumMemory:
    """Memory of the sums of finished blocks, which later blocks use again.

    A system clears fresh memory page by page, which takes longer than all additions.
    There is never more memory than that of the blocks that are open at once.
    """

    def __init__(self) -> None:
        self._spare: list[Tensor] = []

    def zeros(self, count: int, device: torch.device) -> Tensor:
        """Return at least ``count`` numbers, float32 on a device, the first ones 0."""
        while self._spare:
            spare = self._spare.pop()
            if spare.device == device and len(spare) >= count:
                spare[:count] = 0
                return spare
        return torch.zeros(count, device=device)

    def give_back(self, memory: Tensor) -> None:
        """Keep memory for the next block."""
        self._spare.append(memory)


def window_weights(
    window: int, overlap: int, merge: Literal["uniform", "taper"]
) -> Tensor:
    """Return the weight of each pixel of a window, (window, window) float32, above 0.

    Parameters
    ----------
    window
        Side of a window in run pixels.
    overlap
        Run pixels that neighbouring windows share.
    merge
        ``"uniform"``: all weights are 1. ``"taper"``: weights fall linearly to the
        borders over the overlap, so that the weights of two neighbours sum to a
        constant.
    """
    if merge == "uniform" or overlap == 0:
        return torch.ones(window, window)
    distance = torch.arange(1, window + 1, dtype=torch.float32)
    distance = torch.minimum(distance, distance.flip(0))
    ramp = (distance / (overlap + 1)).clamp(max=1)
    return ramp[:, None] * ramp[None, :]


def make_merger(
    grid: WindowGrid,
    region: Roi,
    classes: int,
    weights: Tensor,
    device: torch.device,
    memory: SumMemory | None = None,
) -> "TiledLabels | WindowMerger":
    """Return an empty merger for the windows of a grid over a region.

    Parameters
    ----------
    grid
        The windows of the whole image.
    region
        Run pixels to be labelled.
    classes
        Number of classes K.
    weights
        (window, window) float32: weight of each pixel of a window.
    device
        Device of the logits.
    memory
        Memory of finished blocks. None: the merger has memory of its own.
    """
    if grid.disjoint(region) and bool((weights == 1).all()):
        return TiledLabels(region)
    return WindowMerger(region, classes, weights, device, memory)


class TiledLabels:
    """Labels of windows that do not overlap, so that nothing must be summed.

    Memory is 2 x height x width uint8 in main memory.
    """

    def __init__(self, region: Roi) -> None:
        self.region = region
        shape = (region.height, region.width)
        self._results = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        self._labeller = Labeller()
        self._stacked: Tensor | None = None

    def add(self, windows: Sequence[Roi], logits: WindowLogits) -> None:
        """Label windows by their (N, K, window, window) logits."""
        if not windows:
            return
        step = len(windows)
        if not logits[0].is_cuda:  # a GPU is faster with many windows
            classes, height, width = logits[0].shape
            step = max(1, labelled_rows(classes, width) // height)
        for first in range(0, len(windows), step):
            some = windows[first : first + step]
            self._label(some, logits[first : first + len(some)])

    def _label(self, windows: Sequence[Roi], logits: WindowLogits) -> None:
        """Label whole windows: their bits are then the same in each block."""
        stacked = logits[0] if len(windows) == 1 else self._stack(logits)
        found = np.empty((2, *stacked.shape[1:]), np.uint8)
        self._labeller.label(stacked, (found[0], found[1]))
        each = found.reshape(2, len(windows), -1, stacked.shape[2])
        first = 0
        for last in range(1, len(windows) + 1):
            if last == len(windows) or not self._adjoin(*windows[last - 1 : last + 1]):
                self._put(windows[first:last], each[:, first:last])
                first = last

    def _adjoin(self, left: Roi, right: Roi) -> bool:
        """Return whether windows inside the region lie beside each other."""
        beside = left.shift(0, left.width) == right
        return beside and self.region.contains(left.union(right))

    def _put(self, windows: Sequence[Roi], found: Labels) -> None:
        """Copy the results (2, n, h, w) of a row of adjoining windows."""
        whole = windows[0].union(windows[-1])
        common = whole.intersect(self.region)
        here = common.shift(-self.region.y, -self.region.x).slices
        if len(windows) > 1:  # inside the region
            size = whole.height, len(windows), windows[0].width
            for result, values in zip(self._results, found, strict=True):
                part = result[here].reshape(size, copy=False)
                part[...] = values.transpose(1, 0, 2)
            return
        there = common.shift(-whole.y, -whole.x).slices
        for result, values in zip(self._results, found, strict=True):
            result[here] = values[0][there]

    def _stack(self, logits: WindowLogits) -> Tensor:
        """Return the logits of some windows below each other, (K, N * h, w)."""
        classes, height, width = logits[0].shape
        size = (classes, len(logits) * height, width)
        if self._stacked is None or self._stacked.shape != size:
            self._stacked = logits[0].new_empty(size)
        torch.cat(list(logits), 1, out=self._stacked)
        return self._stacked

    def to(self, device: torch.device) -> None:
        """Do nothing: all buffers are in main memory."""

    def finish(self) -> tuple[Labels, Labels]:
        """Return class indices (from 0) and confidence; see `labels_and_confidence`."""
        return self._results

    def release(self) -> None:
        """Do nothing: there are no sums."""


class WindowMerger:
    """Weighted sum of the logits of windows over one region of run pixels.

    Memory is (K + 1) x height x width float32 on the device. Windows must be added
    in grid order. Each pixel's sum then has the same order of terms, and the same
    bits, for every region.

    The sums have the classes of a pixel side by side if the first logits do. Windows
    are then added as they are, in a third of the time.

    Parameters
    ----------
    region
        Run pixels to be labelled.
    classes
        Number of classes K.
    weights
        (window, window) float32 weight of each pixel of a window.
    device
        Device of the logits.
    memory
        Memory of finished blocks. None: the merger has memory of its own.
    """

    def __init__(
        self,
        region: Roi,
        classes: int,
        weights: Tensor,
        device: torch.device,
        memory: SumMemory | None = None,
    ) -> None:
        self.region = region
        self._weights = weights.to(device)
        self._uniform = bool((weights == 1).all())
        self._shape = (classes, region.height, region.width)
        self._pool = memory or SumMemory()
        self._memory = self._pool.zeros((classes + 1) * region.area, device)
        self._channels_last = False
        self._empty = True

    def add(self, windows: Sequence[Roi], logits: WindowLogits) -> None:
        """Add the (N, K, window, window) logits of windows."""
        if self._empty and len(logits):
            self._channels_last = logits[0].stride(0) == 1
            self._empty = False
        sums, total = self._sums(), self._total()
        for window, one in zip(windows, logits, strict=True):
            common = window.intersect(self.region)
            here = common.shift(-self.region.y, -self.region.x).slices
            there = common.shift(-window.y, -window.x).slices
            weights = self._weights[there]
            part = one[(slice(None), *there)]
            # the same bits in 0.6 of the time if all weights are 1
            sums[(slice(None), *here)] += part if self._uniform else part * weights
            total[here] += weights

    def to(self, device: torch.device) -> None:
        """Move all buffers to a device."""
        self._weights = self._weights.to(device)
        self._memory = self._memory.to(device)

    def finish(self) -> tuple[Labels, Labels]:
        """Return class indices (from 0) and confidence; see `labels_and_confidence`."""
        return labels_and_confidence(self._sums(), self._total())

    def release(self) -> None:
        """Give the memory of the sums to later blocks; nothing can be added then."""
        self._pool.give_back(self._memory)
        del self._memory

    def _sums(self) -> Tensor:
        """Return the (K, h, w) sums of weighted logits, a view."""
        classes, height, width = self._shape
        flat = self._memory[: classes * self.region.area]
        if self._channels_last:
            return flat.view(height, width, classes).permute(2, 0, 1)
        return flat.view(self._shape)

    def _total(self) -> Tensor:
        """Return the (h, w) sums of weights, a view."""
        first, area = self._shape[0] * self.region.area, self.region.area
        return self._memory[first : first + area].view(self._shape[1:])
