"""Which pixels lie in a drawn shape, and what becomes of them."""

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types import Mask, Region, Roi
from napari_uhrseg.types.regions import Ring


def rasterize(region: Region, roi: Roi) -> Mask:
    """Which pixels of a rectangle have their centre in a region: each ring by even-odd.

    bool of the roi's shape. Rectangles that meet agree on every pixel: where an edge
    crosses a row of pixels does not depend on the rectangle asked for. A centre that
    lies on an edge belongs to the shape on its right or below.
    """
    if isinstance(region, Roi):
        mask = np.zeros((roi.height, roi.width), bool)
        common = region.intersect(roi)
        mask[common.shift(-roi.y, -roi.x).slices] = common.area > 0
        return mask
    mask = _ring(region.corners, roi)
    for hole in region.holes:
        mask &= ~_ring(hole, roi)
    return mask


Points = npt.NDArray[np.float64]


def _ring(corners: Ring, roi: Roi) -> Mask:
    """The pixels in one ring."""
    start = np.asarray(corners, np.float64)
    end = np.roll(start, -1, 0)
    low, high = np.minimum(start, end)[:, 0], np.maximum(start, end)[:, 0]
    near = (low < roi.bottom) & (high > roi.y) & (low < high)
    # each crossing turns all pixels from it on: their parity is what is inside
    turns = np.zeros((roi.height, roi.width + 1), bool)
    np.logical_xor.at(turns, _crossings(start[near], end[near], roi), True)
    return np.asarray(np.logical_xor.accumulate(turns[:, :-1], axis=1), bool)


def _crossings(
    start: Points, end: Points, roi: Roi
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns in the roi from which on pixels lie beyond an edge."""
    # edges are taken from the top down, so that shared ones cross alike
    turned = (start[:, 0] > end[:, 0])[:, None]
    top, bottom = np.where(turned, end, start), np.where(turned, start, end)
    # rows whose centre is at or below the top, and above the bottom
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
