"""Merging of overlapping windows into the labels of a block."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.tiling.frame_logits import LogitMaps
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.types import SOFTMAX_ROWS, Labels, Roi

LOG2E = math.log2(math.e)
CACHED_PIXELS = 2**16  # pixels whose values fit the cache of a CPU


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
        # a GPU is faster with many windows, a CPU with as many as its cache fits
        at_once = len(windows) if logits.is_cuda else max(1, CACHED_PIXELS // side**2)
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


def labels_and_confidence(
    logits: LogitMaps, weights: Tensor | None = None
) -> tuple[Labels, Labels]:
    """Return class indices (from 0) and confidence, both (h, w) uint8.

    Confidence is 1 + 254 x (first - second probability), rounded. It is 255 if the
    network has a single class.

    Parameters
    ----------
    logits
        (K, h, w) float, or weighted sums of them.
    weights
        (h, w): the sums are divided by it. None: they are not divided.
    """
    shape = (logits.shape[1], logits.shape[2])
    labels = np.empty(shape, np.uint8)
    confidence = np.full(shape, 255, np.uint8)
    on_cpu = logits[:, :1].device.type == "cpu"
    step = max(1, CACHED_PIXELS // max(1, shape[1])) if on_cpu else SOFTMAX_ROWS
    for row in range(0, shape[0], step):
        rows = slice(row, row + step)
        part = to_float32_planes(logits[:, rows])
        index, margin = top2_margin(part if weights is None else part / weights[rows])
        labels[rows] = index.cpu().numpy()
        if margin is not None:
            confidence[rows] = (1.5 + 254 * margin).byte().cpu().numpy()
    return labels, confidence


def to_float32_planes(logits: Tensor) -> Tensor:
    """Return logits as contiguous float32, one class after another in memory."""
    return logits.to(torch.float32, memory_format=torch.contiguous_format).contiguous()


def top2_margin(logits: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return each pixel's class, and the margin of its probability over the second.

    One pass over the classes with plain arithmetic. On a CPU it takes a tenth of the
    time of ``argmax`` along the first axis, which like ``where`` and ``topk`` works
    number by number. Ties go to the lower class.

    Parameters
    ----------
    logits
        (K, h, w) float32.

    Returns
    -------
    index : (h, w) uint8
    margin : (h, w) float32, 0 to 1; None for a single class
    """
    if len(logits) == 1:
        return torch.zeros_like(logits[0], dtype=torch.uint8), None
    best, second = torch.maximum(*logits[:2]), torch.minimum(*logits[:2])
    index = (logits[1] > logits[0]).view(torch.uint8)
    for k, values in enumerate(logits[2:], start=2):
        # k where it leads, else 0; the last k that led is the largest
        led = (values > best).view(torch.uint8).mul_(k)
        torch.maximum(index, led, out=index)
        torch.maximum(second, torch.minimum(values, best), out=second)
        torch.maximum(best, values, out=best)
    # torch computes powers of 2 in a third of the time of exp
    total = (logits - best).mul_(LOG2E).exp2_().sum(0)
    return index, (1 - (second - best).mul_(LOG2E).exp2_()) / total
