"""Overlapping logits of windows become the labels of a block."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.logits import Maps
from napari_uhrseg.types import Labels, Roi

ROWS = 256  # rows finished at a time: bounds the memory of softmax


def window_weights(
    window: int, overlap: int, merge: Literal["uniform", "taper"]
) -> Tensor:
    """Weight of each pixel of a window, (window, window) float32, all above 0.

    ``taper`` falls linearly to the borders over the overlap, so that two
    neighbours' weights sum to a constant.
    """
    if merge == "uniform" or overlap == 0:
        return torch.ones(window, window)
    distance = torch.arange(1, window + 1, dtype=torch.float32)
    distance = torch.minimum(distance, distance.flip(0))
    ramp = (distance / (overlap + 1)).clamp(max=1)
    return ramp[:, None] * ramp[None, :]


class Merger:
    """Sums weighted logits of windows over one region of run pixels.

    Holds (K + 1) x height x width float32 on the device. Windows must be added
    in grid order: then each pixel's sum has the same order of terms, and the same
    bits, whatever the region is.
    """

    def __init__(
        self, region: Roi, classes: int, weights: Tensor, device: torch.device
    ) -> None:
        self.region = region
        self._weights = weights.to(device)
        size = (region.height, region.width)
        self._sum = torch.zeros((classes, *size), device=device)
        self._total = torch.zeros(size, device=device)

    def add(self, window: Roi, logits: Tensor) -> None:
        """Add the (K, window, window) logits of one window."""
        common = window.intersect(self.region)
        here = common.shift(-self.region.y, -self.region.x).slices
        there = common.shift(-window.y, -window.x).slices
        weights = self._weights[there]
        self._sum[(slice(None), *here)] += logits[(slice(None), *there)] * weights
        self._total[here] += weights

    def to(self, device: torch.device) -> None:
        """Go on there."""
        self._weights = self._weights.to(device)
        self._sum, self._total = self._sum.to(device), self._total.to(device)

    def finish(self) -> tuple[Labels, Labels]:
        """Class indices (from 0) and confidence, as :func:`finished` gives them."""
        return finished(self._sum, self._total)


def finished(logits: Maps, weights: Tensor | None = None) -> tuple[Labels, Labels]:
    """Class indices (from 0) and confidence, both uint8 of shape (h, w).

    Confidence is 1 + 254 x (first - second probability), rounded; 255 where the
    network knows a single class.

    Parameters
    ----------
    logits
        (K, h, w) float32, or weighted sums of them.
    weights
        (h, w): what the sums are divided by.
    """
    shape = (logits.shape[1], logits.shape[2])
    labels = np.empty(shape, np.uint8)
    confidence = np.full(shape, 255, np.uint8)
    for row in range(0, shape[0], ROWS):
        rows = slice(row, row + ROWS)
        part = logits[:, rows] if weights is None else logits[:, rows] / weights[rows]
        index, margin = best_two(part)
        labels[rows] = index.cpu().numpy()
        if margin is not None:
            confidence[rows] = (1 + 254 * margin).round().byte().cpu().numpy()
    return labels, confidence


def best_two(logits: Tensor) -> tuple[Tensor, Tensor | None]:
    """Each pixel's class, and its lead in probability over the second.

    One pass over the classes: several times as quick on a CPU as ``argmax`` and
    ``topk`` along the first axis, and ties go to the lower class everywhere.

    Parameters
    ----------
    logits
        (K, h, w) float32.

    Returns
    -------
    index : (h, w) uint8
    margin : (h, w) float32, 0 to 1; None for a single class
    """
    best = logits[0].clone()
    second = torch.full_like(best, -torch.inf)
    index = torch.zeros_like(best, dtype=torch.uint8)
    for k, values in enumerate(logits[1:], start=1):
        index.masked_fill_(values > best, k)
        torch.maximum(second, torch.minimum(values, best), out=second)
        torch.maximum(best, values, out=best)
    if len(logits) == 1:
        return index, None
    total = (logits - best).exp_().sum(0)
    return index, (1 - (second - best).exp_()) / total
