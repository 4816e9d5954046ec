"""GeoJSON, in three kinds.

``geojson``: RFC 7946: longitude and latitude on WGS 84 to 1e-9 degrees, outer rings
counter-clockwise, no ``crs`` member. Nothing is cut at the date line.

``geojson-projected``: coordinates in the image's own CRS, to 0.1 mm, with the
``crs`` member of the 2008 draft, which GDAL and QGIS read and RFC 7946 dropped.

``qupath``: pixels of the full image, y downwards, each object an annotation with
its classification's name and colour: drag it onto the image in QuPath.

Objects with over a million corners are divided; on the map their pieces have the
property ``divided``.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import exporter
from napari_uhrseg.io.export.polygons import (
    Place,
    Points,
    Shape,
    check_placed,
    shapes,
    to_crs,
)

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

LON_LAT = "GeoJSON (longitude, latitude)"
PROJECTED = "GeoJSON (image's CRS)"
PIECE = 10_000  # corners made into text at once


@exporter(
    "geojson",
    title=LON_LAT,
    suffix=".geojson",
    outlines=True,
    check=lambda store, _: check_placed(store, LON_LAT),
)
def write_lon_lat(store: "LabelStore", path: Path, simplify: float) -> Iterator[float]:
    """Polygons as RFC 7946 has them."""
    place = to_lon_lat(store)
    found = shapes(store, simplify, place, bends=True)
    yield from _write(path, {}, found, _class, partial(_on_the_map, digits=9))


@exporter(
    "geojson-projected",
    title=PROJECTED,
    suffix=".geojson",
    outlines=True,
    check=lambda store, _: check_placed(store, PROJECTED),
)
def write_projected(
    store: "LabelStore", path: Path, simplify: float
) -> Iterator[float]:
    """Polygons in the image's CRS."""
    name, digits = _crs_name(store)
    crs = {"type": "name", "properties": {"name": name}}
    found = shapes(store, simplify, to_crs(store))
    prepared = partial(_on_the_map, digits=digits)
    yield from _write(path, {"crs": crs}, found, _class, prepared)


@exporter("qupath", title="GeoJSON for QuPath", suffix=".geojson", outlines=True)
def write_qupath(store: "LabelStore", path: Path, simplify: float) -> Iterator[float]:
    """Polygons as QuPath's annotations."""
    found = shapes(store, simplify, lambda corners: corners)
    yield from _write(path, {}, found, _annotation)


def to_lon_lat(store: "LabelStore") -> Place:
    """Places corners at longitude and latitude. Raises ExportError where it cannot."""
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    own, crs = to_crs(store), rasterio.CRS.from_wkt(store.crs)
    wgs84 = rasterio.CRS.from_epsg(4326)

    def place(corners: Points) -> Points:
        try:
            placed = np.stack(transform(crs, wgs84, *own(corners).T), 1)
        except (RasterioError, RuntimeError) as error:
            raise _off_the_map(store, str(error)) from error
        if not np.isfinite(placed).all():
            raise _off_the_map(store, "some of it lies outside the projection")
        return placed

    return place


def _off_the_map(store: "LabelStore", why: str) -> ExportError:
    return ExportError(
        f"{store.path.name} cannot be placed by longitude and latitude: {why}.",
        "Check the image's CRS, or export in the image's own CRS.",
    )


def _crs_name(store: "LabelStore") -> tuple[str, int]:
    """Its name as a URN, or its WKT; and the digits that are 0.1 mm or finer."""
    import rasterio

    crs = rasterio.CRS.from_wkt(store.crs)
    authority = crs.to_authority()
    name = "urn:ogc:def:crs:{}::{}".format(*authority) if authority else crs.to_wkt()
    return name, 9 if crs.is_geographic else 4


def _write(
    path: Path,
    members: dict[str, Any],
    batches: Iterator[tuple[list[Shape], float]],
    properties: Callable[[Shape], dict[str, Any]],
    prepared: Callable[[Iterable[Points]], Iterator[Points]] = iter,
) -> Iterator[float]:
    """Ring by ring, and a ring piece by piece: one may have millions of corners."""
    head = json.dumps({"type": "FeatureCollection", **members, "features": []})
    with path.open("w", encoding="utf-8") as file:
        file.write(head[:-2])
        between = "\n"
        for batch, done in batches:
            for shape in batch:
                start = '{"type":"Feature","geometry":{"type":"Polygon","coordinates":['
                file.write(between + start)
                for i, ring in enumerate(prepared(shape.rings)):
                    file.write("," * (i > 0) + "[")
                    for first in range(0, len(ring), PIECE):
                        part = _json(ring[first : first + PIECE].tolist())
                        file.write("," * (first > 0) + part[1:-1])
                    file.write("]")
                file.write(']},"properties":' + _json(properties(shape)) + "}")
                between = ",\n"
            yield done
        file.write("\n]}\n")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _on_the_map(rings: Iterable[Points], digits: int) -> Iterator[Points]:
    """Outer rings counter-clockwise, and no more digits than mean something."""
    clockwise: bool | None = None
    for ring in rings:
        if clockwise is None:
            x, y = ring.T
            clockwise = float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) < 0
        yield np.round(ring[::-1] if clockwise else ring, digits)


def _class(shape: Shape) -> dict[str, Any]:
    return {
        "class": shape.label.name,
        "class_id": shape.label.id,
        "color": shape.label.color,
        "pixels": shape.pixels,
        "divided": shape.divided,
    }


def _annotation(shape: Shape) -> dict[str, Any]:
    label = shape.label
    return {
        "objectType": "annotation",
        "classification": {"name": label.name, "color": list(label.rgb)},
    }
