"""Class shares of regions as columns of a copy of the regions' file (zonal statistics).

A GeoJSON file gets properties, and a GeoPackage gets fields of its layer; everything
else in the file stays as it is. A shapefile, whose field names are short, becomes a
GeoPackage.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.corrections.polygon_import import read_polygon_file
from napari_uhrseg.io.export import atomic_target
from napari_uhrseg.io.export.class_areas import AREA_COLUMNS, AreaTable, areas
from napari_uhrseg.io.export.geopackage import pyogrio_errors
from napari_uhrseg.types import Region
from napari_uhrseg.units import formatted, quoted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

GEOJSON = (".geojson", ".json")
TARGETS: Mapping[str, tuple[str, ...]] = {
    ".geojson": GEOJSON,
    ".json": GEOJSON,
    ".gpkg": (".gpkg",),
    ".shp": (".gpkg",),
}
"""Suffixes of the result for each suffix of the regions."""
LEAST_OUTSIDE = 0.0005  # share of a region beside the image that is reported

Values = dict[str, float | int]


def write_region_shares(
    store: "LabelStore",
    regions: Path | str,
    path: Path | str,
    *,
    overwrite: bool = False,
) -> Iterator[float | tuple[str, ...]]:
    """Write a copy of a file of regions with the class shares of each region.

    Parameters
    ----------
    store
        Label store, of which the displayed labels are counted.
    regions
        GeoJSON, GeoPackage or shapefile with polygons or multipolygons.
    path
        File to write: GeoJSON for GeoJSON, otherwise a GeoPackage. It may be the file
        of the regions itself.
    overwrite
        If True, an existing file is replaced once the new one is complete.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    tuple of str
        Sentences about what was left out or guessed, last.

    Raises
    ------
    ExportError
        If the target has another suffix, exists or cannot be written.
    OpenError
        If the regions cannot be read, or all lie beside the image.
    StoreError
        If part of the store is damaged.

    Notes
    -----
    For each displayed class ``share_CLASS`` is the share of the labelled area of the
    region (0 to 1), ``area_m2_CLASS`` or ``area_um2_CLASS`` the area (``pixels_CLASS``
    without a pixel size), and ``objects_CLASS`` the number of connected objects, which
    end at the border of the region. ``labelled`` is the labelled share of the region
    inside the image. Features without pixels have no values. Memory is that of `areas`
    and of the file of regions.
    """
    source, target = Path(regions), Path(path).absolute()
    check_target(source, target)
    with atomic_target(target, overwrite=overwrite) as building:
        found = read_polygon_file(source, store)
        notes = found.notes(store.name)
        if found.outside:
            notes.append(f"Without values: {quoted(found.outside)}.")
        values: dict[int, Values] = {}
        named = [(feature.region, feature.title) for feature in found.features]
        for step in measure_regions(store, named):
            if isinstance(step, float):
                yield min(0.99, step)
            else:
                columns, more = step
                indices = (feature.index for feature in found.features)
                values = dict(zip(indices, columns, strict=True))
                notes += more
        if target.suffix.lower() in GEOJSON:
            _write_geojson(source, building, values)
        else:
            _write_geopackage(source, building, values)
    yield tuple(notes)


def measure_regions(
    store: "LabelStore", regions: Sequence[tuple[Region, str]]
) -> Iterator[float | tuple[list[Values], tuple[str, ...]]]:
    """Measure the columns of regions.

    Parameters
    ----------
    store
        Label store, of which the displayed labels are counted.
    regions
        Regions in level-0 pixels, each with its name.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    tuple
        Columns of each region, and sentences about those that lie partly beside the
        image, last.
    """
    values: list[Values] = []
    notes: list[str] = []
    for number, (region, name) in enumerate(regions):
        for step in areas(store, region, name):
            if isinstance(step, float):
                yield (number + step) / len(regions)
            else:
                values.append(_values(step))
                notes += _outside(step)
    yield values, tuple(notes)


def check_target(regions: Path, target: Path) -> None:
    """Check that a file of regions can be written to a target.

    Raises
    ------
    ExportError
        If the target has a suffix of another kind of file.
    """
    allowed = TARGETS.get(regions.suffix.lower(), GEOJSON)
    if target.suffix.lower() not in allowed:
        raise ExportError(
            f"{target.name} does not end in {' or '.join(allowed)}, as the copy of "
            f"{regions.name} must.",
            f"Choose a name that ends in {allowed[0]}, or in .csv for a table.",
        )


def _outside(table: AreaTable) -> list[str]:
    if table.outside < LEAST_OUTSIDE:
        return []
    return [
        f"{formatted(table.outside, '.1%')} of {table.region!r} lies beside the image."
    ]


def _values(table: AreaTable) -> Values:
    """Return the columns of a region."""
    labelled = sum(row.area for row in table.rows)
    whole = labelled + table.unlabelled
    found: Values = {"labelled": labelled / whole if whole else 0.0}
    unit = next(iter(AREA_COLUMNS[table.unit]), None)
    taken: set[str] = set()
    for row in table.rows:
        name = row.label.name
        if name.lower() in taken:  # databases do not distinguish case
            name = f"{name}_{row.label.id}"
        taken.add(name.lower())
        found[f"share_{name}"] = row.share
        if unit is None:
            found[f"pixels_{name}"] = row.pixels
        else:
            found[f"{unit}_{name}"] = row.area
        found[f"objects_{name}"] = row.objects.count if row.objects else 0
    return found


def _write_geojson(source: Path, path: Path, values: Mapping[int, Values]) -> None:
    data = json.loads(source.read_text("utf-8-sig"))
    for index, feature in enumerate(_features(data)):
        if index in values and feature.get("type") == "Feature":
            own = feature.get("properties") or {}
            feature["properties"] = {**own, **values[index]}
    path.write_text(json.dumps(data), encoding="utf-8")


def _features(data: Any) -> Iterator[dict[str, Any]]:
    """Yield the features and bare geometries of a file, in the order of the import."""
    if isinstance(data, list):
        for part in data:
            yield from _features(part)
    elif data["type"] == "FeatureCollection":
        yield from _features(data["features"])
    else:
        yield data


def _write_geopackage(source: Path, path: Path, values: Mapping[int, Values]) -> None:
    from pyogrio import list_layers
    from pyogrio.raw import read

    with pyogrio_errors(path):
        if source.suffix.lower() == ".gpkg":
            shutil.copyfile(source, path)
        else:
            _convert(source, path)
        layer = next(str(name) for name, kind in list_layers(path) if kind is not None)
        _, fids, _, _ = read(path, layer=layer, columns=[], return_fids=True)
    rows = {int(fids[index]): found for index, found in values.items()}
    try:
        connection = sqlite3.connect(path)
        try:
            with connection:
                _add_fields(connection, layer, rows)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def _convert(source: Path, path: Path) -> None:
    """Write the layer of a shapefile to a GeoPackage."""
    from pyogrio.raw import read, write

    meta, _, geometry, columns = read(source, force_2d=True)
    kind = meta["geometry_type"]  # a shapefile does not distinguish multipolygons
    write(
        path,
        geometry=geometry,
        field_data=columns,
        fields=meta["fields"],
        layer=source.stem,
        driver="GPKG",
        geometry_type="MultiPolygon" if kind == "Polygon" else kind,
        promote_to_multi=True,
        crs=meta["crs"],
    )


def _add_fields(
    connection: sqlite3.Connection, layer: str, rows: Mapping[int, Values]
) -> None:
    """Add the fields of the values to a layer, and set them by feature id."""
    # triggers of the spatial index name functions that only GDAL has; they run for
    # changes of geometries, of which there are none here
    for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
        connection.create_function(name, 1, lambda _: 0)
    table = _quoted(layer)
    info = connection.execute(f"PRAGMA table_info({table})").fetchall()
    there = {str(row[1]).lower() for row in info}
    key = next(str(row[1]) for row in info if row[5])
    first = next(iter(rows.values()), {})
    for name, value in first.items():
        if name.lower() not in there:
            kind = "INTEGER" if isinstance(value, int) else "REAL"
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {_quoted(name)} {kind}")
    if first:
        setters = _listed(f"{_quoted(name)} = ?" for name in first)
        connection.executemany(
            f"UPDATE {table} SET {setters} WHERE {_quoted(key)} = ?",
            [(*found.values(), fid) for fid, found in rows.items()],
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts)
