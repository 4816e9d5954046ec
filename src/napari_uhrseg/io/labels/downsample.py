"""Downsampling of labels and confidence by two along each axis."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types import Labels

_UNLABELLED = np.uint8(255)
_CACHED_PIXELS = 2**19  # pixels whose temporary values fit the cache of a CPU

Pairs = npt.NDArray[np.uint16]


def coarser_labels(labels: Labels) -> Labels:
    """Return the majority of the non-zero pixels; the smallest id where counts tie.

    Parameters
    ----------
    labels
        uint8 of shape (height, width), 0 for unlabelled. An odd side is padded with
        one row or column of zeros.

    Returns
    -------
    uint8 of shape (ceil(height / 2), ceil(width / 2)); 0 where all four pixels are 0.
    """
    return _by_strips(labels, _majority_of_strip)


def _majority_of_strip(labels: Labels) -> Labels:
    """Return the coarser labels of some rows."""
    upper, lower = _pairs(labels)
    chosen = upper.astype(np.uint8)
    mixed = (upper != lower) | (upper >> 8 != chosen)
    # most squares of smooth labels have one label
    if np.count_nonzero(mixed) > mixed.size // 4:
        return _majority(upper, lower)
    chosen[mixed] = _majority(upper[mixed], lower[mixed])
    return chosen


def _majority(upper: Pairs, lower: Pairs) -> Labels:
    """Return the label of squares, given their upper and lower halves."""
    # minus one wraps 0 to 255, so that unlabelled pixels sort behind all classes
    children = [
        child.astype(np.uint8) - np.uint8(1)
        for pairs in (upper, lower)
        for child in (pairs, pairs >> 8)
    ]
    for i, j in ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)):
        low, high = children[i], children[j]
        children[i], children[j] = np.minimum(low, high), np.maximum(low, high)
    first, second, third, last = children
    # a larger id wins only with more pixels than the smallest one
    third_twice = (first != second) & (third == last) & (third != _UNLABELLED)
    second_twice = (first != second) & (second == third) & (second != _UNLABELLED)
    chosen = first + (third - first) * third_twice
    chosen += (second - chosen) * second_twice
    return np.asarray(chosen + np.uint8(1), np.uint8)


def coarser_confidence(confidence: Labels) -> Labels:
    """Return the mean of the non-zero pixels, with halves rounded up.

    Parameters
    ----------
    confidence
        uint8 of shape (height, width), 0 for no prediction. An odd side is padded
        with one row or column of zeros.

    Returns
    -------
    uint8 of shape (ceil(height / 2), ceil(width / 2)); 0 where all four pixels are 0,
    otherwise at least 1.
    """
    return _by_strips(confidence, _mean_of_strip)


def _mean_of_strip(confidence: Labels) -> Labels:
    """Return the coarser confidence of some rows."""
    upper, lower = _pairs(confidence)
    total = (upper & 0xFF) + (upper >> 8) + (lower & 0xFF) + (lower >> 8)
    if confidence.size == 4 * total.size and confidence.all():
        return np.asarray((total + 2) >> 2, np.uint8)
    known = _pairs((confidence != 0).view(np.uint8))
    pairs = known[0] + known[1]
    count = np.maximum((pairs & 0xFF) + (pairs >> 8), 1)
    return np.asarray((2 * total + count) // (2 * count), np.uint8)


def _by_strips(data: Labels, coarser: Callable[[Labels], Labels]) -> Labels:
    """Return the coarser pixels of an array, computed a few rows at a time.

    Temporary arrays of whole blocks are fresh memory, which the system clears page by
    page while other threads of the process wait for its page table.
    """
    height, width = data.shape
    step = max(2, _CACHED_PIXELS // max(1, width) // 2 * 2)
    found = np.empty((-(-height // 2), -(-width // 2)), np.uint8)
    for row in range(0, height, step):
        found[row // 2 : (row + step) // 2] = coarser(data[row : row + step])
    return found


def _pairs(data: Labels) -> tuple[Pairs, Pairs]:
    """Return the upper and lower halves of each 2 x 2 square, two pixels a number.

    numpy computes several of these numbers at once, but not every second pixel.
    """
    height, width = data.shape
    if height % 2 or width % 2:
        data = np.pad(data, ((0, height % 2), (0, width % 2)))
    pairs = np.ascontiguousarray(data).view(np.uint16)
    return pairs[::2], pairs[1::2]
