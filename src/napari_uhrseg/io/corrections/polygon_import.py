"""Import of polygons from vector files, in the pixels of an image."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.corrections.geojson_import import parse_geojson
from napari_uhrseg.io.corrections.polygon_features import (
    MAX_COORDINATE,
    ClassField,
    ImportedFeature,
    ImportedPolygons,
    ParsedFeature,
    ParsedFile,
    Points,
    Rings,
    titles,
)
from napari_uhrseg.io.corrections.vector_file_import import MAGIC, parse_vector_file
from napari_uhrseg.io.image.geometry import Georeferenced
from napari_uhrseg.types import MultiPolygon, Polygon, Roi
from napari_uhrseg.units import counted, formatted, quoted

if TYPE_CHECKING:
    from rasterio.crs import CRS

Indices = npt.NDArray[np.int64]
ToPixels = Callable[[Points], Points]

# suffixes of files of polygons; other files are masks
POLYGON_SUFFIXES = (".geojson", ".json", *MAGIC)
WGS84 = "OGC:CRS84"
LON_LAT = "longitude and latitude"
PIXELS_OF_THE_IMAGE = "pixels of the image"  # CRS of exported GeoPackages
ROWS_DOWN = f"{PIXELS_OF_THE_IMAGE}, rows downwards"  # of annotation regions
_AUTHORITIES = r"(EPSG|ESRI|OGC|IAU_\d+|IGNF)"
_CODES = (
    rf"{_AUTHORITIES}:(\w+)",
    rf"urn:(?:x-)?ogc:def:crs:{_AUTHORITIES}:[\w.]*:(\w+)",
    rf"https?://www\.opengis\.net/def/crs/{_AUTHORITIES}/[\w.]+/(\w+)",
)
_WKT = r"(PROJ|GEOG|GEOD|LOCAL|COMPD|BOUND|ENG)\w*\["


def read_polygon_file(
    path: Path | str, image: Georeferenced, classes: ClassField | None = None
) -> ImportedPolygons:
    """Return the polygons of a file in the pixels of an image.

    The coordinates are in the file's coordinate system if it names one. Otherwise, if
    the image has coordinates, they are longitude and latitude (RFC 7946) or pixels
    (x, y), as QuPath writes them: the reading in which polygons overlap the image, and
    if both do, the one whose polygons are closer to the image in size. Those of a
    shapefile may also be in the system of the image. Without image coordinates they
    are pixels.

    Parameters
    ----------
    path
        GeoJSON, GeoPackage or shapefile with polygons or multipolygons. Points and
        lines are skipped and counted.
    image
        The annotated image, or its label store.
    classes
        Field with the classes; None: the fields that QuPath and GIS programs use.

    Raises
    ------
    OpenError
        If the file cannot be read, has no polygon or no such field, or all polygons lie
        beside the image.
    """
    path = Path(path)
    is_table = path.suffix.lower() in MAGIC
    parse = parse_vector_file if is_table else parse_geojson
    parsed = parse(path, classes)
    if not parsed.features:
        skipped = ", ".join(
            f"{formatted(n)} {why}" for why, n in parsed.skipped.items()
        )
        raise OpenError(
            f"{path.name} contains no polygons{f' ({skipped})' if skipped else ''}.",
            "Choose a file of polygons; points and lines have no area.",
        )
    _check_field(path, parsed)
    to_pixels, guess = _to_pixels(path, parsed, image, is_table=is_table)
    return _placed(path, parsed, image, to_pixels, guess)


def _check_field(path: Path, parsed: ParsedFile) -> None:
    """Raise OpenError if no feature has the field with the classes."""
    name = parsed.classes.name
    if name is not None and name.lower() not in {f.lower() for f in parsed.fields}:
        raise OpenError(
            f"{path.name} has no field {name!r}.",
            f"Its fields are: {quoted(sorted(parsed.fields)[:20]) or 'none'}.",
        )


def read_polygons(
    path: Path | str, image: Georeferenced
) -> list[tuple[Polygon, str | None]]:
    """Return the single polygons that touch an image, and the class name of each.

    Parameters and errors are those of `read_polygon_file`.
    """
    return read_polygon_file(path, image).polygons


def _finite_parts(feature: ParsedFeature, to_pixels: ToPixels) -> list[Polygon]:
    """Return the polygons whose points lie in the domain of the projection."""
    placed = [[to_pixels(ring) for ring in rings] for rings in feature.polygons]
    return [
        _polygon(rings)
        for rings in placed
        if all(np.isfinite(ring).all() for ring in rings)
    ]


def _all_outside_error(file: str, image: str, count: int, hint: str) -> OpenError:
    return OpenError(
        f"No pixel is affected: {counted(count, 'feature')} of {file} "
        f"{'lies' if count == 1 else 'lie'} beside {image}.",
        hint or "Check that the file belongs to the image, and its coordinate system.",
    )


def _placed(
    path: Path,
    parsed: ParsedFile,
    image: Georeferenced,
    to_pixels: ToPixels,
    guess: str,
) -> ImportedPolygons:
    inside: list[ImportedFeature] = []
    outside: list[str] = []
    whole = Roi(0, 0, *image.shape)
    for feature, title in zip(parsed.features, titles(parsed.features), strict=True):
        parts = _finite_parts(feature, to_pixels)
        if any(part.bounds.intersect(whole).area for part in parts):
            region = MultiPolygon(tuple(parts))
            inside.append(
                ImportedFeature(region, feature.class_name, title, feature.index)
            )
        else:
            outside.append(title)
    if not inside:
        hint = _exchanged_hint(parsed, image, to_pixels)
        raise _all_outside_error(path.name, image.name, len(outside), hint)
    return ImportedPolygons(tuple(inside), tuple(outside), parsed.skipped, guess)


def _exchanged_hint(
    parsed: ParsedFile, image: Georeferenced, to_pixels: ToPixels
) -> str:
    corners, first = _outer_corners(parsed)
    try:
        exchanged = to_pixels(corners[:, ::-1])
    except OpenError:  # latitudes above 90 degrees
        return ""
    if _longest_side(exchanged, first, image):
        return (
            "With x and y exchanged they lie on it: the file probably has the "
            "latitude first. Export it again with the longitude first."
        )
    return ""


def _polygon(rings: Rings) -> Polygon:
    outer, *holes = (tuple((float(y), float(x)) for x, y in r) for r in rings)
    return Polygon(outer, tuple(holes))


# -- from the file's coordinates to pixels ------------------------------------------


def _to_pixels(
    path: Path, parsed: ParsedFile, image: Georeferenced, *, is_table: bool
) -> tuple[ToPixels, str]:
    """Return the transform, and a sentence if it was guessed."""
    if parsed.crs is not None:
        if ROWS_DOWN in parsed.crs:
            return lambda points: points, ""
        if PIXELS_OF_THE_IMAGE in parsed.crs:
            return lambda points: points * (1.0, -1.0), ""
        return _by_crs(path, parsed.crs, image), ""
    if image.crs is None or image.affine is None:
        return lambda points: points, ""
    corners, first = _outer_corners(parsed)
    readings: list[tuple[str, ToPixels]] = []
    if (np.abs(corners) <= (180, 90)).all():
        readings.append((LON_LAT, _by_crs(path, WGS84, image)))
    readings.append(("pixels", lambda points: points))
    if is_table:
        own = _by_crs(path, image.crs, image)
        readings.append(("the coordinate system of the image", own))
    found: list[tuple[float, str, ToPixels]] = []
    for name, to_pixels in readings:
        try:
            side = _longest_side(to_pixels(corners), first, image)
        except OpenError:  # outside the domain of the projection
            continue
        # pixels below one pixel are degrees of another location
        if side >= 1 or (side and name != "pixels"):
            found.append((side, name, to_pixels))
    if not found:
        raise OpenError(
            f"The polygons of {path.name} do not overlap {image.name}, neither as "
            "pixels nor as longitude and latitude.",
            "If they are in another coordinate system, name it in a crs member: "
            "ogr2ogr and QGIS write one into GeoJSON 2008.",
        )
    # a few degrees around a small image could also be a few pixels in its corner
    _, name, chosen = min(found, key=lambda f: abs(math.log(f[0] / max(image.shape))))
    guess = (
        f"{path.name} names no coordinate system; its coordinates are read as {name}."
    )
    certain = len(found) == 1 and name == LON_LAT and not is_table
    return chosen, "" if certain else guess


def _outer_corners(parsed: ParsedFile) -> tuple[Points, Indices]:
    """Return the corners of all outer rings, and the first of each."""
    outer = [rings[0] for f in parsed.features for rings in f.polygons]
    first = np.cumsum([0, *(len(ring) for ring in outer[:-1])])
    return np.concatenate(outer), first


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
    # points outside the domain of a projection are infinite
    on_it = ((high > 0) & (low < (width, height)) & np.isfinite(high - low)).all(1)
    return float((high - low)[on_it].max(initial=0))


def _parse_crs(path: Path, name: str) -> "CRS":
    """Return the coordinate system of an authority's code or of WKT.

    GDAL would read other names as addresses or files.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        for pattern in _CODES:
            match = re.fullmatch(pattern, name, re.IGNORECASE)
            if match:
                return CRS.from_user_input(f"{match[1]}:{match[2]}")
        if re.match(_WKT, name):
            return CRS.from_wkt(name)
    except (CRSError, ValueError, OverflowError) as error:  # a code is not a number
        raise _unknown_crs(path, name) from error
    raise _unknown_crs(path, name)


def _unknown_crs(path: Path, name: str) -> OpenError:
    return OpenError(
        f"The coordinate system {name[:80]!r} of {path.name} is unknown.",
        "Name it by an EPSG code, or export the file again in WGS 84.",
    )


def _by_crs(path: Path, name: str, image: Georeferenced) -> ToPixels:
    from rasterio.crs import CRS
    from rasterio.transform import Affine

    source = _parse_crs(path, name)
    if image.crs is None or image.affine is None:
        raise OpenError(
            f"{path.name} has map coordinates ({name[:80]}), and {image.name} has "
            "none.",
            "Export the polygons in pixels, or open the image with its coordinates.",
        )
    target = CRS.from_wkt(image.crs)
    inverse = ~Affine(*image.affine)

    def to_pixels(points: Points) -> Points:
        if source != target:
            points = _transformed(path, name, (source, target), points)
        x, y = points.T
        with np.errstate(invalid="ignore"):  # infinite outside the domain
            return np.stack(inverse * (x, y), 1)

    return to_pixels


def _transformed(
    path: Path, name: str, systems: "tuple[CRS, CRS]", points: Points
) -> Points:
    """Return coordinates in another system; infinite outside its domain.

    Raises OpenError for coordinates that the file's system does not have.
    """
    from rasterio._err import CPLE_BaseError  # rasterio lets it through
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    reason = f"a coordinate is {np.abs(points).max(initial=0):g}"
    try:
        if (np.abs(points) <= MAX_COORDINATE).all():
            return np.stack([np.array(v) for v in transform(*systems, *points.T)], 1)
    except (CPLE_BaseError, RasterioError) as error:
        reason = str(error)
    raise OpenError(
        f"The coordinates of {path.name} do not fit its coordinate system "
        f"{name[:80]}: {reason}.",
        "Export the file again with the coordinate system of its coordinates. If they "
        "are pixels, name no system.",
    )
