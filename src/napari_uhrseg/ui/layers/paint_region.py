"""Position and level of the paint area, without napari and Qt."""

from dataclasses import dataclass

import numpy as np

from napari_uhrseg.types import Roi

CHUNK = 1024  # pixels per side; regions consist of whole chunks to read each once
VIEW_MARGIN = 128  # screen pixels around the view, so that small moves keep the region
MAX_PAINT_LEVEL = (
    4  # a brush pixel covers 16 x 16 image pixels; coarser painting is useless
)
MIN_CHUNKS = 3  # chunks per side that a region may have on a small screen


@dataclass(frozen=True, slots=True)
class PaintRegion:
    """Rectangle of the image that can be painted at one level.

    Parameters
    ----------
    roi
        Rectangle in level-0 pixels, on multiples of ``2**level``. It may extend
        beyond the image by less than a pixel of the level.
    level
        Level of the label pyramid. A painted pixel covers ``2**level`` squared
        level-0 pixels.
    """

    roi: Roi
    level: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels of the level."""
        return self.roi.height >> self.level, self.roi.width >> self.level

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices of the region in the array of the level."""
        y, x = self.roi.y >> self.level, self.roi.x >> self.level
        return Roi(y, x, *self.shape).slices

    def to_image(self, box: Roi) -> Roi:
        """Return a rectangle of this region in level-0 pixels of the image."""
        sides = (n << self.level for n in (box.y, box.x, box.height, box.width))
        return Roi(*sides).shift(self.roi.y, self.roi.x)

    def fits(self, view: Roi, canvas: tuple[int, int], levels: int) -> bool:
        """Return whether the region still fits the view, so that it need not move.

        Parameters
        ----------
        view
            Visible rectangle of the image in level-0 pixels.
        canvas
            Height and width of the canvas in screen pixels.
        levels
            Number of levels of the label pyramid.
        """
        return self.roi.contains(view) and self.level == paint_level_for(
            view, canvas, levels
        )


def paint_region_for(
    view: Roi, canvas: tuple[int, int], shape: tuple[int, int], levels: int
) -> PaintRegion | None:
    """Return the region to paint around the view.

    Parameters
    ----------
    view
        Visible rectangle of the image in level-0 pixels.
    canvas
        Height and width of the canvas in screen pixels.
    shape
        Height and width of the image in level-0 pixels.
    levels
        Number of levels of the label pyramid.

    Returns
    -------
    PaintRegion or None
        Region to paint. None if the view is zoomed out too far.
    """
    level = paint_level_for(view, canvas, levels)
    if level > min(MAX_PAINT_LEVEL, levels - 1):
        return None
    step = 1 << level
    image = Roi(0, 0, *shape)
    wide = view.grow(VIEW_MARGIN * step).intersect(image).align(CHUNK * step)
    most = [(_chunks(side) * CHUNK) << level for side in canvas]
    if wide.height > most[0] or wide.width > most[1]:
        wide = view.align(CHUNK * step)
    return PaintRegion(wide.intersect(image).align(step), level)


def paint_level_for(view: Roi, canvas: tuple[int, int], levels: int) -> int:
    """Return the level to paint at.

    The pixels of this level are at most as large as screen pixels. The level is
    coarser if its pixels in view are too many to load at once; then the pyramid may
    lack it. Panning does not change the level.

    Parameters
    ----------
    view
        Visible rectangle of the image in level-0 pixels.
    canvas
        Height and width of the canvas in screen pixels.
    levels
        Number of levels of the label pyramid.
    """
    sides = list(zip((view.height, view.width), canvas, strict=True))
    ratio = max(side / screen for side, screen in sides)
    level = min(int(np.log2(max(ratio, 1))), MAX_PAINT_LEVEL, levels - 1)
    while any(s > ((_chunks(c) - 1) * CHUNK) << level for s, c in sides):
        level += 1
    return level


def _chunks(screen: int) -> int:
    """Return the largest number of chunks that a region has along a canvas side."""
    return max(MIN_CHUNKS, -(-screen // CHUNK) + 1)
