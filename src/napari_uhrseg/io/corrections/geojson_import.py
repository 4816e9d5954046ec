"""Import of polygons from GeoJSON files of slide viewers and GIS programs."""

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
ParsedPolygon = tuple[list[Points], str | None]  # rings (x, y), outer first; class

# properties that may contain the class, by priority
_NAMES = ("classification", "class", "class_name", "label", "category")
_WGS84 = "OGC:CRS84"


def read_polygons(
    path: Path | str, image: Georeferenced
) -> list[tuple[Polygon, str | None]]:
    """Return the polygons of a GeoJSON file and the class name of each.

    The coordinates are in the file's ``crs`` if it names one. Otherwise, if the image
    has coordinates, they are longitude and latitude (RFC 7946) or pixels (x, y), as
    QuPath writes them: the reading in which polygons overlap the image, and if both
    do, the one whose polygons are closer to the image in size. Without image
    coordinates they are pixels.

    Parameters
    ----------
    path
        Features with polygons or multipolygons, whose parts are returned separately.
        Points and lines are ignored. Memory is some ten times the size of the file.
    image
        The annotated image, or its label store.

    Raises
    ------
    OpenError
        If the file is not GeoJSON, has no polygon, or its coordinates do not overlap
        an image with coordinates.
    """
    path = Path(path)
    data = _json(path)
    try:
        parsed = list(_parse_polygons(data, None))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise OpenError(
            f"{path.name} is not GeoJSON: {error!r}.",
            "Export the annotations as GeoJSON again.",
        ) from error
    if not parsed:
        raise OpenError(
            f"{path.name} contains no polygons.",
            "Choose a GeoJSON file of polygons; points and lines have no area.",
        )
    to_pixels = _to_pixels(path, data, parsed, image)
    return [(_polygon([to_pixels(r) for r in rings]), name) for rings, name in parsed]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise OpenError(
            f"{path.name} cannot be read: {error.strerror or error}.",
            "Check that the file exists and that you have read permission.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise OpenError(
            f"{path.name} is not GeoJSON: {error}.",
            "Export the annotations as GeoJSON again.",
        ) from error


def _parse_polygons(data: Any, name: str | None) -> Iterator[ParsedPolygon]:
    """Yield all polygons in a GeoJSON object, or in a list of objects."""
    if isinstance(data, list):
        for part in data:
            yield from _parse_polygons(part, name)
        return
    match data["type"]:
        case "FeatureCollection":
            yield from _parse_polygons(data["features"], name)
        case "Feature":
            if data["geometry"] is not None:
                yield from _parse_polygons(
                    data["geometry"], _class_name(data.get("properties"))
                )
        case "GeometryCollection":
            yield from _parse_polygons(data["geometries"], name)
        case "Polygon":
            yield from _parse_polygon(data["coordinates"], name)
        case "MultiPolygon":
            for part in data["coordinates"]:
                yield from _parse_polygon(part, name)
        case "Point" | "MultiPoint" | "LineString" | "MultiLineString":
            return
        case other:
            raise ValueError(f"{other} is not a GeoJSON type")


def _parse_polygon(coordinates: list[Any], name: str | None) -> Iterator[ParsedPolygon]:
    """Yield the rings without their closing corners, and without degenerate rings."""
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


def _class_name(properties: Mapping[str, Any] | None) -> str | None:
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
    path: Path, data: Any, parsed: list[ParsedPolygon], image: Georeferenced
) -> ToPixels:
    crs = data.get("crs") if isinstance(data, dict) else None
    if crs is not None:
        return _by_crs(path, _crs_name(path, crs), image)
    if image.crs is None or image.affine is None:
        return lambda points: points
    corners = np.concatenate([rings[0] for rings, _ in parsed])
    first = np.cumsum([0, *(len(rings[0]) for rings, _ in parsed[:-1])])
    found: list[tuple[float, ToPixels]] = []
    if (np.abs(corners) <= (180, 90)).all():
        to_pixels = _by_crs(path, _WGS84, image)
        with suppress(OpenError):  # outside the domain of the image's coordinates
            side = _longest_side(to_pixels(corners), first, image)
            if side:
                found.append((side, to_pixels))
    side = _longest_side(corners, first, image)
    if side >= 1:  # polygons below one pixel are degrees of another location
        found.append((side, lambda points: points))
    if not found:
        raise OpenError(
            f"The polygons of {path.name} do not overlap {image.name}, neither as "
            "pixels nor as longitude and latitude.",
            "If they are in another coordinate system, name it in a crs member: "
            "ogr2ogr and QGIS write one into GeoJSON 2008.",
        )
    # a few degrees around a small image could also be a few pixels in its corner
    return min(found, key=lambda f: abs(math.log(f[0] / max(image.shape))))[1]


def _longest_side(points: Points, first: Indices, image: Georeferenced) -> float:
    """Return the longest side of the bounding boxes that touch the image; or 0.

    Parameters
    ----------
    points
        Corners (x, y) of all polygons, in pixels.
    first
        Index of the first corner of each polygon.
    image
        The annotated image.
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
            f"{path.name} names its coordinate system in an unknown form.",
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
            f"The coordinate system {name} of {path.name} is unknown.",
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
                f"Coordinates of {path.name} are outside the domain of {name}.",
                "Export it again, and check its coordinate system.",
            )
        return moved

    return to_pixels
