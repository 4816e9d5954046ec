"""Outline and stroke: the pixels inside a freehand line, and those near it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from napari_uhrseg.engine.selection.work_area import Point
from napari_uhrseg.types import BoolMask, Roi


def inside(points: Sequence[Point], shape: tuple[int, int]) -> tuple[Roi, BoolMask]:
    """Return the pixels inside a closed line, and those on it.

    Parameters
    ----------
    points
        Rows and columns of the line, at least one; it ends at its first point.
    shape
        Height and width of the work area, which clips the region.

    Returns
    -------
    Roi and (height, width) bool
        Rectangle around the line, and the pixels in it.
    """
    at = np.round(np.asarray(points)).astype(int)
    low, high = at.min(0), at.max(0) + 1
    box = Roi(*map(int, (*low, *(high - low)))).intersect(Roi(0, 0, *shape))
    picture = Image.new("1", (box.width, box.height))
    corners = [(int(x) - box.x, int(y) - box.y) for y, x in at]
    draw = ImageDraw.Draw(picture)
    draw.line([*corners, corners[0]], fill=1)
    if len(corners) > 2:
        draw.polygon(corners, fill=1)
    return box, np.asarray(picture, bool)


class BrushWay:
    """Pixels that a brush covers on its way, which may grow.

    Parameters
    ----------
    shape
        Height and width of the mask.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._picture = Image.new("1", shape[::-1])
        self._drawn = 0

    def covered(self, points: Sequence[Point], radius: float) -> BoolMask:
        """Draw the points that are new, and return the pixels of the whole way.

        Parameters
        ----------
        points
            Rows and columns of the way, at least one. They begin with those of the
            last call.
        radius
            Radius of the brush for the new points in pixels, at least 0.

        Returns
        -------
        (height, width) bool
            The covered pixels.
        """
        draw = ImageDraw.Draw(self._picture)
        way = [(float(x), float(y)) for y, x in points[max(0, self._drawn - 1) :]]
        if len(way) > 1:
            draw.line(way, fill=1, width=max(1, round(2 * radius)))
        for x, y in way[min(1, self._drawn) :]:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        self._drawn = len(points)
        found: BoolMask = np.asarray(self._picture, bool)
        return found


def stroke(points: Sequence[Point], radius: float, shape: tuple[int, int]) -> BoolMask:
    """Return the pixels that a brush covers on its way.

    Parameters
    ----------
    points
        Rows and columns of the way, at least one.
    radius
        Radius of the brush in pixels, at least 0.
    shape
        Height and width of the mask.
    """
    return BrushWay(shape).covered(points, radius)
