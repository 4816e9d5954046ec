"""Grid of windows over a whole image, the same for every division into blocks."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from napari_uhrseg.engine.tiling.run_pixels import WindowCount, run_region
from napari_uhrseg.types import Roi
from napari_uhrseg.types.model_spec import Placement
from napari_uhrseg.types.tissue import Spans
from napari_uhrseg.units import counted, formatted


def window_starts(
    length: int, window: int, overlap: int, placement: Placement
) -> tuple[int, ...]:
    """Return the first pixels of the windows that cover an axis.

    An axis shorter than the window gets one window that reaches beyond the end.

    Parameters
    ----------
    length
        Pixels of the axis.
    window
        Side of a window in pixels.
    overlap
        Pixels that neighbours share at least: 0 to ``window - 1``.
    placement
        ``"shift"`` moves the last window inward, as the sliding inference of
        MMSegmentation does. ``"even"`` spreads the windows, as GLNet does.

    Raises
    ------
    ValueError
        If the overlap is out of range.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"overlap {overlap} must be at least 0 and below {window}")
    last = length - window
    if last <= 0:
        return (0,)
    stride = window - overlap
    if placement == "shift":
        return (*range(0, last, stride), last)
    gaps = -(-last // stride)
    return tuple(round(i * last / gaps) for i in range(gaps + 1))


def _clipped(starts: tuple[int, ...], side: int, first: int, last: int) -> Spans:
    begin = np.array(starts, np.int64)
    return np.stack([np.maximum(begin, first), np.minimum(begin + side, last)], 1)


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """All windows over an image of ``shape`` run pixels, row by row; a `Tiling`."""

    shape: tuple[int, int]
    side: int
    overlap: int
    placement: Placement
    ys: tuple[int, ...]
    xs: tuple[int, ...]

    @classmethod
    def make(
        cls,
        shape: tuple[int, int],
        window: int,
        overlap: int,
        placement: Placement,
    ) -> "WindowGrid":
        """Return the windows that cover an image.

        Parameters
        ----------
        shape
            Height and width of the image in run pixels.
        window
            Side of a window in run pixels.
        overlap
            Run pixels that neighbours share at least: 0 to ``window - 1``.
        placement
            ``"shift"`` or ``"even"``, see `window_starts`.
        """
        ys, xs = (window_starts(n, window, overlap, placement) for n in shape)
        return cls(shape, window, overlap, placement, ys, xs)

    def __len__(self) -> int:
        return len(self.ys) * len(self.xs)

    def touching(self, region: Roi) -> Iterator[Roi]:
        """Yield the windows that share a pixel with a region, in grid order."""
        rows, columns = self._near(region)
        for y in self.ys[rows]:
            for x in self.xs[columns]:
                yield Roi(y, x, self.side, self.side)

    def count(self, region: Roi) -> int:
        """Return the number of windows that share a pixel with a region."""
        rows, columns = self._near(region)
        return len(self.ys[rows]) * len(self.xs[columns])

    def labelled_spans(self, region: Roi) -> tuple[Spans, Spans]:
        """Return the run pixels of the rows and columns of windows that `count` counts.

        They are first and last pixel (excluded) in the region, (n, 2) int.
        """
        rows, columns = self._near(region)
        return (
            _clipped(self.ys[rows], self.side, region.y, region.bottom),
            _clipped(self.xs[columns], self.side, region.x, region.right),
        )

    def count_run(self, area: Roi, scale: float, block: int, kept: int) -> WindowCount:
        """Return how many windows a run over an area computes.

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
        once = self.count(run_region(area, scale, self.shape))
        repeated, waiting = self.count_repeats(area, scale, block)
        spared = min(1.0, kept / waiting) if waiting else 1.0
        expected = once + round(repeated * (1 - spared))
        return WindowCount(expected, once + repeated, expected / once - 1)

    def count_repeats(self, area: Roi, scale: float, block: int) -> tuple[int, int]:
        """Return how many windows repeat, and how many wait at a time.

        A window repeats if a block needs it after another block has run it. Finished
        blocks lie together, so the windows that wait lie around them. At most they lie
        around the whole area, which has as many windows as four borders from end to
        end.

        Parameters
        ----------
        area
            Level-0 pixels to be labelled.
        scale
            Level-0 pixels for each run pixel, above 0.
        block
            Side of a block in level-0 pixels.
        """

        def count(roi: Roi) -> int:
            return self.count(run_region(roi.intersect(area), scale, self.shape))

        # windows of a block are its rows times its columns
        rows = range(area.y // block * block, area.bottom, block)
        columns = range(area.x // block * block, area.right, block)
        down = [count(Roi(y, columns[0], block, block)) for y in rows]
        along = [count(Roi(rows[0], x, block, block)) for x in columns]
        repeated = sum(down) * sum(along) // down[0] - count(area)
        borders = len(rows) + len(columns) - 2
        return repeated, -(-repeated * min(4, borders) // max(1, borders))

    def describe(self, count: int) -> str:
        """Return a number of windows as text, with the cost of their overlap."""
        text = counted(count, "window")
        if not self.overlap or len(self) == 1:
            return text
        apart = WindowGrid.make(self.shape, self.side, 0, self.placement)
        return (
            f"{text} that overlap by {self.overlap} pixels "
            f"({formatted(len(self) / len(apart), '.1f')} times as many as without "
            "overlap)"
        )

    def disjoint(self, region: Roi) -> bool:
        """Return whether the windows that touch a region do not overlap."""
        rows, columns = self._near(region)
        firsts = pairwise(self.ys[rows]), pairwise(self.xs[columns])
        return all(b - a >= self.side for pairs in firsts for a, b in pairs)

    def _near(self, region: Roi) -> tuple[slice, slice]:
        return (
            slice(
                bisect_right(self.ys, region.y - self.side),
                bisect_left(self.ys, region.bottom),
            ),
            slice(
                bisect_right(self.xs, region.x - self.side),
                bisect_left(self.xs, region.right),
            ),
        )
