"""Tests of the status of chunks, and of the chunks that regions touch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from napari_uhrseg.io.labels import chunk_status
from napari_uhrseg.types import Block, Polygon, Roi

SHAPE = (5000, 3100)
GRID = (5, 4)

sides = st.integers(-2000, 6000)
rois = st.builds(Roi, sides, sides, st.integers(0, 5000), st.integers(0, 5000))
corners = st.tuples(st.floats(-2000, 7000), st.floats(-2000, 5000))
polygons = st.builds(Polygon, st.lists(corners, min_size=3, max_size=7).map(tuple))


def chunk_roi(row, column):
    return Roi(row * 1024, column * 1024, 1024, 1024).intersect(Roi(0, 0, *SHAPE))


@pytest.mark.slow
@given(rois)
def test_chunk_status_of_rectangles_touching_and_inside(roi):
    touched, covered = (
        chunk_status.chunks_touching(roi, SHAPE),
        chunk_status.chunks_inside(roi, SHAPE),
    )
    assert touched.shape == covered.shape == GRID
    for index in np.ndindex(GRID):
        chunk = chunk_roi(*index)
        assert touched[index] == (chunk.intersect(roi).area > 0)
        assert covered[index] == roi.contains(chunk)


@pytest.mark.slow
@settings(max_examples=50)
@given(polygons)
def test_chunks_touching_polygon_contain_its_pixels_and_edges(polygon):
    touched = chunk_status.chunks_touching(polygon, SHAPE)
    step = 64
    inside = polygon2mask(
        tuple(-(-s // step) for s in SHAPE), np.array(polygon.corners) / step
    )
    samples = np.argwhere(inside) * float(step)
    ends = np.array(polygon.corners)
    t = np.linspace(0, 1, 2000)[:, None]
    edges = [a + t * (b - a) for a, b in zip(ends, np.roll(ends, -1, 0), strict=True)]
    for index in np.ndindex(GRID):
        first = np.array(index) * 1024.0
        there = [
            ((p >= first + m) & (p < first + 1024 - m)).all(1).any()
            for p, m in ((samples, 1.0), (np.concatenate(edges), 1.0))
        ]
        every = np.concatenate([samples, *edges])
        near = ((every >= first - step) & (every <= first + 1024 + step)).all(1)
        assert not any(there) or touched[index]
        assert not touched[index] or near.any()
    assert not chunk_status.chunks_inside(polygon, SHAPE).any()


def test_chunks_touching_small_triangle_and_thin_line():
    small = Polygon(((1100.0, 1100.0), (1110.0, 1100.0), (1100.0, 1110.0)))
    assert np.argwhere(chunk_status.chunks_touching(small, SHAPE)).tolist() == [[1, 1]]
    thin = Polygon(((10.0, 10.0), (10.0, 3000.0), (10.5, 10.0)))
    assert np.argwhere(chunk_status.chunks_touching(thin, SHAPE)).tolist() == [
        [0, 0], [0, 1], [0, 2]
    ]  # fmt: skip


def test_chunk_status_encodes_run_and_code():
    states = np.zeros(GRID, np.uint32)
    states[0, :3] = [chunk_status.encode(7, s) for s in ("done", "empty", "failed")]
    assert states[0].tolist() == [29, 30, 31, 0]
    assert chunk_status.run_ids(states)[0].tolist() == [7, 7, 7, 0]
    assert chunk_status.has_status(states, "failed")[0].tolist() == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "roi",
    [
        Roi(0, 1, 1024, 1024),
        Roi(0, 0, 1000, 1024),
        Roi(4096, 0, 1024, 1024),
        Roi(-1024, 0, 1024, 1024),
        Roi(0, 0, 0, 1024),
    ],
)
def test_block_of_partial_chunks_is_rejected(roi):
    data = np.zeros((roi.height, roi.width), np.uint8)
    with pytest.raises(ValueError, match="whole chunks"):
        chunk_status.chunks_of(Block(roi, data, data), SHAPE)
