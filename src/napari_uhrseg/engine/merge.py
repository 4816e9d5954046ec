"""Overlapping logits of windows become the labels of a block."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_uhrseg.types import Roi

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

    def finish(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Class indices (from 0) and confidence, both uint8 of the region's shape.

        Confidence is 1 + 254 x (first - second probability), rounded; 255 where
        the network knows a single class.
        """
        shape = (self.region.height, self.region.width)
        labels = np.empty(shape, np.uint8)
        confidence = np.full(shape, 255, np.uint8)
        for row in range(0, shape[0], ROWS):
            rows = slice(row, row + ROWS)
            logits = self._sum[:, rows] / self._total[rows]
            labels[rows] = logits.argmax(0).to(torch.uint8).cpu().numpy()
            if logits.shape[0] > 1:
                top = logits.softmax(0).topk(2, dim=0).values
                margin = (1 + 254 * (top[0] - top[1])).round()
                confidence[rows] = margin.to(torch.uint8).cpu().numpy()
        return labels, confidence
