"""Exporter of polygons as a GeoPackage (extra ``geopackage``).

The coordinates are in the CRS of the image, for GIS programs.

Without a CRS, coordinates are pixels with y negative downwards, as GIS programs show
rasters without coordinates. Objects with over a million corners are divided: their
pieces have ``divided`` set, and ``pixels`` of their own.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export.polygons import (
    PolygonFeature,
    area_field,
    polygon_features,
    to_crs,
)
from napari_uhrseg.io.export.qgis_style import add_layer_style
from napari_uhrseg.io.export.registry import (
    Format,
    WriteOptions,
    register_exporter,
    shown_legend,
)
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

PIXELS = 'LOCAL_CS["pixels of the image",UNIT["pixel",1]]'
LAYER = "labels"
PROBE_BYTES = 2**20
FIELDS = ("class", "class_id", "color", "pixels", "divided")


def check_pyogrio() -> None:
    """Raise ExportError if pyogrio is not installed."""
    if find_spec("pyogrio") is None:
        raise ExportError(
            "GeoPackage is written with pyogrio, which is not installed.",
            'Install it with: pip install "napari-uhrseg[geopackage]".',
        )


def _check(store: "LabelStore", path: Path) -> None:
    check_pyogrio()
    if path.suffix.lower() != ".gpkg":
        raise ExportError(
            f"{path.name} does not end in .gpkg, as a GeoPackage must.",
            "Add the suffix .gpkg to the name.",
        )


def _write_geopackage(
    store: "LabelStore", path: Path, options: WriteOptions
) -> Iterator[float]:
    """Write polygons to the layer ``labels`` of a GeoPackage."""
    yield from write_layer([("", store)], path, options, shown_legend(store))


def write_layer(
    stores: "Sequence[tuple[str, LabelStore]]",
    path: Path,
    options: WriteOptions,
    legend: Legend,
) -> Iterator[float]:
    """Write polygons of one or more stores to the layer ``labels`` of a GeoPackage.

    Parameters
    ----------
    stores
        Name of each image, and its label store. All have one coordinate system. If
        there are names, the field ``image`` contains them.
    path
        File to create.
    options
        Tolerance of the simplification, and limits.
    legend
        Classes of the style.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    """
    there = False
    for number, (name, store) in enumerate(stores):
        waiting: list[PolygonFeature] = []
        corners = 0
        with pyogrio_errors(path):
            for batch, done in polygon_features(store, options, to_crs(store)):
                waiting += batch
                corners += sum(len(ring) for shape in batch for ring in shape.rings)
                # each write has a constant cost, however little it writes
                full = corners > options.limits.batch_corners or len(waiting) > 5000
                if full or (done == 1.0 and (waiting or not there)):
                    _append(store, path, waiting, name, append=there)
                    there, waiting, corners = True, [], 0
                yield (number + done) / len(stores)
    add_layer_style(path, LAYER, legend)


@contextmanager
def pyogrio_errors(path: Path) -> Iterator[None]:
    """Raise the errors of pyogrio in the block as OSError, with their cause."""
    from pyogrio.errors import (
        DataLayerError,
        DataSourceError,
        FeatureError,
        FieldError,
        GeometryError,
    )

    try:
        yield
    except (
        DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError
    ) as error:  # fmt: skip
        raise _cause(path, error) from error


def _cause(path: Path, error: Exception) -> OSError:
    """Return the operating system's error, which GDAL does not report.

    A full disk lets a small write fail, too.
    """
    try:
        with path.open("ab") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as cause:
        return cause
    # GDAL's message may contain whole SQL statements
    return OSError(str(error)[-200:])


def _append(
    store: "LabelStore",
    path: Path,
    batch: list[PolygonFeature],
    image: str,
    *,
    append: bool,
) -> None:
    import shapely
    from pyogrio.raw import write

    polygons = [shapely.Polygon(outer, holes) for outer, *holes in
                (s.rings for s in batch)]  # fmt: skip
    area = area_field(store)
    more = {} if area is None else {area: np.array([s.area for s in batch], float)}
    if image:
        more["image"] = np.array([image] * len(batch), object)
    write(
        path,
        geometry=np.asarray(shapely.to_wkb(polygons), object),
        field_data=[
            np.array([s.label.name for s in batch], object),
            np.array([s.label.id for s in batch], np.int32),
            np.array([s.label.color for s in batch], object),
            np.array([s.pixels for s in batch], np.int64),
            np.array([s.divided for s in batch], bool),
            *more.values(),
        ],
        fields=np.array([*FIELDS, *more]),
        layer=LAYER,
        driver="GPKG",
        geometry_type="Polygon",
        crs=store.crs or PIXELS,
        append=append,
    )


register_exporter(
    Format(
        "geopackage",
        "GeoPackage",
        ".gpkg",
        _write_geopackage,
        is_vector=True,
        stores_crs=True,
        save_suffix=".gpkg",
        check=_check,
    )
)
