"""Exporters of GeoJSON in three variants.

``geojson``: RFC 7946, with longitude and latitude on WGS 84 to 1e-9 degrees, outer
rings counter-clockwise, no ``crs`` member. Polygons are not cut at the antimeridian.

``geojson-projected``: coordinates in the image's own CRS, to 0.1 mm, with the
``crs`` member of the 2008 draft. GDAL and QGIS read it; RFC 7946 removed it.

``qupath``: pixels of the full image, y downwards. Each object is an annotation with
the name and colour of its classification, and has its area and number of pixels as
measurements. Drag the file onto the image in QuPath.

Objects with over a million corners are divided. Their pieces have the property
``divided`` in the first two variants.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export.pixel_area import Unit, pixel_area
from napari_uhrseg.io.export.polygons import (
    CoordinateTransform,
    Points,
    PolygonFeature,
    area_field,
    check_georeferenced,
    polygon_features,
    to_crs,
)
from napari_uhrseg.io.export.qgis_style import write_style_beside
from napari_uhrseg.io.export.registry import Format, WriteOptions, register_exporter

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

LON_LAT = "GeoJSON (longitude, latitude)"
PROJECTED = "GeoJSON (image's CRS)"
QUPATH_AREAS: dict[Unit, str] = {
    "px": "Area px^2", "µm²": "Area µm^2", "m²": "Area m^2",
}  # fmt: skip
TEXT_CORNERS = 10_000  # corners formatted as text at once


def _write_lon_lat(
    store: "LabelStore", path: Path, options: WriteOptions
) -> Iterator[float]:
    """Write polygons as GeoJSON with longitude and latitude (RFC 7946)."""
    place = _to_lon_lat(store)
    found = polygon_features(store, options, place, bends=True)
    properties = partial(_class, area=area_field(store))
    yield from _write(path, {}, found, properties, partial(_on_the_map, digits=9))


def _write_projected(
    store: "LabelStore", path: Path, options: WriteOptions
) -> Iterator[float]:
    """Write polygons as GeoJSON in the CRS of the image."""
    name, digits = crs_name(store)
    crs = {"type": "name", "properties": {"name": name}}
    found = polygon_features(store, options, to_crs(store))
    prepared = partial(_on_the_map, digits=digits)
    properties = partial(_class, area=area_field(store))
    yield from _write(path, {"crs": crs}, found, properties, prepared)


def _write_qupath(
    store: "LabelStore", path: Path, options: WriteOptions
) -> Iterator[float]:
    """Write polygons as GeoJSON annotations for QuPath, in level-0 pixels."""
    found = polygon_features(store, options, lambda corners: corners)
    units = QUPATH_AREAS[pixel_area(store).unit]
    yield from _write(path, {}, found, partial(_annotation, area=units))


def _to_lon_lat(store: "LabelStore") -> CoordinateTransform:
    """Return a transform from pixels to longitude and latitude.

    The transform raises ExportError for points outside the projection.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError  # rasterio lets it through
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    own, crs = to_crs(store), rasterio.CRS.from_wkt(store.crs)
    wgs84 = rasterio.CRS.from_epsg(4326)

    def place(corners: Points) -> Points:
        try:
            placed = np.stack(transform(crs, wgs84, *own(corners).T), 1)
        except (CPLE_BaseError, RasterioError, RuntimeError) as error:
            raise _off_the_map(store, str(error)) from error
        if not np.isfinite(placed).all():
            raise _off_the_map(store, "part of it is outside the projection")
        return placed

    return place


def _off_the_map(store: "LabelStore", why: str) -> ExportError:
    return ExportError(
        f"{store.path.name} cannot be transformed to longitude and latitude: {why}.",
        "Check the image's CRS, or export in the image's own CRS.",
    )


def crs_name(store: "LabelStore") -> tuple[str, int]:
    """Return the CRS as a URN or WKT, and the decimals for 0.1 mm."""
    import rasterio

    crs = rasterio.CRS.from_wkt(store.crs)
    authority = crs.to_authority()
    name = "urn:ogc:def:crs:{}::{}".format(*authority) if authority else crs.to_wkt()
    return name, 9 if crs.is_geographic else 4


def _write_feature(
    file: TextIO, rings: Iterable[Points], properties: dict[str, Any]
) -> None:
    """Write ring by ring in pieces, since a ring may have millions of corners."""
    file.write('{"type":"Feature","geometry":{"type":"Polygon","coordinates":[')
    for i, ring in enumerate(rings):
        file.write("," * (i > 0) + "[")
        for first in range(0, len(ring), TEXT_CORNERS):
            part = _json(ring[first : first + TEXT_CORNERS].tolist())
            file.write("," * (first > 0) + part[1:-1])
        file.write("]")
    file.write(']},"properties":' + _json(properties) + "}")


def _write(
    path: Path,
    members: dict[str, Any],
    batches: Iterator[tuple[list[PolygonFeature], float]],
    properties: Callable[[PolygonFeature], dict[str, Any]],
    prepared: Callable[[Iterable[Points]], Iterator[Points]] = iter,
) -> Iterator[float]:
    """Write a collection of features, and yield the finished fraction."""
    head = json.dumps({"type": "FeatureCollection", **members, "features": []})
    with path.open("w", encoding="utf-8") as file:
        file.write(head[:-2])
        between = "\n"
        for batch, done in batches:
            for shape in batch:
                file.write(between)
                _write_feature(file, prepared(shape.rings), properties(shape))
                between = ",\n"
            yield done
        file.write("\n]}\n")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _on_the_map(rings: Iterable[Points], digits: int) -> Iterator[Points]:
    """Yield rings with the outer one counter-clockwise, and rounded."""
    clockwise: bool | None = None
    for ring in rings:
        if clockwise is None:
            x, y = ring.T
            clockwise = float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) < 0
        yield np.round(ring[::-1] if clockwise else ring, digits)


def _class(shape: PolygonFeature, area: str | None) -> dict[str, Any]:
    found = {
        "class": shape.label.name,
        "class_id": shape.label.id,
        "color": shape.label.color,
        "pixels": shape.pixels,
        "divided": shape.divided,
    }
    return found if area is None else {**found, area: float(f"{shape.area:.10g}")}


def _annotation(shape: PolygonFeature, area: str) -> dict[str, Any]:
    """Return the properties of QuPath's `PathObject`, with its measurements."""
    label = shape.label
    return {
        "objectType": "annotation",
        "classification": {"name": label.name, "color": list(label.rgb)},
        "measurements": {area: float(f"{shape.area:.10g}"), "Pixels": shape.pixels},
    }


_GeoJson = partial(Format, suffix=".geojson", other_suffixes=(".json",), is_vector=True)
register_exporter(
    _GeoJson(
        "geojson",
        LON_LAT,
        write=_write_lon_lat,
        save_suffix=".geojson",
        without_crs="qupath",
        check=lambda store, _: check_georeferenced(store, LON_LAT),
        beside=write_style_beside,
    )
)
register_exporter(
    _GeoJson(
        "geojson-projected",
        PROJECTED,
        write=_write_projected,
        check=lambda store, _: check_georeferenced(store, PROJECTED),
        beside=write_style_beside,
    )
)
register_exporter(_GeoJson("qupath", "GeoJSON for QuPath", write=_write_qupath))
