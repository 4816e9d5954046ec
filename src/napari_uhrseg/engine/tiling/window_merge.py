"""Merging of overlapping windows into the labels of a block."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.tiling.confidence import (
    labels_and_confidence,
    to_float32_planes,
)
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.types import Labels, Roi


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
    grid: WindowGrid, region: Roi, classes: int, weights: Tensor, device: torch.device
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
    """
    if grid.disjoint(region) and bool((weights == 1).all()):
        return TiledLabels(region)
    return WindowMerger(region, classes, weights, device)


class TiledLabels:
    """Labels of windows that do not overlap, so that nothing must be summed.

    Memory is 2 x height x width uint8 in main memory.
    """

    def __init__(self, region: Roi) -> None:
        self.region = region
        shape = (region.height, region.width)
        self._results = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)

    def add(self, windows: Sequence[Roi], logits: Tensor) -> None:
        """Label windows by their (N, K, window, window) logits."""
        side = logits.shape[-1]
        # a GPU is faster with many windows, a CPU reads each where it is
        at_once = len(windows) if logits.is_cuda else 1
        for first in range(0, len(windows), at_once):
            some = logits[first : first + at_once]
            found = labels_and_confidence(some.transpose(0, 1).flatten(1, 2))
            for i, window in enumerate(windows[first : first + at_once]):
                common = window.intersect(self.region)
                here = common.shift(-self.region.y, -self.region.x).slices
                there = common.shift(-window.y, -window.x).slices
                for result, whole in zip(self._results, found, strict=True):
                    result[here] = whole[i * side : (i + 1) * side][there]

    def to(self, device: torch.device) -> None:
        """Do nothing: all buffers are in main memory."""

    def finish(self) -> tuple[Labels, Labels]:
        """Return class indices (from 0) and confidence; see `labels_and_confidence`."""
        return self._results


class WindowMerger:
    """Weighted sum of the logits of windows over one region of run pixels.

    Memory is (K + 1) x height x width float32 on the device. Windows must be added
    in grid order. Each pixel's sum then has the same order of terms, and the same
    bits, for every region.

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
    """

    def __init__(
        self, region: Roi, classes: int, weights: Tensor, device: torch.device
    ) -> None:
        self.region = region
        self._weights = weights.to(device)
        self._uniform = bool((weights == 1).all())
        size = (region.height, region.width)
        self._sum = torch.zeros((classes, *size), device=device)
        self._total = torch.zeros(size, device=device)

    def add(self, windows: Sequence[Roi], logits: Tensor) -> None:
        """Add the (N, K, window, window) logits of windows."""
        for window, one in zip(windows, logits, strict=True):
            common = window.intersect(self.region)
            here = common.shift(-self.region.y, -self.region.x).slices
            there = common.shift(-window.y, -window.x).slices
            weights = self._weights[there]
            part = to_float32_planes(one[(slice(None), *there)])
            # the same bits in 0.6 of the time if all weights are 1
            self._sum[(slice(None), *here)] += part if self._uniform else part * weights
            self._total[here] += weights

    def to(self, device: torch.device) -> None:
        """Move all buffers to a device."""
        self._weights = self._weights.to(device)
        self._sum, self._total = self._sum.to(device), self._total.to(device)

    def finish(self) -> tuple[Labels, Labels]:
        """Return class indices (from 0) and confidence; see `labels_and_confidence`."""
        return labels_and_confidence(self._sum, self._total)
