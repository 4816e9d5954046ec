"""Simplification and smoothing of outlines whose shared borders stay shared.

GEOS removes corners by the algorithm of Visvalingam and Whyatt (1993), smallest
triangles first, from a coverage: polygons that do not overlap and have the same corners
on shared borders. The result is a coverage again.

Memory bounds the number of polygons of one coverage. Borders between two of them keep
all corners. Unlabelled ground takes part as a class of its own.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.io.vectorize.rings import Outline
from napari_uhrseg.io.vectorize.smooth import smooth_coverage
from napari_uhrseg.io.vectorize.trace import trace_outlines
from napari_uhrseg.types import Labels, Roi

Points = npt.NDArray[np.float64]
TracedPolygon = tuple[Outline, list[Points]]


def trace_polygons(
    strips: Iterable[tuple[Roi, Labels]],
    tolerance: float = 0.0,
    limits: VectorLimits = VectorLimits(),
    unlabelled: int = 0,
    smooth: float = 0.0,
) -> Iterator[TracedPolygon | Roi]:
    """Trace the outlines of all objects, and simplify and smooth them.

    Parameters
    ----------
    strips
        Rectangles of one width, from top to bottom, with uint8 labels each. Rows
        without labels may be left out between two rows without labels.
    tolerance
        Corners are removed while the triangle with their neighbours is smaller than
        the square of this number of pixels. 0 keeps the sides of pixels.
    limits
        Corners in memory, of an object, and of a coverage.
    unlabelled
        Label that no pixel has, 1 to 255. Unlabelled ground gets it during the
        simplification, so that its borders are simplified. 0: they keep all corners.
    smooth
        Distance in pixels by which smoothing may move an outline; see
        `smooth.smooth_coverage`. 0: no smoothing.

    Yields
    ------
    outline, rings
        Each object and its rings, float64 (corners, 2), x and y in pixels, not closed.
        They have at least three corners.
    Roi
        Each strip, to report progress.

    Raises
    ------
    OSError
        If the disk of temporary files is full.
    """
    if tolerance <= 0 and smooth <= 0:
        for found in trace_outlines(strips, limits):
            yield found if isinstance(found, Roi) else (found, _rings(found))
        return

    def simplified() -> Iterator[TracedPolygon]:
        for outline, rings in _changed(batch, tolerance, smooth):
            if outline.class_id != unlabelled:
                yield outline, rings

    batch: list[Outline] = []
    corners = 0
    for found in trace_outlines(_filled(strips, unlabelled), limits):
        if isinstance(found, Roi):
            yield found
            continue
        batch.append(found)
        corners += found.corners
        if corners > limits.coverage_corners:
            yield from simplified()
            batch, corners = [], 0
    yield from simplified()


def _changed(
    outlines: Sequence[Outline], tolerance: float, smooth: float
) -> Iterator[TracedPolygon]:
    """Yield the outlines of one map after simplification and smoothing."""
    if tolerance > 0:
        found = simplify_coverage(outlines, tolerance)
    else:
        found = ((outline, _rings(outline)) for outline in outlines)
    if smooth <= 0:
        yield from found
        return
    rings = [of_one for _, of_one in found]
    smoothed = smooth_coverage(rings, smooth, along_pixels=tolerance <= 0)
    yield from zip(outlines, smoothed, strict=True)


def simplify_coverage(
    outlines: Sequence[Outline], tolerance: float
) -> Iterator[TracedPolygon]:
    """Yield outlines with simplified rings; borders that are not shared keep corners.

    Parameters
    ----------
    outlines
        Outlines of one map.
    tolerance
        As in `trace_polygons`, greater than 0.
    """
    import shapely

    if not outlines:
        return
    polygons = [shapely.Polygon(outer, holes) for outer, *holes in
                map(_rings, outlines)]  # fmt: skip
    found = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=False)
    for outline, shape in zip(outlines, found, strict=True):
        rings = (shape.exterior, *shape.interiors)
        yield outline, [shapely.get_coordinates(ring)[:-1] for ring in rings]


def _filled(
    strips: Iterable[tuple[Roi, Labels]], label: int
) -> Iterator[tuple[Roi, Labels]]:
    for roi, labels in strips:
        yield roi, np.where(labels == 0, np.uint8(label), labels)


def _rings(outline: Outline) -> list[Points]:
    return [ring[:, :2].astype(np.float64) for ring in outline.rings]
