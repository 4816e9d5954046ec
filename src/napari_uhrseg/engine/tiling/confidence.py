"""Class and confidence of each pixel: the margin between two probabilities."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_uhrseg.engine.tiling.frame_logits import LogitMaps
from napari_uhrseg.types import SOFTMAX_ROWS, Labels

LOG2E = math.log2(math.e)
CACHED_PIXELS = 2**15  # pixels whose values fit the cache of a CPU

Floats = npt.NDArray[np.float32]


def labels_and_confidence(
    logits: LogitMaps, weights: Tensor | None = None
) -> tuple[Labels, Labels]:
    """Return class indices (from 0) and confidence, both (h, w) uint8.

    Confidence is 1 + 254 x (first - second probability), rounded. It is 255 if the
    network has a single class. Memory is that of the result, and on a CPU of
    ``CACHED_PIXELS`` pixels' values.

    Parameters
    ----------
    logits
        (K, h, w) float, or weighted sums of them.
    weights
        (h, w): the sums are divided by it. None: they are not divided.
    """
    classes, height, width = logits.shape
    labels = np.zeros((height, width), np.uint8)
    confidence = np.full((height, width), 255, np.uint8)
    if classes == 1:
        return labels, confidence
    on_cpu = logits[:, :1].device.type == "cpu"
    step = max(1, CACHED_PIXELS // max(1, width)) if on_cpu else SOFTMAX_ROWS
    label = _CpuLabeller(classes, min(step, height), width) if on_cpu else _label
    for row in range(0, height, step):
        rows = slice(row, row + step)
        given = None if weights is None else weights[rows]
        labels[rows], confidence[rows] = label(logits[:, rows], given)
    return labels, confidence


def to_float32_planes(logits: Tensor) -> Tensor:
    """Return logits as contiguous float32, one class after another in memory."""
    return logits.to(torch.float32, memory_format=torch.contiguous_format).contiguous()


def _label(logits: Tensor, weights: Tensor | None) -> tuple[Labels, Labels]:
    """Return the class index and the confidence of each pixel, computed on a GPU.

    Ties go to the lower class.

    Parameters
    ----------
    logits
        (K, h, w) float logits of at least two classes, or weighted sums of them.
    weights
        (h, w): the sums are divided by it. None: they are not divided.
    """
    planes = to_float32_planes(logits)
    planes = planes if weights is None else planes / weights
    best, second = torch.maximum(*planes[:2]), torch.minimum(*planes[:2])
    index = (planes[1] > planes[0]).view(torch.uint8)
    for k, values in enumerate(planes[2:], start=2):
        # k where it leads, else 0; the last k that led is the largest
        led = (values > best).view(torch.uint8).mul_(k)
        torch.maximum(index, led, out=index)
        torch.maximum(second, torch.minimum(values, best), out=second)
        torch.maximum(best, values, out=best)
    total = (planes - best).mul_(LOG2E).exp2_().sum(0)
    margin = (1 - (second - best).mul_(LOG2E).exp2_()) / total
    return index.cpu().numpy(), (1.5 + 254 * margin).byte().cpu().numpy()


class _CpuLabeller:
    """Labels rows as `_label` does, in buffers that fit the cache of a CPU.

    numpy compares and converts several numbers at once, where torch does so one by
    one; torch does so for powers of 2, where numpy does not. ``argmax``, ``where`` and
    ``topk`` of torch take ten times as long.

    Parameters
    ----------
    classes
        Number of classes K, at least 2.
    rows, width
        Largest size of a part in pixels.
    """

    def __init__(self, classes: int, rows: int, width: int) -> None:
        self._divided, self._powers = torch.empty(2, classes, rows, width)
        self._best, self._second, self._low, self._total = torch.empty(4, rows, width)
        self._index, self._led = np.empty((2, rows, width), np.uint8)

    def __call__(self, logits: Tensor, weights: Tensor | None) -> tuple[Labels, Labels]:
        rows = logits.shape[1]
        planes = logits
        if weights is not None:
            planes = torch.div(logits, weights, out=self._divided[:, :rows])
        elif logits.dtype != torch.float32 or logits.stride(2) != 1:
            planes = self._divided[:, :rows].copy_(logits)
        index = self._rank(planes.numpy(), rows)
        best, second, power, total = (
            x[:rows] for x in (self._best, self._second, self._low, self._total)
        )
        best.mul_(-LOG2E)
        powers = torch.add(best, planes, alpha=LOG2E, out=self._powers[:, :rows])
        torch.sum(powers.exp2_(), 0, out=total)
        margin = torch.add(best, second, alpha=LOG2E, out=power).exp2_()
        margin.neg_().add_(1).div_(total).mul_(254).add_(1.5)
        margin.nan_to_num_(0)  # of pixels without a window, whose weight is 0
        return index, margin.numpy().astype(np.uint8)

    def _rank(self, planes: Floats, rows: int) -> Labels:
        """Find the two largest values of each pixel, and the class of the largest."""
        best, second, low = (
            x[:rows].numpy() for x in (self._best, self._second, self._low)
        )
        index, led = self._index[:rows], self._led[:rows]
        np.maximum(planes[0], planes[1], out=best)
        np.minimum(planes[0], planes[1], out=second)
        np.greater(planes[1], planes[0], out=index.view(bool))
        for k, values in enumerate(planes[2:], start=2):
            # k where it leads, else 0; the last k that led is the largest
            np.greater(values, best, out=led.view(bool))
            np.multiply(led, np.uint8(k), out=led)
            np.maximum(index, led, out=index)
            np.minimum(values, best, out=low)
            np.maximum(second, low, out=second)
            np.maximum(best, values, out=best)
        return index
