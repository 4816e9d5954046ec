"""Downsampling of labels and confidence by two along each axis."""

import numpy as np

from napari_uhrseg.types import Labels

_UNLABELLED = np.uint8(255)


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
    # minus one wraps 0 to 255, so that unlabelled pixels sort behind all classes
    children = [child - np.uint8(1) for child in _children(labels)]
    for i, j in ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)):
        low, high = children[i], children[j]
        children[i], children[j] = np.minimum(low, high), np.maximum(low, high)
    first, second, third, last = children
    chosen = np.where((third == last) & (third != _UNLABELLED), third, first)
    chosen = np.where((second == third) & (second != _UNLABELLED), second, chosen)
    chosen = np.where(first == second, first, chosen)
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
    children = _children(confidence)
    total = np.zeros(children[0].shape, np.uint16)
    count = np.zeros(children[0].shape, np.uint16)
    for child in children:
        total += child
        count += child != 0
    count = np.maximum(count, 1)
    return np.asarray((2 * total + count) // (2 * count), np.uint8)


def _children(data: Labels) -> list[Labels]:
    """Return the four pixels of each 2 x 2 square, as four arrays of half the size."""
    height, width = data.shape
    if height % 2 or width % 2:
        data = np.pad(data, ((0, height % 2), (0, width % 2)))
    return [data[y::2, x::2] for y in (0, 1) for x in (0, 1)]
