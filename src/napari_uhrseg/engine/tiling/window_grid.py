"""Grid of windows over a whole image, the same for every division into blocks."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from napari_uhrseg.types import Roi


def window_starts(
    length: int, window: int, overlap: int, placement: Literal["shift", "even"]
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


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """All windows over an image of ``shape`` run pixels, row by row."""

    shape: tuple[int, int]
    window: int
    ys: tuple[int, ...]
    xs: tuple[int, ...]

    @classmethod
    def make(
        cls,
        shape: tuple[int, int],
        window: int,
        overlap: int,
        placement: Literal["shift", "even"],
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
        return cls(shape, window, ys, xs)

    def __len__(self) -> int:
        return len(self.ys) * len(self.xs)

    def touching(self, region: Roi) -> Iterator[Roi]:
        """Yield the windows that share a pixel with a region, in grid order."""
        rows, columns = self._near(region)
        for y in self.ys[rows]:
            for x in self.xs[columns]:
                yield Roi(y, x, self.window, self.window)

    def count(self, region: Roi) -> int:
        """Return the number of windows that share a pixel with a region."""
        rows, columns = self._near(region)
        return len(self.ys[rows]) * len(self.xs[columns])

    def disjoint(self, region: Roi) -> bool:
        """Return whether the windows that touch a region do not overlap."""
        rows, columns = self._near(region)
        firsts = pairwise(self.ys[rows]), pairwise(self.xs[columns])
        return all(b - a >= self.window for pairs in firsts for a, b in pairs)

    def _near(self, region: Roi) -> tuple[slice, slice]:
        return (
            slice(
                bisect_right(self.ys, region.y - self.window),
                bisect_left(self.ys, region.bottom),
            ),
            slice(
                bisect_right(self.xs, region.x - self.window),
                bisect_left(self.xs, region.right),
            ),
        )
