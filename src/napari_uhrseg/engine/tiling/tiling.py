"""Protocol that windows and frames share."""

from math import ceil
from typing import Literal, NamedTuple, Protocol

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


class Tiling(Protocol):
    """Division of an image into windows (`WindowGrid`) or frames (`FrameGrid`).

    Code that plans, counts and describes runs needs no other distinction.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width of the image in run pixels."""

    @property
    def side(self) -> int:
        """Return the side of a window, or the largest of a frame, in run pixels."""

    @property
    def overlap(self) -> int:
        """Return the run pixels that neighbouring windows or frames share."""

    @property
    def placement(self) -> Literal["shift", "even", "frame"]:
        """Return the placement of windows, or ``"frame"`` for frames."""

    def __len__(self) -> int: ...

    def count(self, region: Roi) -> int:
        """Return the number of windows or frames that label a region of run pixels."""

    def count_run(self, area: Roi, scale: float, block: int, kept: int) -> WindowCount:
        """Return how many windows or frames a run over an area computes.

        Parameters
        ----------
        area
            Level-0 pixels to be labelled.
        scale
            Level-0 pixels for each run pixel, above 0.
        block
            Side of a block in level-0 pixels.
        kept
            Windows whose logits may wait for their next block.
        """

    def describe(self, count: int) -> str:
        """Return a number of windows or frames as text."""


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
