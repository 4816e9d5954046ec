"""Class shares of annotation regions, as columns of a file of these regions.

The file has a feature for each region, with the fields ``name``, ``locked``,
``corrected`` (number of its corrected pixels) and the columns of `region_shares`. The
coordinates are in the coordinate system of the image; without one, they are pixels, in
a GeoPackage with y negative downwards. The importer of polygons reads both. GeoJSON in
pixels has the values as measurements of QuPath, too.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.corrections.annotations.region_counts import count_corrected
from napari_uhrseg.io.corrections.polygon_import import ROWS_DOWN
from napari_uhrseg.io.export import atomic_target, check_crs
from napari_uhrseg.io.export.geojson import crs_name
from napari_uhrseg.io.export.geopackage import PIXELS, check_pyogrio, pyogrio_errors
from napari_uhrseg.io.export.polygons import to_crs
from napari_uhrseg.io.measure.region_shares import Values, measure_regions
from napari_uhrseg.types import AnnotationRegion, MultiPolygon
from napari_uhrseg.types.regions import Ring

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

LAYER = "regions"
SUFFIXES = (".gpkg", ".geojson", ".json")

Place = Callable[[npt.NDArray], npt.NDArray]
"""Function from pixels (x, y) to the coordinates of the file."""
Fields = dict[str, str | bool | float | int]


def write_annotation_shares(
    store: "LabelStore",
    regions: Sequence[AnnotationRegion],
    path: Path | str,
    *,
    labels: "LabelStore | None" = None,
    overwrite: bool = False,
) -> Iterator[float | tuple[str, ...]]:
    """Write a file of annotation regions with the class shares of each region.

    Parameters
    ----------
    store
        Label store of the regions, of which the corrected pixels are counted.
    regions
        The regions, at least one.
    path
        File to write, which ends in ``.gpkg``, ``.geojson`` or ``.json``.
    labels
        Label store of the same grid whose displayed labels are counted, such as that of
        a clean-up. None: those of ``store``.
    overwrite
        If True, an existing file is replaced once the new one is complete.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    tuple of str
        Sentences about regions that lie partly beside the image, last.

    Raises
    ------
    ExportError
        If there are no regions, or the file has another suffix, exists or cannot be
        written.
    StoreError
        If part of the store is damaged.
    """
    target = Path(path).absolute()
    check_annotation_target(target)
    if not regions:
        raise ExportError(
            f"{store.path.name} has no annotation regions; nothing was written.",
            "Draw shapes, and press Keep shapes in the tab Correct.",
        )
    check_crs(store)
    with atomic_target(target, overwrite=overwrite) as building:
        named = [(found.region, found.name) for found in regions]
        values: list[Values] = []
        notes: tuple[str, ...] = ()
        for step in measure_regions(store if labels is None else labels, named):
            if isinstance(step, float):
                yield min(0.99, step)
            else:
                values, notes = step
        fields = [
            _fields(store, region, found)
            for region, found in zip(regions, values, strict=True)
        ]
        is_gpkg = target.suffix.lower() == ".gpkg"
        write = _write_geopackage if is_gpkg else _write_geojson
        write(store, building, [found.region for found in regions], fields)
    yield notes


def check_annotation_target(path: Path) -> None:
    """Check that annotation regions can be written to a path.

    Raises
    ------
    ExportError
        If the path has another suffix, or a library is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError(
            f"{path.name} does not end in {' or '.join(SUFFIXES)}.",
            "Choose a name that ends in one of these, or in .csv for a table.",
        )
    if path.suffix.lower() == ".gpkg":
        check_pyogrio()


def _fields(store: "LabelStore", region: AnnotationRegion, values: Values) -> Fields:
    corrected = sum(count_corrected(store, region.region).values())
    own: Fields = {"name": region.name, "locked": region.locked, "corrected": corrected}
    return {**own, **values}


def _rings(region: MultiPolygon, place: Place) -> Iterator[list[npt.NDArray]]:
    """Yield the closed rings (x, y) of each polygon, the outer one first."""

    def placed(ring: Ring) -> npt.NDArray:
        return place(np.array((*ring, ring[0]), float)[:, ::-1])

    for polygon in region.polygons:
        yield [placed(ring) for ring in (polygon.corners, *polygon.holes)]


def _write_geojson(
    store: "LabelStore",
    path: Path,
    regions: Sequence[MultiPolygon],
    fields: Sequence[Fields],
) -> None:
    on_map = store.crs is not None and store.affine is not None
    place: Place = to_crs(store) if on_map else lambda points: points
    crs = crs_name(store)[0] if on_map else ROWS_DOWN
    features: list[Mapping[str, Any]] = [
        {
            "type": "Feature",
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": [
                    [ring.tolist() for ring in rings] for rings in _rings(region, place)
                ],
            },
            "properties": own if on_map else {**own, **_annotation(own)},
        }
        for region, own in zip(regions, fields, strict=True)
    ]
    data = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": crs}},
        "features": features,
    }
    path.write_text(json.dumps(data), encoding="utf-8")


def _annotation(fields: Fields) -> dict[str, Any]:
    """Return the members of an annotation of QuPath, with its measurements."""
    numbers = {k: v for k, v in fields.items() if not isinstance(v, str | bool)}
    return {
        "objectType": "annotation",
        "isLocked": fields["locked"],
        "measurements": numbers,
    }


def _write_geopackage(
    store: "LabelStore",
    path: Path,
    regions: Sequence[MultiPolygon],
    fields: Sequence[Fields],
) -> None:
    import shapely
    from pyogrio.raw import write

    place = to_crs(store)
    shapes = [
        shapely.MultiPolygon([(outer, holes) for outer, *holes in _rings(r, place)])
        for r in regions
    ]
    names = list(fields[0])
    text = {"name": object}
    with pyogrio_errors(path):
        write(
            path,
            geometry=np.asarray(shapely.to_wkb(shapes), object),
            field_data=[
                np.array([own[name] for own in fields], text.get(name))
                for name in names
            ],
            fields=np.array(names, object),
            layer=LAYER,
            driver="GPKG",
            geometry_type="MultiPolygon",
            crs=store.crs or PIXELS,
        )
