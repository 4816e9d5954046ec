"""Polygons of the displayed labels, for the vector formats.

A polygon is one 4-connected object. Its first ring is the outer one, the others are
holes. Neighbours have the same corners on their shared border, also after
simplification and smoothing (see `io.vectorize.simplify`).

An object with over a million corners is divided (see `io.vectorize.trace`): few
programs can open larger polygons.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export.pixel_area import pixel_area
from napari_uhrseg.io.export.registry import WriteOptions
from napari_uhrseg.io.vectorize.label_strips import read_strips, written_parts
from napari_uhrseg.io.vectorize.rings import Outline
from napari_uhrseg.io.vectorize.simplify import trace_polygons
from napari_uhrseg.types import LabelClass, Labels, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

BATCH_CORNERS = 50_000  # corners transformed together
ALMOST_DONE = 0.99  # fraction before the last polygons are simplified and written
MAX_SIDE = 256.0  # pixels; longer sides get more corners if the transform is not affine

Points = npt.NDArray[np.float64]
CoordinateTransform = Callable[[Points], Points]


@dataclass(frozen=True, slots=True)
class PolygonFeature:
    """Polygon of one class.

    Attributes
    ----------
    label
        Its class.
    pixels
        Number of its pixels.
    area
        Area of its pixels in the unit of `pixel_area`.
    rings
        float64 (corners, 2) each, x and y, closed, the outer ring first.
    divided
        True if it is a piece of an object with too many corners.
    """

    label: LabelClass
    pixels: int
    area: float
    rings: list[Points]
    divided: bool


def polygon_features(
    store: "LabelStore",
    options: WriteOptions,
    place: CoordinateTransform,
    *,
    bends: bool = False,
) -> Iterator[tuple[list[PolygonFeature], float]]:
    """Yield all polygons in batches.

    Parameters
    ----------
    store
        The label store.
    options
        Tolerance of the simplification, and the limits of tracing.
    place
        Transform of corners (n, 2) in pixels, x before y, to output coordinates.
    bends
        True if the transform is not affine. Long sides are then divided.

    Yields
    ------
    batch, fraction
        Polygons, of which there may be none, and the finished fraction (0 to 1).

    Raises
    ------
    OSError
        If the disk of temporary files is full.

    Notes
    -----
    The memory is that of `trace_outlines`, and about 150 bytes per corner of a batch
    or of one polygon. Simplification needs the corners of a coverage as well.
    """
    by_id = {c.id: c for c in store.legend}
    area_of = _area_of(store)
    batch: list[PolygonFeature] = []
    waiting, done = 0, 0.0
    unused = next((i for i in range(255, 0, -1) if i not in by_id), 0)
    strips = _strips(store, options)
    for found in trace_polygons(
        strips, options.simplify, options.limits, unused, options.smooth
    ):
        if isinstance(found, Roi):
            done = min(found.bottom / store.shape[0], ALMOST_DONE)
            yield [], done
            continue
        outline, rings = found
        closed = [_closed(ring, bends) for ring in rings]
        label, area = by_id[outline.class_id], area_of(outline)
        made = PolygonFeature(label, outline.pixels, area, closed, outline.divided)
        batch.append(made)
        waiting += outline.corners
        if waiting > BATCH_CORNERS:
            yield _placed(batch, place), done
            batch, waiting = [], 0
    yield _placed(batch, place), 1.0


def area_field(store: "LabelStore") -> str | None:
    """Return the name of the area in files: ``area_m2`` or ``area_um2``.

    None if the image has no pixel size.
    """
    return {"px": None, "m²": "area_m2", "µm²": "area_um2"}[pixel_area(store).unit]


def _area_of(store: "LabelStore") -> Callable[[Outline], float]:
    """Return a function that returns the area of the pixels of an outline.

    If the pixels of each row have another area, it is the integral along the rings of
    the area above, which takes 8 bytes per row of the image.
    """
    sizes = pixel_area(store)
    pixel = sizes.pixel
    if pixel is not None:
        return lambda outline: outline.pixels * pixel
    above = np.append(0.0, np.cumsum(sizes.rows(Roi(0, 0, *store.shape))))

    def area(outline: Outline) -> float:
        total = 0.0
        for ring in outline.rings:
            x, y = ring[:, 0].astype(np.float64), ring[:, 1]
            total -= float(np.dot(above[y], np.roll(x, -1) - x))
        return total

    return area


def _strips(store: "LabelStore", options: WriteOptions) -> Iterator[tuple[Roi, Labels]]:
    """Yield the labels of written chunks; a changed border needs the ground beside.

    Strips are those of the image, so that polygons do not depend on which chunks are
    written.
    """
    changed = options.simplify or options.smooth
    border, width = (1, store.shape[1]) if changed else (0, None)
    parts, _ = written_parts(store, Roi(0, 0, *store.shape), border)
    for part in parts:
        yield from read_strips(store, part, options.limits, width)


def _closed(ring: Points, bends: bool) -> Points:
    ring = np.concatenate([ring, ring[:1]])
    if not bends:
        return ring
    sides = np.diff(ring, axis=0)
    pieces = np.maximum(1, np.ceil(np.hypot(*sides.T) / MAX_SIDE)).astype(int)
    if pieces.max() == 1:
        return ring
    at = np.repeat(np.arange(len(sides)), pieces)
    part = np.arange(len(at)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    points = ring[at] + sides[at] * (part / pieces[at])[:, None]
    return np.concatenate([points, ring[:1]])


def _placed(
    batch: list[PolygonFeature], place: CoordinateTransform
) -> list[PolygonFeature]:
    if not batch:
        return []
    rings = [ring for shape in batch for ring in shape.rings]
    ends = np.cumsum([len(ring) for ring in rings])[:-1]
    moved = iter(np.split(place(np.concatenate(rings)), ends))
    return [replace(s, rings=[next(moved) for _ in s.rings]) for s in batch]


def check_georeferenced(store: "LabelStore", title: str) -> None:
    """Check that the image has a coordinate system.

    Parameters
    ----------
    store
        Label store of the image.
    title
        Name of the format in the message.

    Raises
    ------
    ExportError
        If it has none.
    """
    if store.crs is None or store.affine is None:
        raise ExportError(
            f"{title} needs a coordinate system, and the image has no coordinate "
            "system.",
            "Export polygons in pixels (qupath), or assign a CRS to the image (for "
            "example with gdal_edit -a_srs) and segment it again.",
        )


def to_crs(store: "LabelStore") -> CoordinateTransform:
    """Return the transform from pixels to the image's CRS."""
    a, b, c, d, e, f = store.affine or (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    matrix, offset = np.array([[a, b], [d, e]]).T, np.array([c, f])
    return lambda corners: corners @ matrix + offset
