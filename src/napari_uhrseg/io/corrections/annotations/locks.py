"""Changes of corrections that leave locked regions as they are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.types import BoolMask, Labels, Region, Roi

MakeTile = Callable[[Roi], tuple[BoolMask, Labels]]
"""Return the changed pixels of a tile, and their class ids."""


@dataclass(slots=True)
class TileChange:
    """Change that is written tile by tile.

    Attributes
    ----------
    make
        Returns the pixels of a tile.
    locked
        Regions that do not change.
    level
        Level of the pixels.
    step
        Step of the journal; 0 before the first tile.
    bounds
        Rectangle of the written tiles; None before the first one.
    """

    make: MakeTile
    locked: tuple[Region, ...] = ()
    level: int = 0
    step: int = 0
    bounds: Roi | None = None

    def tile(self, tile: Roi) -> tuple[BoolMask, Labels]:
        """Return the changed pixels of a tile outside the locked regions.

        A coarse pixel that touches a locked region does not change.
        """
        mask, ids = self.make(tile)
        for region in self.locked:
            if region.bounds.intersect(tile).area and mask.any():
                mask = mask & ~_coarse(rasterize(region, tile), self.level, mask.shape)
        return mask, ids


def _coarse(inside: BoolMask, level: int, shape: tuple[int, ...]) -> BoolMask:
    """Return the pixels of a level that contain a pixel of level 0."""
    if not level:
        return inside
    step = 1 << level
    whole = np.zeros((shape[0] * step, shape[1] * step), bool)
    whole[: inside.shape[0], : inside.shape[1]] = inside
    blocks = whole.reshape(shape[0], step, shape[1], step)
    return np.asarray(blocks.any(axis=(1, 3)), bool)
