"""Polygons of what is shown, for the formats that hold polygons.

A polygon is one connected object (by the sides of its pixels), its first ring the
outer one, the others its holes. Rings that neighbours share have the same corners
in both, also when they are simplified: corners where more than two boundaries meet
stay, and what lies between them is simplified once, in one direction.

An object with over a million corners is divided (`outlines`): programs that open these
files choke on larger ones, and some formats want a polygon in one piece.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.vectorize.label_strips import read_strips
from napari_uhrseg.io.vectorize.rings import Outline, Ring
from napari_uhrseg.io.vectorize.trace import trace
from napari_uhrseg.types import LabelClass, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

BATCH = 50_000  # corners placed together
LONG = 256.0  # pixels: longer sides get corners in between where they would bend

Points = npt.NDArray[np.float64]
Place = Callable[[Points], Points]


@dataclass(frozen=True, slots=True)
class Shape:
    """A polygon of one class: closed rings of (x, y), and its number of pixels.

    ``divided``: it is a piece of an object that has too many corners for one.
    """

    label: LabelClass
    pixels: int
    rings: list[Points]
    divided: bool


def shapes(
    store: "LabelStore", simplify: float, place: Place, *, bends: bool = False
) -> Iterator[tuple[list[Shape], float]]:
    """All polygons, in batches with what is done (0 to 1).

    Parameters
    ----------
    simplify
        Pixels; see `simplified`.
    place
        From corners (n, 2) in pixels, x before y, to where they are to be.
    bends
        Whether straight lines do not stay so: then long sides are divided.

    Notes
    -----
    Memory: that of `trace`, and a batch or one polygon: some 150 bytes a corner.
    Raises OSError where the disk is full.
    """
    height, width = store.shape
    by_id = {c.id: c for c in store.legend}
    batch: list[Shape] = []
    waiting, done = 0, 0.0
    for found in trace(read_strips(store, Roi(0, 0, height, width))):
        if isinstance(found, Roi):
            done = found.bottom / height
            yield [], done
            continue
        rings = [_closed(ring, bends) for ring in simplified(found, simplify)]
        batch.append(Shape(by_id[found.class_id], found.pixels, rings, found.divided))
        waiting += found.corners
        if waiting > BATCH:
            yield _placed(batch, place), done
            batch, waiting = [], 0
    yield _placed(batch, place), 1.0


def simplified(outline: Outline, tolerance: float) -> list[Points]:
    """Its rings with fewer corners (Douglas and Peucker), moved by at most that far.

    float64 (corners, 2), not closed. Nothing vanishes: what would be too small is
    left as it is, and so is a polygon that would not be valid.
    """
    as_is = [ring[:, :2].astype(np.float64) for ring in outline.rings]
    if tolerance <= 0:
        return as_is
    import shapely

    rings = [_simplified_ring(ring, tolerance) for ring in outline.rings]
    return rings if shapely.Polygon(rings[0], rings[1:]).is_valid else as_is


def _simplified_ring(ring: Ring, tolerance: float) -> Points:
    import shapely

    corners = ring[:, :2].astype(np.float64)
    meeting = np.flatnonzero(ring[:, 2])
    # where nothing meets, the ring is cut at a corner that both sides agree on
    first = meeting[0] if len(meeting) else np.lexsort(corners.T)[0]
    corners = np.roll(corners, -first, 0)
    cuts = [*(meeting - first), len(corners)] if len(meeting) else [0, len(corners)]
    closed = np.concatenate([corners, corners[:1]])
    arcs = []
    for start, end in pairwise(cuts):
        arc = closed[start : end + 1]
        if len(arc) > 2:
            turned = _is_turned(arc)
            line = shapely.LineString(arc[::-1] if turned else arc)
            line = shapely.simplify(line, tolerance, preserve_topology=False)
            fewer = shapely.get_coordinates(line)
            too_few = len(fewer) < 4 and start == 0 and end == len(corners)
            arc = arc if too_few else fewer[::-1] if turned else fewer
        arcs.append(arc[:-1])
    found = np.concatenate(arcs)
    return found if len(found) > 2 else corners


def _is_turned(arc: Points) -> bool:
    """Whether its other direction is the one that both neighbours take."""
    ends = tuple(arc[0]), tuple(arc[-1])
    if ends[0] == ends[1]:
        return tuple(arc[1]) > tuple(arc[-2])
    return ends[0] > ends[1]


def _closed(ring: Points, bends: bool) -> Points:
    ring = np.concatenate([ring, ring[:1]])
    if not bends:
        return ring
    sides = np.diff(ring, axis=0)
    pieces = np.maximum(1, np.ceil(np.hypot(*sides.T) / LONG)).astype(int)
    if pieces.max() == 1:
        return ring
    at = np.repeat(np.arange(len(sides)), pieces)
    part = np.arange(len(at)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    points = ring[at] + sides[at] * (part / pieces[at])[:, None]
    return np.concatenate([points, ring[:1]])


def _placed(batch: list[Shape], place: Place) -> list[Shape]:
    if not batch:
        return []
    rings = [ring for shape in batch for ring in shape.rings]
    ends = np.cumsum([len(ring) for ring in rings])[:-1]
    moved = iter(np.split(place(np.concatenate(rings)), ends))
    return [replace(s, rings=[next(moved) for _ in s.rings]) for s in batch]


def check_placed(store: "LabelStore", title: str) -> None:
    """Raise ExportError where the image does not lie on the map."""
    if store.crs is None or store.affine is None:
        raise ExportError(
            f"{title} needs to know where the image lies, and it has no coordinate "
            "system.",
            "Export polygons in pixels (qupath) instead, or give the image a CRS, "
            "such as with gdal_edit -a_srs, and segment it again.",
        )


def to_crs(store: "LabelStore") -> Place:
    """Places corners in the image's own coordinate system."""
    a, b, c, d, e, f = store.affine or (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    matrix, offset = np.array([[a, b], [d, e]]).T, np.array([c, f])
    return lambda corners: corners @ matrix + offset
