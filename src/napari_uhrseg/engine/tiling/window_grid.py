"""Where windows lie: one global grid, whatever the blocks are."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from napari_uhrseg.types import Roi


def starts(
    length: int, window: int, overlap: int, placement: Literal["shift", "even"]
) -> tuple[int, ...]:
    """First pixels of the windows that cover ``length`` pixels.

    Neighbours share at least ``overlap`` pixels. ``"shift"`` moves the last
    window inward (mmseg's slide inference); ``"even"`` spreads them (GLNet).
    A length below the window gives one window that reaches beyond the end.
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
        ys, xs = (starts(n, window, overlap, placement) for n in shape)
        return cls(shape, window, ys, xs)

    def __len__(self) -> int:
        return len(self.ys) * len(self.xs)

    def touching(self, region: Roi) -> Iterator[Roi]:
        """The windows that share a pixel with the region, in grid order."""
        rows, columns = self._near(region)
        for y in self.ys[rows]:
            for x in self.xs[columns]:
                yield Roi(y, x, self.window, self.window)

    def count(self, region: Roi) -> int:
        """How many windows ``touching`` gives."""
        rows, columns = self._near(region)
        return len(self.ys[rows]) * len(self.xs[columns])

    def disjoint(self, region: Roi) -> bool:
        """Whether no two windows that touch the region share a pixel."""
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
