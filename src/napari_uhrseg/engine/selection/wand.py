"""Wand: the connected region of pixels whose colour is similar to that of one pixel.

As the wand of QuPath (Bankhead et al., Scientific Reports 2017), it smooths the picture
at the resolution of the screen, and fills small holes in the region.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import flood

from napari_uhrseg.engine.selection.work_area import Floats, Point, WorkArea
from napari_uhrseg.types import BoolMask, Roi

SIDE = 1024  # pixels per side of the part around the pixel in which the region grows
SMOOTHING = 1.0  # standard deviation in pixels
LARGEST_HOLE = 64  # pixels


@dataclass(frozen=True, slots=True)
class WandPicture:
    """Smoothed colours of a work area, and the pixels that have data."""

    colors: Floats
    valid: BoolMask


@dataclass(frozen=True, slots=True)
class WandSeed:
    """Difference of the pixels around a point from the colour at the point.

    Parameters
    ----------
    box
        Rectangle of the pixels in the work area.
    at
        Row and column of the point in the box.
    difference
        float32 of the box's shape; infinite where there is no data.
    """

    box: Roi
    at: tuple[int, int]
    difference: Floats


def wand_picture(area: WorkArea) -> WandPicture:
    """Return the smoothed colours of a work area, for `wand_seed`."""
    smooth = ndimage.gaussian_filter(area.colors, (SMOOTHING, SMOOTHING, 0))
    return WandPicture(smooth, area.valid)


def wand_seed(picture: WandPicture, at: Point) -> WandSeed:
    """Return the differences in colour from a point of the work area.

    They are limited to a square of 1024 pixels around the point, so that a region
    follows the mouse without delay.

    Parameters
    ----------
    picture
        Smoothed colours.
    at
        Row and column of the point; one outside is moved to the border.
    """
    height, width = picture.valid.shape
    y = min(max(round(at[0]), 0), height - 1)
    x = min(max(round(at[1]), 0), width - 1)
    square = Roi(y - SIDE // 2, x - SIDE // 2, SIDE, SIDE)
    box = square.intersect(Roi(0, 0, height, width))
    inside = picture.colors[box.slices]
    difference = np.zeros((box.height, box.width), np.float32)
    for band, value in enumerate(picture.colors[y, x]):
        difference += (inside[..., band] - value) ** 2
    np.sqrt(difference, out=difference)
    difference[~picture.valid[box.slices]] = np.inf
    return WandSeed(box, (y - box.y, x - box.x), difference)


def grow(seed: WandSeed, tolerance: float) -> BoolMask:
    """Return the connected region around the point, as a mask of the seed's box.

    Parameters
    ----------
    seed
        Differences in colour.
    tolerance
        Largest difference, at least 0; 1 is that of black and white.
    """
    if not np.isfinite(seed.difference[seed.at]):
        return np.zeros(seed.difference.shape, bool)
    found = flood(seed.difference <= tolerance, seed.at, connectivity=1)
    holes, _ = ndimage.label(~found)
    small = np.bincount(holes.ravel()) <= LARGEST_HOLE
    small[0] = True  # the region itself
    filled: BoolMask = small[holes]
    return filled
