"""Windows that need no network: empty glass, outside the drawn shape."""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import Mask, Region, Roi

BRIGHT = 200  # 8-bit value that empty glass reaches in every channel
STEP = 8  # level-0 pixels a side that are looked at as one
DIFFERENT = 10  # 8-bit difference from the glass's colour of such a mean over tissue
MARGIN = 2  # such steps around a window in which there must be no tissue either
TILE = 128  # steps a side that are read at a time
KEPT = 256  # tiles remembered: 4 MB


class BackgroundMask:
    """Where a slide is nothing but glass, looked up on a coarse level.

    The answer for a rectangle depends on the image alone, not on what was asked
    before, so that the same windows run whatever the blocks are. For one thread.
    """

    def __init__(self, image: Image, color: npt.NDArray[np.float64]) -> None:
        self._image, self._color = image, color
        self._scale = _scale(image)
        self._tiles: OrderedDict[tuple[int, int], Mask] = OrderedDict()

    @classmethod
    def of(cls, image: Image) -> "BackgroundMask | None":
        """The glass of a slide; None where the image is no slide or has none.

        Reads the image once at some 1000 pixels a side.
        """
        if not image.is_slide or not image.rgb:
            return None
        height, width = image.shape
        factor = max(1.0, max(height, width) / 1024)
        size = max(1, round(height / factor)), max(1, round(width / factor))
        pixels = image.read(Roi(0, 0, height, width), size, (0, 1, 2))
        values = pixels.data[pixels.valid] / _scale(image)
        bright = values[values.min(axis=1) >= BRIGHT] if len(values) else values
        if len(bright) < 0.01 * len(values) or not len(bright):
            return None
        return cls(image, np.median(bright, axis=0))

    def is_background(self, roi: Roi) -> bool:
        """Whether there is nothing but glass in level-0 pixels, and close around.

        Raises
        ------
        ReadError
            Pixels cannot be decoded.
        """
        height, width = (-(-n // STEP) for n in self._image.shape)
        steps = roi.at_scale(STEP).grow(MARGIN).intersect(Roi(0, 0, height, width))
        tiles = steps.align(TILE)
        for y in range(tiles.y, tiles.bottom, TILE):
            for x in range(tiles.x, tiles.right, TILE):
                inside = steps.intersect(Roi(y, x, TILE, TILE)).shift(-y, -x)
                if self._tissue(y, x)[inside.slices].any():
                    return False
        return True

    def _tissue(self, y: int, x: int) -> Mask:
        """Which steps of a tile hold something else than glass, (TILE, TILE)."""
        found = self._tiles.get((y, x))
        if found is None:
            roi = Roi(y * STEP, x * STEP, TILE * STEP, TILE * STEP)
            data, valid = self._image.read(roi, (TILE, TILE), (0, 1, 2))
            difference = np.abs(data / self._scale - self._color).max(axis=2)
            found = self._tiles[y, x] = (difference > DIFFERENT) & valid
            if len(self._tiles) > KEPT:
                self._tiles.popitem(last=False)
        self._tiles.move_to_end((y, x))
        return found


def _scale(image: Image) -> float:
    return np.iinfo(image.dtype).max / 255 if image.dtype.kind == "u" else 1.0


def region_mask(region: Region | None, roi: Roi) -> Mask | None:
    """Which pixels of the roi lie in the region, bool; None where all do."""
    if region is None or (isinstance(region, Roi) and region.contains(roi)):
        return None
    mask = rasterize(region, roi)
    return None if mask.all() else mask
