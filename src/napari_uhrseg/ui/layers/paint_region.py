"""Position and level of the paint area: plain arithmetic."""

from dataclasses import dataclass

import numpy as np

from napari_uhrseg.types import Roi

CHUNK = 1024  # pixels a side; areas lie on chunks, so that moving reads whole ones
VIEW_MARGIN = (
    128  # screen pixels around the view, so that not every move moves the area
)
MAX_PAINT_LEVEL = (
    4  # at which a brush's pixel covers 16 x 16: beyond, that is no painting
)
MIN_CHUNKS = 3  # chunks a side that an area may have on a small screen


@dataclass(frozen=True, slots=True)
class PaintRegion:
    """A rectangle that can be painted.

    Parameters
    ----------
    roi
        In level-0 pixels, on multiples of ``2**level``; it may reach outside the
        image by less than a pixel of the level.
    level
        Of the label pyramid: a pixel painted covers ``2**level`` squared.
    """

    roi: Roi
    level: int

    @property
    def shape(self) -> tuple[int, int]:
        """In pixels of the level."""
        return self.roi.height >> self.level, self.roi.width >> self.level

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of the level's array."""
        y, x = self.roi.y >> self.level, self.roi.x >> self.level
        return Roi(y, x, *self.shape).slices

    def to_image(self, box: Roi) -> Roi:
        """A rectangle of the area's pixels in level-0 pixels of the image."""
        sides = (n << self.level for n in (box.y, box.x, box.height, box.width))
        return Roi(*sides).shift(self.roi.y, self.roi.x)

    def fits(self, view: Roi, canvas: tuple[int, int], levels: int) -> bool:
        """Whether it still serves for what is in view: nothing has to move."""
        return self.roi.contains(view) and self.level == paint_level_for(
            view, canvas, levels
        )


def paint_region_for(
    view: Roi, canvas: tuple[int, int], shape: tuple[int, int], levels: int
) -> PaintRegion | None:
    """The area around what is in view; None where the view is too far out.

    Parameters
    ----------
    view
        What of the image is in view, in level-0 pixels.
    canvas
        Height and width in screen pixels.
    shape, levels
        Of the image: height and width, and of the label pyramid: how many levels.
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
    """The level whose pixels are as large as those of the screen, or a bit smaller.

    A coarser one where its pixels in view are too many to load at once; then it
    may be none that the pyramid has. Panning does not change it.
    """
    sides = list(zip((view.height, view.width), canvas, strict=True))
    ratio = max(side / screen for side, screen in sides)
    level = min(int(np.log2(max(ratio, 1))), MAX_PAINT_LEVEL, levels - 1)
    while any(s > ((_chunks(c) - 1) * CHUNK) << level for s, c in sides):
        level += 1
    return level


def _chunks(screen: int) -> int:
    """The most chunks that an area has along a side of the canvas."""
    return max(MIN_CHUNKS, -(-screen // CHUNK) + 1)
