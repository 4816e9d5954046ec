"""Frames cover an image once, on the chunks of the store."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uhrseg.engine.tiling.frame_grid import FrameGrid
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.types import InputSpec, Roi, View


def spec(divisor: int = 1) -> InputSpec:
    return InputSpec({"local": View("frame")}, 64, frame=2448, divisor=divisor)


grids = st.builds(
    lambda h, w, scale, largest, overlap, divisor: (
        (h, w),
        scale,
        FrameGrid.make(
            (h, w),
            (max(1, round(h / scale)), max(1, round(w / scale))),
            scale,
            largest,
            overlap,
            spec(divisor),
        ),
    ),
    st.integers(1, 9000),
    st.integers(1, 9000),
    st.sampled_from([1.0, 2.0, 1.3, 0.7]),
    st.integers(300, 5000),
    st.integers(0, 256),
    st.sampled_from([1, 32, 64]),
)


@pytest.mark.slow
@settings(max_examples=150)
@given(grids)
def test_cells_cover_image_once_in_whole_chunks(case):
    (h, w), _, grid = case
    rows, columns = -(-h // STORE_CHUNK), -(-w // STORE_CHUNK)
    count = np.zeros((rows, columns), int)
    for cell in grid.cells(np.ones((rows, columns), bool)):
        roi = grid.block(cell)
        assert Roi(0, 0, h, w).contains(roi)
        assert roi.area
        box = roi.align(STORE_CHUNK)
        assert roi.y == box.y
        assert roi.x == box.x
        count[box.y // STORE_CHUNK : box.bottom // STORE_CHUNK,
              box.x // STORE_CHUNK : box.right // STORE_CHUNK] += 1  # fmt: skip
    assert (count == 1).all()


@pytest.mark.slow
@settings(max_examples=150)
@given(grids)
def test_frame_input_contains_labelled_pixels(case):
    _, scale, grid = case
    for cell in grid.cells(np.ones((99, 99), bool)):
        whole, labelled = grid.input_roi(cell), grid.labelled(cell)
        assert whole.contains(labelled)
        assert labelled.contains(grid.cell(cell))
        assert (whole.height, whole.width) == grid.input_shape
        assert Roi(0, 0, *grid.shape).contains(labelled)
        block, inside = grid.block(cell), grid.cell(cell)
        # every level-0 pixel of the block has its run pixel within the cell
        assert int((block.y + 0.5) / scale) >= inside.y
        assert min(grid.shape[0] - 1, int((block.bottom - 0.5) / scale)) < inside.bottom


@settings(max_examples=60)
@given(grids, st.randoms())
def test_frames_of_is_inverse_of_cells_of(case, random):
    _, _, grid = case
    cells = grid.cells(np.ones((99, 99), bool))
    cell = random.choice(cells)
    assert all(cell in grid.cells_of(f) for f in grid.frames_of(cell))
    assert set(grid.frames_of(cell)) == {f for f in cells if cell in grid.cells_of(f)}
    assert grid.count(grid.cell(cell)) >= len(list(grid.frames_of(cell))) - (
        0 if grid.overlap else 3
    )
