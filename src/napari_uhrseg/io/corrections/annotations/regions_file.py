"""File of the annotation regions of a label store.

It is GeoJSON in level-0 pixels, as QuPath writes annotations: each feature has the
properties ``name`` and ``isLocked``. The ``crs`` member names pixels, so that the file
can be imported as polygons, also for an image with map coordinates.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.polygon_import import ROWS_DOWN
from napari_uhrseg.io.paths import PathOrUrl, is_url
from napari_uhrseg.types import AnnotationRegion, MultiPolygon, Polygon
from napari_uhrseg.types.regions import Ring

FILE = ".regions.geojson"
MOST_BYTES = 64 << 20
MOST_REGIONS = 10_000
MOST_NAME = 200  # characters
FARTHEST = 1e9  # pixels


def read_regions(store: PathOrUrl) -> tuple[AnnotationRegion, ...]:
    """Return the annotation regions of a store; none without a file.

    Parameters
    ----------
    store
        Folder or URL of the store.

    Raises
    ------
    StoreError
        If the file is damaged or too large.
    """
    path = store / FILE
    try:
        if not path.exists():
            return ()
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is larger than 64 MB")
        features = json.loads(path.read_text("utf-8"))["features"]
        if len(features) > MOST_REGIONS:
            raise ValueError(f"it has more than {MOST_REGIONS} regions")
        return tuple(_region(feature) for feature in features)
    except (OSError, ValueError, TypeError, KeyError, AttributeError,
            RecursionError) as error:  # fmt: skip
        raise StoreError(
            f"The annotation regions of {store} are damaged: {error}.",
            f"Remove the file {FILE} in it.",
        ) from error


def write_regions(store: PathOrUrl, regions: Sequence[AnnotationRegion]) -> None:
    """Write the annotation regions of a store; the file is replaced as a whole.

    Raises
    ------
    StoreError
        If the store is at a URL, or the file cannot be written.
    """
    if is_url(store):
        raise StoreError(
            f"Annotation regions cannot be written to {store}.",
            "Copy the store to a folder, and annotate it there.",
        )
    path: Any = store / FILE
    data = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": ROWS_DOWN}},
        "features": [_feature(r) for r in regions],
    }
    try:
        with replacing(path) as part:
            part.write_text(json.dumps(data), "utf-8")
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Check the permissions and the free space.",
        ) from error


def _feature(region: AnnotationRegion) -> dict[str, Any]:
    polygons = [
        [_closed(ring) for ring in (polygon.corners, *polygon.holes)]
        for polygon in region.region.polygons
    ]
    return {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": polygons},
        "properties": {
            "objectType": "annotation",
            "name": region.name,
            "isLocked": region.locked,
        },
    }


def _closed(ring: Ring) -> list[list[float]]:
    """Return a ring as GeoJSON: x before y, closed."""
    return [[x, y] for y, x in (*ring, ring[0])]


def _region(feature: dict[str, Any]) -> AnnotationRegion:
    properties, geometry = feature["properties"], feature["geometry"]
    if geometry["type"] != "MultiPolygon":
        raise ValueError(f"a region is a {geometry['type']!r}")
    polygons = tuple(
        Polygon(outer, tuple(holes))
        for outer, *holes in (
            [_ring(ring) for ring in rings] for rings in geometry["coordinates"]
        )
    )
    name = str(properties.get("name") or "")[:MOST_NAME]
    locked = properties.get("isLocked") is True
    return AnnotationRegion(name, MultiPolygon(polygons), locked)


def _ring(points: Any) -> Ring:
    """Return a ring as (y, x), not closed."""
    ring = tuple((float(y), float(x)) for x, y in points)
    if any(not math.isfinite(v) or abs(v) > FARTHEST for point in ring for v in point):
        raise ValueError("a coordinate is out of range")
    return ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring
