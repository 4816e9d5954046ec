"""Rectangles and polygons of pixels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Roi:
    """Rectangle of pixels, which may reach outside the image."""

    y: int
    x: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ValueError(f"a Roi cannot have a negative side: {self}")

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def bounds(self) -> "Roi":
        """The rectangle itself."""
        return self

    @property
    def center(self) -> tuple[float, float]:
        return self.y + self.height / 2, self.x + self.width / 2

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y, self.bottom), slice(self.x, self.right)

    def intersect(self, other: "Roi") -> "Roi":
        """Return the common rectangle; its area is 0 if there is none."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Roi(y, x, max(0, bottom - y), max(0, right - x))

    def union(self, other: "Roi") -> "Roi":
        """Return the smallest rectangle that contains both."""
        y, x = min(self.y, other.y), min(self.x, other.x)
        bottom, right = max(self.bottom, other.bottom), max(self.right, other.right)
        return Roi(y, x, bottom - y, right - x)

    def tiles(self, side: int) -> Iterator["Roi"]:
        """Yield its parts between multiples of ``side``, row by row."""
        if not self.area:
            return
        grid = self.align(side)
        for y in range(grid.y, grid.bottom, side):
            for x in range(grid.x, grid.right, side):
                yield Roi(y, x, side, side).intersect(self)

    def contains(self, other: "Roi") -> bool:
        return (
            self.y <= other.y
            and self.x <= other.x
            and self.bottom >= other.bottom
            and self.right >= other.right
        )

    def shift(self, dy: int, dx: int) -> "Roi":
        return Roi(self.y + dy, self.x + dx, self.height, self.width)

    def grow(self, margin: int) -> "Roi":
        return Roi(
            self.y - margin,
            self.x - margin,
            self.height + 2 * margin,
            self.width + 2 * margin,
        )

    def align(self, step: int) -> "Roi":
        """Return the smallest rectangle on multiples of ``step`` that contains it."""
        y, x = self.y // step * step, self.x // step * step
        bottom, right = -(-self.bottom // step) * step, -(-self.right // step) * step
        return Roi(y, x, bottom - y, right - x)

    def at_scale(self, step: int) -> "Roi":
        """Return the touched pixels of a level whose pixels have side ``step``."""
        wide = self.align(step)
        return Roi(
            wide.y // step, wide.x // step, wide.height // step, wide.width // step
        )

    @classmethod
    def around(cls, mask: npt.NDArray[np.bool_]) -> "Roi | None":
        """Return the smallest rectangle around all True pixels; None if there are none.

        The mask is of shape (height, width).
        """
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return None
        y, x = int(rows[0]), int(columns[0])
        return cls(y, x, int(rows[-1]) + 1 - y, int(columns[-1]) + 1 - x)


Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Polygon:
    """Polygon: its corners (y, x) in level-0 pixels, and those of its holes."""

    corners: Ring
    holes: tuple[Ring, ...] = ()

    def __post_init__(self) -> None:
        if any(len(ring) < 3 for ring in (self.corners, *self.holes)):
            raise ValueError("a polygon needs at least three corners")

    @property
    def bounds(self) -> Roi:
        ys = [y for y, _ in self.corners]
        xs = [x for _, x in self.corners]
        y, x = int(np.floor(min(ys))), int(np.floor(min(xs)))
        return Roi(y, x, int(np.ceil(max(ys))) - y, int(np.ceil(max(xs))) - x)


@dataclass(frozen=True, slots=True)
class MultiPolygon:
    """Region of one or more polygons."""

    polygons: tuple[Polygon, ...]

    def __post_init__(self) -> None:
        if not self.polygons:
            raise ValueError("a region needs at least one polygon")

    @classmethod
    def of(cls, region: "Region") -> "MultiPolygon":
        """Return a region of any kind as polygons."""
        if isinstance(region, MultiPolygon):
            return region
        if isinstance(region, Roi):
            y, x, bottom, right = region.y, region.x, region.bottom, region.right
            region = Polygon(((y, x), (y, right), (bottom, right), (bottom, x)))
        return cls((region,))

    @property
    def bounds(self) -> Roi:
        found = self.polygons[0].bounds
        for polygon in self.polygons[1:]:
            found = found.union(polygon.bounds)
        return found


Region = Roi | Polygon | MultiPolygon
