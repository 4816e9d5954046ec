"""Regions that a user names in a text: in pixels, in map coordinates, or by a file."""

import re
from dataclasses import dataclass
from pathlib import Path

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.corrections.polygon_import import read_polygon_file
from napari_uhrseg.io.image.geometry import Georeferenced
from napari_uhrseg.types import Polygon, Region, Roi

MAP = "map:"


@dataclass(frozen=True, slots=True)
class MapRectangle:
    """Rectangle in the coordinate system of an image, in its units."""

    left: float
    bottom: float
    right: float
    top: float


def parse_region(text: str) -> Roi | MapRectangle | Path:
    """Return the rectangle of a text, or the path of a file of polygons.

    Parameters
    ----------
    text
        ``y,x,height,width`` in level-0 pixels, ``map:left,bottom,right,top`` in the
        coordinate system of an image, or a path.

    Raises
    ------
    ValueError
        If a rectangle has not four numbers, or no area.
    """
    if text.startswith(MAP):
        return _map_rectangle(text.removeprefix(MAP))
    if re.fullmatch(r"[-\d,\s]*", text) or text.count(",") == 3:
        y, x, height, width = (int(part) for part in text.split(","))
        roi = Roi(y, x, height, width)
        if not roi.area:
            raise ValueError("the rectangle has no area")
        return roi
    return Path(text)


def _map_rectangle(text: str) -> MapRectangle:
    left, bottom, right, top = (float(v) for v in text.split(","))
    if not (left < right and bottom < top):
        raise ValueError("the rectangle has no area")
    return MapRectangle(left, bottom, right, top)


def regions_of(
    where: Roi | MapRectangle | Path, image: Georeferenced
) -> tuple[list[Region], list[str]]:
    """Return regions in pixels of an image, and notes for the user about a file.

    Parameters
    ----------
    where
        The result of `parse_region`.
    image
        The image, or its label store.

    Raises
    ------
    OpenError
        If the image has no map coordinates, or the file has no polygon on it.
    """
    if isinstance(where, Roi):
        return [where], []
    if isinstance(where, MapRectangle):
        return [_on_map(where, image)], []
    found = read_polygon_file(where, image)
    return [polygon for polygon, _ in found.polygons], found.notes(image.name)


def _on_map(where: MapRectangle, image: Georeferenced) -> Region:
    """Return whole pixels for an image without rotation, otherwise a polygon."""
    if image.affine is None or image.crs is None:
        raise OpenError(
            f"{image.name} has no map coordinates.",
            "Give the region in pixels: Y,X,HEIGHT,WIDTH.",
        )
    from rasterio.transform import Affine

    to_pixels = ~Affine(*image.affine)
    corners = (
        (where.left, where.top),
        (where.right, where.top),
        (where.right, where.bottom),
        (where.left, where.bottom),
    )
    pixels = (to_pixels @ corner for corner in corners)
    # large coordinates are exact to some millionths of a pixel
    placed = Polygon(tuple((round(y, 4), round(x, 4)) for x, y in pixels))
    return placed.bounds if to_pixels.is_rectilinear else placed
