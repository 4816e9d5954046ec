"""Rasterisation of drawn regions by pixel centres and the even-odd rule."""

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types import BoolMask, MultiPolygon, Region, Roi
from napari_uhrseg.types.regions import Ring


def rasterize(region: Region, roi: Roi) -> BoolMask:
    """Return the pixels of a rectangle whose centre is inside a region.

    Each ring follows the even-odd rule. A centre on an edge belongs to the polygon on
    its right or below. The result for a pixel does not depend on the rectangle, so
    adjacent rectangles agree.

    Parameters
    ----------
    region
        Rectangle, polygon or polygons in level-0 pixels. Polygons are united.
    roi
        Rectangle of the result, in the same pixels.

    Returns
    -------
    bool of the roi's shape.
    """
    if isinstance(region, Roi):
        mask = np.zeros((roi.height, roi.width), bool)
        common = region.intersect(roi)
        mask[common.shift(-roi.y, -roi.x).slices] = common.area > 0
        return mask
    if isinstance(region, MultiPolygon):
        mask = np.zeros((roi.height, roi.width), bool)
        for polygon in region.polygons:
            mask |= rasterize(polygon, roi)
        return mask
    mask = _ring(region.corners, roi)
    for hole in region.holes:
        mask &= ~_ring(hole, roi)
    return mask


Points = npt.NDArray[np.float64]


def _ring(corners: Ring, roi: Roi) -> BoolMask:
    """Return the pixels inside one ring."""
    start = np.asarray(corners, np.float64)
    end = np.roll(start, -1, 0)
    low, high = np.minimum(start, end)[:, 0], np.maximum(start, end)[:, 0]
    near = (low < roi.bottom) & (high > roi.y) & (low < high)
    # each crossing toggles all pixels to its right: the parity gives the inside
    toggles = np.zeros((roi.height, roi.width + 1), bool)
    np.logical_xor.at(toggles, _crossings(start[near], end[near], roi), True)
    return np.asarray(np.logical_xor.accumulate(toggles[:, :-1], axis=1), bool)


def _crossings(
    start: Points, end: Points, roi: Roi
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows, and the first column of each beyond an edge, both in the roi."""
    # all edges run from top to bottom, so that shared edges give equal columns
    turned = (start[:, 0] > end[:, 0])[:, None]
    top, bottom = np.where(turned, end, start), np.where(turned, start, end)
    # rows whose centre is at or below the edge's top, and above its bottom
    first = np.maximum(np.ceil(top[:, 0] - 0.5), roi.y).astype(np.int64)
    last = np.minimum(np.ceil(bottom[:, 0] - 0.5), roi.bottom).astype(np.int64)
    count = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(count)), count)
    before = np.cumsum(count) - count
    rows = first[edge] + np.arange(len(edge)) - before[edge]
    (y0, x0), (y1, x1) = top[edge].T, bottom[edge].T
    x = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0)
    columns = np.clip(np.ceil(x - 0.5) - roi.x, 0, roi.width).astype(np.int64)
    return rows - roi.y, columns
