"""Class and confidence of each pixel: the margin between two probabilities."""

import math

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.tiling.frame_logits import LogitMaps
from napari_uhrseg.types import SOFTMAX_ROWS, Labels

LOG2E = math.log2(math.e)
CACHED_PIXELS = 2**16  # pixels whose values fit the cache of a CPU


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
