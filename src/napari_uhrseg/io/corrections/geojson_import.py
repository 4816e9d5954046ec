"""Parser of GeoJSON files of slide viewers and GIS programs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.corrections.polygon_features import (
    ClassField,
    ParsedFile,
    Rings,
    clean_rings,
)

WITHOUT_AREA_TYPES = ("Point", "MultiPoint", "LineString", "MultiLineString")


def parse_geojson(path: Path, classes: ClassField | None = None) -> ParsedFile:
    """Return the polygons of a GeoJSON file, in its coordinates.

    Memory is some ten times the size of the file.

    Raises
    ------
    OpenError
        If the file cannot be read or is not GeoJSON.
    """
    data = _json(path)
    found = ParsedFile(classes or ClassField())
    try:
        _add(found, data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError,
            RecursionError) as error:  # fmt: skip
        cause = str(error) if isinstance(error, ValueError) else repr(error)
        raise OpenError(
            f"{path.name} is not GeoJSON: {cause}.",
            "Export the annotations as GeoJSON again.",
        ) from error
    crs = data.get("crs") if isinstance(data, dict) else None
    if crs is not None:
        found.crs = _crs_name(path, crs)
    return found


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


def _add(found: ParsedFile, data: Any) -> None:
    """Add all features of a GeoJSON object, or of a list of objects."""
    if isinstance(data, list):
        for part in data:
            _add(found, part)
        return
    if not isinstance(data, dict) or "type" not in data:
        raise ValueError("it contains an entry that is not a feature or a geometry")
    match data["type"]:
        case "FeatureCollection":
            _add(found, data["features"])
        case "Feature":
            geometry = data.get("geometry")
            parts = None if geometry is None else list(_polygons(geometry))
            found.add(parts, data.get("properties") or {}, data.get("id"))
        case _:
            found.add(_polygons(data), {})


def _polygons(geometry: Any) -> Iterator[Rings]:
    match geometry["type"]:
        case "GeometryCollection":
            for part in geometry["geometries"]:
                yield from _polygons(part)
        case "Polygon":
            yield from _polygon(geometry["coordinates"])
        case "MultiPolygon":
            for part in geometry["coordinates"]:
                yield from _polygon(part)
        case other if other not in WITHOUT_AREA_TYPES:
            raise ValueError(f"{other} is not a GeoJSON type")


def _polygon(coordinates: list[Any]) -> Iterator[Rings]:
    rings = clean_rings(
        np.array([(corner[0], corner[1]) for corner in ring], np.float64)
        for ring in coordinates
    )
    if rings:
        yield rings


def _crs_name(path: Path, crs: Any) -> str:
    try:
        return str(crs["properties"]["name"])
    except (KeyError, TypeError) as error:
        raise OpenError(
            f"{path.name} names its coordinate system in an unknown form.",
            "Export it again as GeoJSON in WGS 84.",
        ) from error
