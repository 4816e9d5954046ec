"""GeoPackage: polygons in the image's CRS, for GIS; needs the extra ``geopackage``.

Without a CRS it lies in pixels, with y downwards negative, as GIS show rasters that
lie nowhere. Objects with over a million corners are divided: their pieces have
``divided`` set, and ``pixels`` of their own.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import exporter
from napari_uhrseg.io.export.polygons import Shape, shapes, to_crs

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

PIXELS = 'LOCAL_CS["pixels of the image",UNIT["pixel",1]]'
FIELDS = ("class", "class_id", "color", "pixels", "divided")
WAITING = 1_000_000  # corners written together


def _check(store: "LabelStore", path: Path) -> None:
    if find_spec("pyogrio") is None:
        raise ExportError(
            "GeoPackage is written with pyogrio, which is not installed.",
            'Install it with: pip install "napari-uhrseg[geopackage]".',
        )
    if path.suffix != ".gpkg":
        raise ExportError(
            f"{path.name} does not end in .gpkg, as a GeoPackage must.", "Name it so."
        )


@exporter("geopackage", title="GeoPackage", suffix=".gpkg", outlines=True, check=_check)
def write_geopackage(
    store: "LabelStore", path: Path, simplify: float
) -> Iterator[float]:
    """Polygons in a layer ``labels``."""
    from pyogrio.errors import DataLayerError, DataSourceError

    there = False
    waiting: list[Shape] = []
    corners = 0
    try:
        for batch, done in shapes(store, simplify, to_crs(store)):
            waiting += batch
            corners += sum(len(ring) for shape in batch for ring in shape.rings)
            # each write costs the same again, however little it holds
            full = corners > WAITING or len(waiting) > 5000
            if full or (done == 1.0 and (waiting or not there)):
                _append(store, path, waiting, append=there)
                there, waiting, corners = True, [], 0
            yield done
    except (DataSourceError, DataLayerError) as error:
        raise OSError(str(error)) from error


def _append(
    store: "LabelStore", path: Path, batch: list[Shape], *, append: bool
) -> None:
    import shapely
    from pyogrio.raw import write

    polygons = [shapely.Polygon(outer, holes) for outer, *holes in
                (s.rings for s in batch)]  # fmt: skip
    write(
        path,
        geometry=np.asarray(shapely.to_wkb(polygons), object),
        field_data=[
            np.array([s.label.name for s in batch], object),
            np.array([s.label.id for s in batch], np.int32),
            np.array([s.label.color for s in batch], object),
            np.array([s.pixels for s in batch], np.int64),
            np.array([s.divided for s in batch], bool),
        ],
        fields=np.array(FIELDS),
        layer="labels",
        driver="GPKG",
        geometry_type="Polygon",
        crs=store.crs or PIXELS,
        append=append,
    )
