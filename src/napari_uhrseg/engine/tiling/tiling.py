"""Protocol that windows and frames share, and the choice between them."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.engine.tiling.run_pixels import WindowCount
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.types import Roi
from napari_uhrseg.types.tissue import Spans

W = TypeVar("W")
F = TypeVar("F")


class Tiling(Protocol):
    """Division of an image into windows (`WindowGrid`) or frames (`FrameGrid`).

    Code that plans, counts and describes runs needs no other distinction. `by_tiling`
    is the one place that distinguishes the two.
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

    def labelled_spans(self, region: Roi) -> tuple[Spans, Spans]:
        """Return the run pixels that each row and column of `count` labels.

        They are first and last pixel (excluded), (rows, 2) and (columns, 2) int.
        """

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


def by_tiling(
    grid: Tiling,
    windows: Callable[[WindowGrid], W],
    frames: Callable[[FrameGrid], F],
) -> W | F:
    """Return the result of the function for this kind of tiling.

    Parameters
    ----------
    grid
        Windows or frames.
    windows
        Function that is called with a grid of windows.
    frames
        Function that is called with a grid of frames.
    """
    if isinstance(grid, FrameGrid):
        return frames(grid)
    assert isinstance(grid, WindowGrid)
    return windows(grid)
