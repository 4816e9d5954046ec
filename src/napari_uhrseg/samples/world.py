"""Procedural orthophoto: a function of seed and pixel, at any size and level.

Nothing is stored. Each region at each power-of-two downsample is computed on its own.
It agrees with every other region that overlaps it.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_uhrseg.samples.paint import Painter
from napari_uhrseg.types import LabelClass, Legend

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE = 512
"""Side in pixels of the tiles of the global grid; regions are cut out of tiles."""

CLASSES = Legend(
    tuple(
        LabelClass(i + 1, name, color, i + 1)
        for i, (name, color) in enumerate(
            [
                ("farmland", "#d9cf7a"),
                ("forest", "#2e7d32"),
                ("lake", "#1565c0"),
                ("river", "#4fc3f7"),
                ("road", "#616161"),
                ("building", "#d84315"),
                ("garden", "#9ccc65"),
                ("fallow", "#a1887f"),
                ("building site", "#f9a825"),
                ("orchard", "#8e24aa"),
                ("allotments", "#ec407a"),
            ]
        )
    )
)
"""The world's classes; a pixel always has one of them, so 0 does not occur."""


@lru_cache(maxsize=48)
def _tile(
    seed: int, row: int, col: int, downsample: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    painter = Painter(seed)
    if downsample == 1:
        rgb, labels = painter.tile(row * TILE, col * TILE, TILE, TILE, 1)
        out = rgb.astype(np.uint8)
    else:
        # Four samples per pixel are cheap antialiasing; quarters fit the cache.
        out = np.empty((TILE, TILE, 3), np.uint8)
        labels = np.empty((TILE, TILE), np.uint8)
        half = TILE // 2
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            top, left = (2 * row + i) * TILE, (2 * col + j) * TILE
            rgb, finer = painter.tile(top, left, TILE, TILE, downsample // 2)
            place = np.s_[i * half : (i + 1) * half, j * half : (j + 1) * half]
            out[place] = rgb.reshape(half, 2, half, 2, 3).mean((1, 3))
            labels[place] = finer[::2, ::2]
    out.flags.writeable = labels.flags.writeable = False
    return out, labels


class World:
    """Endless landscape with a visible part of size `shape`.

    Parameters
    ----------
    seed : int
        Seed of the world; different seeds give unrelated worlds.
    shape : (int, int)
        Height and width in level-0 pixels.
    """

    def __init__(self, seed: int, shape: tuple[int, int]) -> None:
        self.seed = seed
        self.shape = shape

    def render(
        self, y: int, x: int, height: int, width: int, downsample: int = 1
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Compute a region; it may reach outside `shape`.

        Parameters
        ----------
        y, x, height, width : int
            The region in pixels of the level.
        downsample : int
            Level-0 pixels per pixel of the level, a power of two.

        Returns
        -------
        rgb : (height, width, 3) uint8
        labels : (height, width) uint8
            Ids of `CLASSES`.

        Raises
        ------
        ValueError
            If `downsample` is not a power of two or a side is negative.
        """
        if downsample < 1 or downsample & (downsample - 1):
            raise ValueError(f"downsample must be a power of two, not {downsample}")
        if height < 0 or width < 0:
            raise ValueError(f"a region cannot be {height} x {width} pixels")
        rgb = np.empty((height, width, 3), np.uint8)
        labels = np.empty((height, width), np.uint8)
        for row in range(y // TILE, -(-(y + height) // TILE)):
            ys = slice(max(y, row * TILE), min(y + height, (row + 1) * TILE))
            for col in range(x // TILE, -(-(x + width) // TILE)):
                xs = slice(max(x, col * TILE), min(x + width, (col + 1) * TILE))
                tile = _tile(self.seed, row, col, downsample)
                target = (
                    slice(ys.start - y, ys.stop - y),
                    slice(xs.start - x, xs.stop - x),
                )
                source = (
                    slice(ys.start - row * TILE, ys.stop - row * TILE),
                    slice(xs.start - col * TILE, xs.stop - col * TILE),
                )
                rgb[target], labels[target] = tile[0][source], tile[1][source]
        return rgb, labels


class WorldLevel:
    """Level of a world, as an array that is computed when it is read.

    It has the interface that ``dask.array.from_array`` requires. Indices are integers
    and slices. Slices with another step than 1 are applied to the computed pixels.

    Parameters
    ----------
    world : World
        The world.
    downsample : int
        Level-0 pixels per pixel of the level, a power of two.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3
    chunks = (TILE, TILE, 3)

    def __init__(self, world: World, downsample: int = 1) -> None:
        self.world = world
        self.downsample = downsample
        height, width = (-(-n // downsample) for n in world.shape)
        self.shape = (height, width, 3)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Compute the indexed pixels.

        Returns
        -------
        uint8 array
            Pixels in the shape that numpy indexing gives.

        Raises
        ------
        IndexError
            If an index lies outside or there are too many indices.
        """
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in index:
            i = index.index(Ellipsis)
            fill = (slice(None),) * (self.ndim - len(index) + 1)
            index = index[:i] + fill + index[i + 1 :]
        if len(index) > self.ndim:
            raise IndexError(f"too many indices for an image: {index}")
        index += (slice(None),) * (self.ndim - len(index))
        spans: list[tuple[int, int]] = []
        rest: list[slice | int] = []
        for given, size in zip(index[:2], self.shape[:2], strict=True):
            if isinstance(given, slice):
                along = range(*given.indices(size))
                low = min(along, default=0)
                high = max(along, default=-1) + 1
                spans.append((low, max(low, high)))
                step = along.step
                rest.append(slice(None) if step == 1 else slice(None, None, step))
            else:
                at = operator.index(given)
                if not -size <= at < size:
                    raise IndexError(f"index {at} is outside a side of {size}")
                spans.append((at % size, at % size + 1))
                rest.append(0)
        (top, bottom), (left, right) = spans
        rgb, _ = self.world.render(
            top, left, bottom - top, right - left, self.downsample
        )
        out: NDArray[np.uint8] = rgb[(*rest, index[2])]
        return out

    def __array__(
        self, dtype: Any = None, copy: bool | None = None
    ) -> NDArray[np.uint8]:
        return np.asarray(self[:], dtype)


def virtual_levels(seed: int, size: int = 100_000) -> list[WorldLevel]:
    """Return the levels of a square world, finest first, each half the one before.

    Parameters
    ----------
    seed : int
        Seed of the world.
    size : int
        Side in pixels of the finest level, at least 1.

    Returns
    -------
    list of WorldLevel
        The last one has at most 1024 pixels a side. No pixel is computed.

    Raises
    ------
    ValueError
        If `size` is less than 1.
    """
    if size < 1:
        raise ValueError(f"a world needs a size of at least 1, not {size}")
    world = World(seed, (size, size))
    levels = [WorldLevel(world, 1)]
    while levels[-1].shape[0] > 1024:
        levels.append(WorldLevel(world, levels[-1].downsample * 2))
    return levels
