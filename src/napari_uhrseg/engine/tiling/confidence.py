"""Class and confidence of each pixel: the margin between two probabilities."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_uhrseg.engine.tiling.frame_logits import LogitMaps
from napari_uhrseg.types import SOFTMAX_ROWS, Labels

LOG2E = math.log2(math.e)
CACHED_VALUES = 2**19  # logits that become labels at a time on a CPU

Floats = npt.NDArray[np.float32]


def labels_and_confidence(
    logits: LogitMaps, weights: Tensor | None = None
) -> tuple[Labels, Labels]:
    """Return class indices (from 0) and confidence, both (h, w) uint8.

    Confidence is 1 + 254 x (first - second probability), rounded. It is 255 if the
    network has a single class. Memory is that of the result, and on a CPU of three
    times ``CACHED_VALUES`` float32.

    Parameters
    ----------
    logits
        (K, h, w) float, or weighted sums of them.
    weights
        (h, w): the sums are divided by it. None: they are not divided.
    """
    height, width = logits.shape[1:]
    both = np.empty((height, width), np.uint8), np.empty((height, width), np.uint8)
    Labeller().label(logits, both, weights)
    return both


class Labeller:
    """Labels logits as `labels_and_confidence` does, in buffers that it keeps.

    It is for one thread at a time.
    """

    def __init__(self) -> None:
        self._on_cpu: _CpuLabeller | None = None

    def label(
        self,
        logits: LogitMaps,
        out: tuple[Labels, Labels],
        weights: Tensor | None = None,
    ) -> None:
        """Write class indices (from 0) and confidence into ``out``.

        Parameters
        ----------
        logits
            (K, h, w) float, or weighted sums of them.
        out
            Two (h, w) uint8 arrays.
        weights
            (h, w): the sums are divided by it. None: they are not divided.
        """
        classes, height, width = logits.shape
        labels, confidence = out
        if classes == 1:
            labels[...], confidence[...] = 0, 255
            return
        on_cpu = logits[:, :1].device.type == "cpu"
        step = labelled_rows(classes, width) if on_cpu else SOFTMAX_ROWS
        label = self._labeller(classes, min(step, height), width) if on_cpu else _label
        for row in range(0, height, step):
            rows = slice(row, row + step)
            given = None if weights is None else weights[rows]
            label(logits[:, rows], given, (labels[rows], confidence[rows]))

    def _labeller(self, classes: int, rows: int, width: int) -> "_CpuLabeller":
        if self._on_cpu is None or not self._on_cpu.fits(classes, rows, width):
            self._on_cpu = _CpuLabeller(classes, rows, width)
        return self._on_cpu


def labelled_rows(classes: int, width: int) -> int:
    """Return the rows that a CPU labels at a time, at least 1.

    Fewer make more calls, each of which may wait for the interpreter's lock; more do
    not fit the cache.
    """
    return max(1, CACHED_VALUES // max(1, classes * width))


def to_float32_planes(logits: Tensor) -> Tensor:
    """Return logits as contiguous float32, one class after another in memory."""
    return logits.to(torch.float32, memory_format=torch.contiguous_format).contiguous()


def _label(logits: Tensor, weights: Tensor | None, out: tuple[Labels, Labels]) -> None:
    """Find the class index and the confidence of each pixel, on a GPU.

    Ties go to the lower class.

    Parameters
    ----------
    logits
        (K, h, w) float logits of at least two classes, or weighted sums of them.
    weights
        (h, w): the sums are divided by it. None: they are not divided.
    out
        Two (h, w) uint8 arrays.
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
    out[0][...] = index.cpu().numpy()
    out[1][...] = (1.5 + 254 * margin).byte().cpu().numpy()


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
        self._led = np.empty((rows, width), np.uint8)

    def fits(self, classes: int, rows: int, width: int) -> bool:
        """Return whether parts of a size fit the buffers."""
        own = self._divided.shape
        return bool(own[0] == classes and own[1] >= rows and own[2] == width)

    def __call__(
        self, logits: Tensor, weights: Tensor | None, out: tuple[Labels, Labels]
    ) -> None:
        """Find the class index and the confidence of each pixel of some rows."""
        rows = logits.shape[1]
        planes = logits
        if weights is not None:
            planes = torch.div(logits, weights, out=self._divided[:, :rows])
        elif logits.dtype != torch.float32 or logits.stride(2) != 1:
            planes = self._divided[:, :rows].copy_(logits)
        self._rank(planes.numpy(), out[0])
        best, second, power, total = (
            x[:rows] for x in (self._best, self._second, self._low, self._total)
        )
        best.mul_(-LOG2E)
        powers = torch.add(best, planes, alpha=LOG2E, out=self._powers[:, :rows])
        torch.sum(powers.exp2_(), 0, out=total)
        margin = torch.add(best, second, alpha=LOG2E, out=power).exp2_()
        torch.sub(1, margin, out=margin).div_(total).mul_(254).add_(1.5)
        margin.nan_to_num_(0)  # of pixels without a window, whose weight is 0
        np.copyto(out[1], margin.numpy(), casting="unsafe")

    def _rank(self, planes: Floats, index: Labels) -> None:
        """Find the two largest values of each pixel, and the class of the largest."""
        rows = len(index)
        best, second, low = (
            x[:rows].numpy() for x in (self._best, self._second, self._low)
        )
        led = self._led[:rows]
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
