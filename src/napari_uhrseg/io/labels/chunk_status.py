"""Status of chunks: the run that wrote each chunk, and the chunks of a region.

A status is one uint32 per chunk: the number of the run times four, plus a code; 0 if
no run wrote the chunk. All arrays here are (chunk rows, chunk columns) and small: 98 x
98 for an image of 100,000 x 100,000 pixels.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types import Block, BoolMask, Polygon, Region, Roi

STORE_CHUNK = 1024  # px, side of a chunk; part of the store's format

Status = Literal["done", "empty", "failed", "unfinished"]
States = npt.NDArray[np.uint32]

_CODES: dict[Status, int] = {"done": 1, "empty": 2, "failed": 3}


def chunk_grid(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the number of chunk rows and columns of an image."""
    return -(-shape[0] // STORE_CHUNK), -(-shape[1] // STORE_CHUNK)


def encode(run_id: int, status: Status) -> int:
    """Return the status value of a chunk; 0 if ``status`` is "unfinished"."""
    return 0 if status == "unfinished" else run_id << 2 | _CODES[status]


def run_ids(states: States) -> npt.NDArray[np.int64]:
    """Return the number of the last run of each chunk; 0 if there was none."""
    return (states >> 2).astype(np.int64)


def has_status(states: States, *statuses: Status) -> BoolMask:
    """Return the chunks that have one of these statuses."""
    return np.isin(states & 3, [_CODES[s] for s in statuses])


def chunks_of(block: Block, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the chunks of a block, as `chunks_at` does for its rectangle.

    Raises
    ------
    ValueError
        If the block does not consist of whole chunks, or its arrays are not uint8 of
        its shape.
    """
    roi = block.roi
    for data in (block.labels, block.confidence):
        if data.shape != (roi.height, roi.width) or data.dtype != np.uint8:
            raise ValueError(f"{roi} comes with {data.dtype} of {data.shape}")
    return chunks_at(roi, shape)


def chunks_at(roi: Roi, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the chunks of a rectangle of whole chunks, clipped at the image's border.

    Raises
    ------
    ValueError
        If the rectangle does not consist of whole chunks of the image.
    """
    for first, last, size in (
        (roi.y, roi.bottom, shape[0]),
        (roi.x, roi.right, shape[1]),
    ):
        whole = last % STORE_CHUNK == 0 or last == size
        if first % STORE_CHUNK or not whole or not 0 <= first < last <= size:
            raise ValueError(
                f"{roi} does not consist of whole chunks of {STORE_CHUNK} pixels of an "
                f"image of {shape[0]} x {shape[1]}"
            )
    box = roi.align(STORE_CHUNK)
    return (
        slice(box.y // STORE_CHUNK, box.bottom // STORE_CHUNK),
        slice(box.x // STORE_CHUNK, box.right // STORE_CHUNK),
    )


def chunks_touching(region: Region | None, shape: tuple[int, int]) -> BoolMask:
    """Return the chunks that overlap a region. None is the whole image."""
    rows, columns = chunk_grid(shape)
    if region is None:
        return np.ones((rows, columns), bool)
    if isinstance(region, Roi):
        inside = region.intersect(Roi(0, 0, *shape))
        box = inside.align(STORE_CHUNK)
        mask = np.zeros((rows, columns), bool)
        if inside.area:
            mask[
                box.y // STORE_CHUNK : box.bottom // STORE_CHUNK,
                box.x // STORE_CHUNK : box.right // STORE_CHUNK,
            ] = True
        return mask
    if isinstance(region, Polygon):
        return _touched_by_polygon(region, rows, columns)
    mask = np.zeros((rows, columns), bool)
    for polygon in region.polygons:
        mask |= _touched_by_polygon(polygon, rows, columns)
    return mask


def chunks_inside(region: Region | None, shape: tuple[int, int]) -> BoolMask:
    """Return the chunks that lie inside a region; none for polygons."""
    rows, columns = chunk_grid(shape)
    if region is None:
        return np.ones((rows, columns), bool)
    if not isinstance(region, Roi):
        return np.zeros((rows, columns), bool)
    inside = []
    for count, size, first, last in (
        (rows, shape[0], region.y, region.bottom),
        (columns, shape[1], region.x, region.right),
    ):
        start = np.arange(count) * STORE_CHUNK
        inside.append(
            (start >= first) & (np.minimum(start + STORE_CHUNK, size) <= last)
        )
    return np.asarray(np.logical_and.outer(*inside), bool)


def _touched_by_polygon(polygon: Polygon, rows: int, columns: int) -> BoolMask:
    """Return chunks that an edge crosses, or whose centre is inside (even-odd)."""
    mask = np.zeros((rows, columns), bool)
    y = np.arange(rows)[:, None] + 0.5
    x = np.arange(columns)[None, :] + 0.5
    for (y0, x0), (y1, x1) in _edges(polygon):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            # an edge of almost no height overflows, where it crosses no centre
            with np.errstate(over="ignore", invalid="ignore"):
                mask ^= crosses & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    for start, end in _edges(polygon):
        for row, column in _crossed(start, end):
            if 0 <= row < rows and 0 <= column < columns:
                mask[row, column] = True
    return mask


Point = tuple[float, float]


def _edges(polygon: Polygon) -> Iterator[tuple[Point, Point]]:
    """Yield the edges of all rings in units of chunks, including the closing ones."""
    for ring in (polygon.corners, *polygon.holes):
        corners = [(y / STORE_CHUNK, x / STORE_CHUNK) for y, x in ring]
        yield from zip(corners, corners[1:] + corners[:1], strict=True)


def _crossed(start: Point, end: Point) -> Iterator[tuple[int, int]]:
    """Yield the chunks that a line crosses: one between each two grid lines."""
    cuts = [np.array([0.0, 1.0])]
    for a, b in zip(start, end, strict=True):
        lines = np.arange(np.ceil(min(a, b)), np.floor(max(a, b)) + 1)
        if a != b:
            cuts.append((lines - a) / (b - a))
    at = np.sort(np.concatenate(cuts))
    middle = (at[1:] + at[:-1]) / 2
    for t in middle:
        y, x = (a + t * (b - a) for a, b in zip(start, end, strict=True))
        yield int(np.floor(y)), int(np.floor(x))
