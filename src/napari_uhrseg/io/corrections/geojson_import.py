"""Polygons from GeoJSON, as slide viewers and GIS write it, in an image's pixels."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.geometry import Georeferenced
from napari_uhrseg.types import Polygon

Points = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
ToPixels = Callable[[Points], Points]
Shape = tuple[list[Points], str | None]  # rings (x, y), the outer one first; the class

# properties that hold a class, the first there is
_NAMES = ("classification", "class", "class_name", "label", "category")
_WGS84 = "OGC:CRS84"


def read_polygons(
    path: Path | str, image: Georeferenced
) -> list[tuple[Polygon, str | None]]:
    """The polygons of a GeoJSON file and the class that each names.

    Coordinates are those of the file's ``crs`` where it names one; else, on an image
    with coordinates, longitude and latitude, as GeoJSON wants, or pixels (x, y), as
    QuPath writes them: what lies on the image, and where both do, what makes the
    polygons more like it in size; else pixels.

    Parameters
    ----------
    path
        Features of polygons or multipolygons, whose parts come one by one; points
        and lines are left out. Memory: some ten times the file.
    image
        What they are drawn on: an image, or a label store.

    Raises
    ------
    OpenError
        It is no GeoJSON, holds no polygon, or its coordinates lead nowhere, which
        is not asked of pixels on an image without coordinates.
    """
    path = Path(path)
    data = _json(path)
    try:
        shapes = list(_shapes(data, None))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise OpenError(
            f"{path.name} is not GeoJSON: {error!r}.",
            "Export the annotations as GeoJSON again.",
        ) from error
    if not shapes:
        raise OpenError(
            f"{path.name} holds no polygons.",
            "Choose a GeoJSON file of polygons; points and lines have no area.",
        )
    to_pixels = _to_pixels(path, data, shapes, image)
    return [(_polygon([to_pixels(r) for r in rings]), name) for rings, name in shapes]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise OpenError(
            f"{path.name} cannot be read: {error.strerror or error}.",
            "Check that the file is there and that you may read it.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise OpenError(
            f"{path.name} is not GeoJSON: {error}.",
            "Export the annotations as GeoJSON again.",
        ) from error


def _shapes(data: Any, name: str | None) -> Iterator[Shape]:
    """All polygons in a GeoJSON object, or in a list of them."""
    if isinstance(data, list):
        for part in data:
            yield from _shapes(part, name)
        return
    match data["type"]:
        case "FeatureCollection":
            yield from _shapes(data["features"], name)
        case "Feature":
            if data["geometry"] is not None:
                yield from _shapes(data["geometry"], _class(data.get("properties")))
        case "GeometryCollection":
            yield from _shapes(data["geometries"], name)
        case "Polygon":
            yield from _shape(data["coordinates"], name)
        case "MultiPolygon":
            for part in data["coordinates"]:
                yield from _shape(part, name)
        case "Point" | "MultiPoint" | "LineString" | "MultiLineString":
            return
        case other:
            raise ValueError(f"{other} is no type of GeoJSON")


def _shape(coordinates: list[Any], name: str | None) -> Iterator[Shape]:
    """Rings without the corner that closes them; those without area left out."""
    rings = []
    for ring in coordinates:
        points = np.array([(corner[0], corner[1]) for corner in ring], np.float64)
        if not np.isfinite(points).all():
            raise ValueError("a coordinate is not a number")
        if len(points) > 1 and (points[0] == points[-1]).all():
            points = points[:-1]
        if len(points) >= 3:
            rings.append(points)
        elif not rings:
            return
    if rings:
        yield rings, name


def _class(properties: Mapping[str, Any] | None) -> str | None:
    for key in _NAMES:
        value = (properties or {}).get(key)
        if isinstance(value, Mapping):
            value = value.get("name")
        if value not in (None, ""):
            return str(value)
    return None


def _polygon(rings: list[Points]) -> Polygon:
    outer, *holes = (tuple((float(y), float(x)) for x, y in r) for r in rings)
    return Polygon(outer, tuple(holes))


# -- from the file's coordinates to pixels ------------------------------------------


def _to_pixels(
    path: Path, data: Any, shapes: list[Shape], image: Georeferenced
) -> ToPixels:
    crs = data.get("crs") if isinstance(data, dict) else None
    if crs is not None:
        return _by_crs(path, _crs_name(path, crs), image)
    if image.crs is None or image.affine is None:
        return lambda points: points
    corners = np.concatenate([rings[0] for rings, _ in shapes])
    first = np.cumsum([0, *(len(rings[0]) for rings, _ in shapes[:-1])])
    found: list[tuple[float, ToPixels]] = []
    if (np.abs(corners) <= (180, 90)).all():
        to_pixels = _by_crs(path, _WGS84, image)
        with suppress(OpenError):  # too far away for the image's coordinates
            side = _longest_side(to_pixels(corners), first, image)
            if side:
                found.append((side, to_pixels))
    side = _longest_side(corners, first, image)
    if side >= 1:  # nobody draws less than a pixel: these are degrees elsewhere
        found.append((side, lambda points: points))
    if not found:
        raise OpenError(
            f"The polygons of {path.name} lie beside {image.name}, both as pixels and "
            "as longitude and latitude.",
            "If they are in another coordinate system, name it in a crs member: "
            "ogr2ogr and QGIS write one into GeoJSON of the version of 2008.",
        )
    # a few degrees around a small image are also a few pixels in its corner
    return min(found, key=lambda f: abs(math.log(f[0] / max(image.shape))))[1]


def _longest_side(points: Points, first: Indices, image: Georeferenced) -> float:
    """Of the bounding boxes that touch the image, in pixels; 0 where none does.

    ``points`` are the corners of all polygons, ``first`` where each begins.
    """
    low, high = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)
    height, width = image.shape
    on_it = ((high > 0) & (low < (width, height))).all(1)
    return float((high - low)[on_it].max(initial=0))


def _crs_name(path: Path, crs: Any) -> str:
    try:
        return str(crs["properties"]["name"])
    except (KeyError, TypeError) as error:
        raise OpenError(
            f"{path.name} does not name its coordinate system in a known way.",
            "Export it again as GeoJSON in WGS 84.",
        ) from error


def _by_crs(path: Path, name: str, image: Georeferenced) -> ToPixels:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError
    from rasterio.transform import Affine
    from rasterio.warp import transform

    if image.crs is None or image.affine is None:
        raise OpenError(
            f"{path.name} has map coordinates ({name}), and {image.name} has none.",
            "Export the polygons in pixels, or open the image with its coordinates.",
        )
    try:
        source, target = CRS.from_user_input(name), CRS.from_wkt(image.crs)
    except CRSError as error:
        raise OpenError(
            f"The coordinate system {name} of {path.name} is not known.",
            "Export it again as GeoJSON in WGS 84.",
        ) from error
    inverse = ~Affine(*image.affine)

    def to_pixels(points: Points) -> Points:
        x, y = points.T
        if source != target:
            x, y = (np.array(v) for v in transform(source, target, x, y))
        x, y = inverse * (x, y)
        moved = np.stack([x, y], 1)
        if not np.isfinite(moved).all():
            raise OpenError(
                f"Coordinates of {path.name} lie outside what {name} can place.",
                "Export it again, and check its coordinate system.",
            )
        return moved

    return to_pixels
