"""Work area: the pixels of a part of an image on which a tool selects regions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import BoolMask, Roi

Floats = npt.NDArray[np.float32]
Point = tuple[float, float]

MAX_PIXELS = 2**21  # pixels of a work area, whatever the size of the image
MAX_BANDS = 4  # bands that the tools look at


@dataclass(frozen=True)
class WorkArea:
    """Pixels of a rectangle of an image, at the level of the painting or coarser.

    Parameters
    ----------
    roi
        Rectangle in level-0 pixels, on multiples of ``2**level``.
    level
        One pixel of the work area covers ``2**level x 2**level`` pixels of level 0.
    pixels
        (height, width, bands) float32: 0 is displayed as black and 1 as white.
    valid
        bool, (height, width); False outside the image and where it has no data.
    """

    roi: Roi
    level: int
    pixels: Floats
    valid: BoolMask

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels of the work area."""
        height, width = self.valid.shape
        return height, width

    @cached_property
    def colors(self) -> Floats:
        """The pixels in a space where distances are differences in colour.

        It is CIELAB divided by 100 for three bands, else the pixels.
        """
        if self.pixels.shape[-1] != 3:
            return self.pixels
        from skimage.color import rgb2lab

        lab: Floats = (rgb2lab(self.pixels) / 100).astype(np.float32)
        return lab


def work_level(roi: Roi, level: int) -> int:
    """Return the level of a work area: the finest one with `MAX_PIXELS` or fewer.

    Parameters
    ----------
    roi
        Rectangle in level-0 pixels.
    level
        Level of the painting. The result is not finer.
    """
    while roi.at_scale(1 << level).area > MAX_PIXELS:
        level += 1
    return level


def read_work_area(
    image: Image,
    roi: Roi,
    level: int,
    bands: Sequence[int],
    limits: Sequence[tuple[float, float]],
) -> WorkArea:
    """Read the work area of a rectangle.

    Parameters
    ----------
    image
        The image.
    roi
        Rectangle in level-0 pixels, which is enlarged to pixels of the level.
    level
        Level of the work area; see `work_level`.
    bands
        Displayed bands, of which the first `MAX_BANDS` are read.
    limits
        Values of each band that are displayed as black and white.

    Raises
    ------
    ReadError
        If pixels cannot be decoded.
    """
    step = 1 << level
    wide = roi.align(step)
    size = wide.height // step, wide.width // step
    found = image.read(wide, size, tuple(bands)[:MAX_BANDS])
    low, high = np.array(limits[:MAX_BANDS], np.float32).T
    pixels = (found.data.astype(np.float32) - low) / np.maximum(high - low, 1e-12)
    pixels = np.nan_to_num(np.clip(pixels, 0, 1))
    return WorkArea(wide, level, pixels.astype(np.float32), found.valid)
