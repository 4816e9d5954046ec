"""Regions and counts of windows in run pixels."""

from math import ceil
from typing import NamedTuple

from napari_uhrseg.types import Roi


class WindowCount(NamedTuple):
    """Numbers of windows or frames of a run.

    Attributes
    ----------
    expected
        Windows or frames that are expected to run.
    at_most
        Windows or frames that run if no logits can wait for another block.
    computed_twice
        Share of the work that repeats other work, 0 or more.
    """

    expected: int
    at_most: int
    computed_twice: float


def run_region(roi: Roi, scale: float, shape: tuple[int, int]) -> Roi:
    """Return the run pixels that a level-0 rectangle gets its labels from.

    Parameters
    ----------
    roi
        Level-0 pixels.
    scale
        Level-0 pixels for each run pixel, above 0.
    shape
        Height and width of the image in run pixels.
    """
    y, x = int(roi.y / scale), int(roi.x / scale)
    bottom = min(shape[0], ceil(roi.bottom / scale))
    right = min(shape[1], ceil(roi.right / scale))
    return Roi(y, x, max(1, bottom - y), max(1, right - x))
