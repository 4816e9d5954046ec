import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uhrseg.engine.tiling.window_grid import WindowGrid, window_starts
from napari_uhrseg.types import Roi

placements = st.sampled_from(["shift", "even"])


@pytest.mark.slow
@given(st.integers(1, 3000), st.integers(2, 600), st.data(), placements)
def test_window_starts_cover_axis_with_overlap(length, window, data, how):
    overlap = data.draw(st.integers(0, window - 1))
    found = window_starts(length, window, overlap, how)
    assert found[0] == 0
    assert found[-1] == max(0, length - window)
    steps = np.diff(found)
    assert (steps > 0).all()
    assert (steps <= window - overlap).all()


@pytest.mark.slow
@given(
    st.integers(1, 500), st.integers(1, 500), st.integers(8, 90), placements, st.data()
)
def test_touching_equals_brute_force(height, width, window, how, data):
    overlap = data.draw(st.integers(0, window - 1))
    grid = WindowGrid.make((height, width), window, overlap, how)
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = Roi(y, x, data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300)))
    everything = [Roi(a, b, window, window) for a in grid.ys for b in grid.xs]
    assert len(grid) == len(everything)
    expected = [w for w in everything if w.intersect(region).area]
    assert list(grid.touching(region)) == expected
    assert grid.count(region) == len(expected)


def test_shift_placement_moves_last_window_inward():
    assert window_starts(600, 256, 0, "shift") == (0, 256, 344)


def test_even_placement_spreads_windows():
    assert window_starts(2448, 508, 50, "even") == (0, 388, 776, 1164, 1552, 1940)


def test_small_image_is_one_window():
    assert window_starts(100, 256, 32, "shift") == (0,)


def test_window_starts_rejects_invalid_overlap():
    with pytest.raises(ValueError, match="overlap 256"):
        window_starts(1000, 256, 256, "shift")
