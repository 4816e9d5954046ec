"""Blocks that need no network: nodata, empty glass, outside the drawn shape."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.image import Image
from napari_uhrseg.io.polygons import inside
from napari_uhrseg.types import Mask, Region, Roi

BRIGHT = 200  # 8-bit value that empty glass reaches in every channel
DIFFERENT = 20  # 8-bit difference from the glass's colour that tissue has
TISSUE_SHARE = 0.0005  # of a block's pixels; less is dust


@dataclass(frozen=True, slots=True)
class Glass:
    """The colour of a slide's empty glass, (bands,) in image values."""

    color: npt.NDArray[np.float64]
    scale: float

    @classmethod
    def of(cls, image: Image) -> "Glass | None":
        """The glass of a slide; None where the image is no slide or has none.

        Reads the image once at some 1000 pixels a side.
        """
        if not image.is_slide or not image.rgb:
            return None
        height, width = image.shape
        factor = max(1.0, max(height, width) / 1024)
        size = max(1, round(height / factor)), max(1, round(width / factor))
        pixels = image.read(Roi(0, 0, height, width), size, (0, 1, 2))
        scale = np.iinfo(image.dtype).max / 255 if image.dtype.kind == "u" else 1.0
        values = pixels.data[pixels.valid] / scale
        bright = values[values.min(axis=1) >= BRIGHT] if len(values) else values
        if len(bright) < 0.01 * len(values) or not len(bright):
            return None
        return cls(np.median(bright, axis=0), scale)

    def only(self, data: npt.NDArray, valid: Mask) -> bool:
        """Whether (h, w, 3) pixels show glass and nothing else but dust."""
        difference = np.abs(data / self.scale - self.color).max(axis=2)
        tissue = np.count_nonzero((difference > DIFFERENT) & valid)
        return bool(tissue < TISSUE_SHARE * valid.size)


def region_mask(region: Region | None, roi: Roi) -> Mask | None:
    """Which pixels of the roi lie in the region, bool; None where all do."""
    if region is None or (isinstance(region, Roi) and region.contains(roi)):
        return None
    mask = inside(region, roi)
    return None if mask.all() else mask
