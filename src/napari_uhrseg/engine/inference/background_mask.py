"""Background mask of slides, and mask of the region of a run."""

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import BoolMask, Region, Roi

BRIGHT = 200  # 8-bit value that background reaches in every channel
STEP = 8  # level-0 pixels a side of a pixel of the mask
DIFFERENT = 10  # least 8-bit difference of tissue from the background's colour
MARGIN = 2  # mask pixels around a window that must show no tissue either
TILE = 128  # mask pixels a side that are read at a time
CACHED_TILES = 256  # 4 MB


class BackgroundMask:
    """Background (no tissue) mask of a whole-slide image, from a coarse level.

    The result for a rectangle depends on the image alone, so that the same windows run
    for every division into blocks. For one thread.

    Parameters
    ----------
    image
        A slide with RGB bands.
    color
        (3,) float: colour of the background, 0 to 255.
    """

    def __init__(self, image: Image, color: npt.NDArray[np.float64]) -> None:
        self._image, self._color = image, color
        self._scale = _scale(image)
        self._tiles: OrderedDict[tuple[int, int], BoolMask] = OrderedDict()

    @classmethod
    def of(cls, image: Image) -> "BackgroundMask | None":
        """Return the mask of a slide; None for other images or without background.

        Reads the image once at about 1000 pixels a side.
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
        """Return whether a level-0 rectangle and its margin show only background.

        Raises
        ------
        ReadError
            If pixels cannot be decoded.
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

    def _tissue(self, y: int, x: int) -> BoolMask:
        """Return which pixels of a tile show tissue, (TILE, TILE) bool."""
        found = self._tiles.get((y, x))
        if found is None:
            roi = Roi(y * STEP, x * STEP, TILE * STEP, TILE * STEP)
            data, valid = self._image.read(roi, (TILE, TILE), (0, 1, 2))
            difference = np.abs(data / self._scale - self._color).max(axis=2)
            found = self._tiles[y, x] = (difference > DIFFERENT) & valid
            if len(self._tiles) > CACHED_TILES:
                self._tiles.popitem(last=False)
        self._tiles.move_to_end((y, x))
        return found


def _scale(image: Image) -> float:
    return np.iinfo(image.dtype).max / 255 if image.dtype.kind == "u" else 1.0


def region_mask(region: Region | None, roi: Roi) -> BoolMask | None:
    """Return which pixels of a rectangle lie in a region, (h, w) bool. None: all."""
    if region is None or (isinstance(region, Roi) and region.contains(roi)):
        return None
    mask = rasterize(region, roi)
    return None if mask.all() else mask


def is_outside(region: Region | None, roi: Roi) -> bool:
    """Return whether no pixel of a rectangle lies in a region (None: all do)."""
    inside = region_mask(region, roi)
    return inside is not None and not inside.any()
