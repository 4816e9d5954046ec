"""Reader of GeoPackages and shapefiles (extra ``geopackage``)."""

from collections.abc import Iterator
from importlib.util import find_spec
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

# GDAL chooses a driver by the content, so the content must be of the suffix
MAGIC = {".gpkg": b"SQLite format 3\0", ".shp": b"\x00\x00\x27\x0a"}


def parse_vector_file(path: Path, classes: ClassField | None = None) -> ParsedFile:
    """Return the polygons of a GeoPackage or a shapefile, in its coordinates.

    Raises
    ------
    OpenError
        If the file cannot be read, has several layers, or pyogrio is not installed.
    """
    if find_spec("pyogrio") is None:
        raise OpenError(
            f"{path.name} is read with pyogrio, which is not installed.",
            'Install it with: pip install "napari-uhrseg[geopackage]", or export the '
            "polygons as GeoJSON.",
        )
    _check_magic(path)
    from pyogrio import list_layers
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import read

    try:
        layers = [str(name) for name, kind in list_layers(path) if kind is not None]
        if len(layers) != 1:
            names = ", ".join(map(repr, layers)) or "none"
            raise OpenError(
                f"{path.name} has {len(layers)} layers of geometries: {names}.",
                "Export the layer with the polygons to a file of its own.",
            )
        meta, fids, geometry, columns = read(
            path, layer=layers[0], force_2d=True, return_fids=True
        )
    except (DataSourceError, DataLayerError, UnicodeDecodeError) as error:
        raise OpenError(
            f"{path.name} cannot be read: {str(error).rstrip('.')}.",
            "Export the polygons again, for example as GeoJSON.",
        ) from error
    found = ParsedFile(classes or ClassField(), crs=meta["crs"])
    for fid, blob, *values in zip(fids, geometry, *columns, strict=True):
        properties = dict(zip(meta["fields"], values, strict=True))
        parts = None if blob is None else list(_polygons(path, blob))
        found.add(parts, properties, fid)
    return found


def _check_magic(path: Path) -> None:
    wanted = MAGIC[path.suffix.lower()]
    try:
        with path.open("rb") as file:
            start = file.read(len(wanted))
    except OSError as error:
        raise OpenError(
            f"{path.name} cannot be read: {error.strerror or error}.",
            "Check that the file exists and that you have read permission.",
        ) from error
    if start != wanted:
        kind = "GeoPackage" if path.suffix.lower() == ".gpkg" else "shapefile"
        raise OpenError(
            f"{path.name} is not a {kind}.",
            "Export the polygons again, for example as GeoJSON.",
        )


def _polygons(path: Path, blob: bytes) -> Iterator[Rings]:
    import shapely

    geometry: Any = shapely.from_wkb(blob, on_invalid="ignore")
    for part in shapely.get_parts(geometry) if geometry is not None else ():
        if part.geom_type == "GeometryCollection":
            yield from _polygons(path, shapely.to_wkb(part))
        elif part.geom_type == "Polygon":
            try:
                rings = clean_rings(
                    np.asarray(ring.coords, np.float64)[:, :2]
                    for ring in (part.exterior, *part.interiors)
                )
            except ValueError as error:
                raise OpenError(
                    f"{path.name} cannot be read: {str(error).rstrip('.')}.",
                    "Export the polygons again.",
                ) from error
            if rings:
                yield rings
