"""Outlines, checked with shapely and rasterio: no seam, no overlap, holes kept."""

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize
from skimage.measure import label

from helpers.outlines import outlines, polygon
from napari_uhrseg.io.vectorize.limits import VectorLimits

# few values on few pixels: holes, holes in holes, and corners that touch
MAPS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))
)
HEIGHTS = st.lists(st.integers(1, 6), min_size=1, max_size=14)


def assert_same_map(labels, found):
    again = np.zeros_like(labels)
    for outline in found:
        shape = polygon(outline)
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == outline.pixels
        mask = rasterize([shape], labels.shape).astype(bool)
        assert np.count_nonzero(mask) == outline.pixels
        assert not again[mask].any()  # no two polygons overlap
        again[mask] = outline.class_id
    np.testing.assert_array_equal(again, labels)


@pytest.mark.slow
@settings(max_examples=100)
@given(MAPS, HEIGHTS)
def test_any_map_comes_back_pixel_for_pixel(labels, heights):
    found = outlines(labels, heights)
    assert len(found) == label(labels, background=0, connectivity=1).max()
    assert_same_map(labels, found)


@pytest.mark.slow
@settings(max_examples=50)
@given(MAPS, HEIGHTS)
def test_outlines_do_not_depend_on_the_strips(labels, heights):
    def as_set(found):
        return {(o.class_id, polygon(o).normalize().wkb) for o in found}

    assert as_set(outlines(labels, heights)) == as_set(outlines(labels, [100]))


@pytest.mark.slow
@settings(max_examples=100)
@given(MAPS, HEIGHTS, st.integers(0, 40))
@example(np.array([[2, 2, 2], [1, 2, 2], [1, 2, 2]], np.uint8), [1], 2)
def test_pieces_of_divided_objects_are_the_map_too(labels, heights, most):
    found = outlines(labels, heights, VectorLimits(max_corners=most))
    assert_same_map(labels, found)
    # at most what it may have, a strip's corners, and those where it was ended
    of_a_strip = 2 * (max(heights) + 1) * (labels.shape[1] + 1)
    assert all(one.corners <= most + of_a_strip for one in found)
    pieces = [(o.class_id, polygon(o)) for o in found if o.divided]
    entire = [(o.class_id, polygon(o)) for o in found if not o.divided]
    for whole in outlines(labels, heights):
        shape = polygon(whole)
        mine = [p for c, p in pieces if c == whole.class_id and shape.covers(p)]
        # an entire outline may have a corner more where a neighbour is divided
        unchanged = any(c == whole.class_id and p.equals(shape) for c, p in entire)
        assert bool(mine) != unchanged
        if mine:
            assert shapely.union_all(mine).equals(shape)


def test_a_region_closed_at_a_corner_has_a_hole_there():
    """Two arms that meet only diagonally, on a border of strips."""
    labels = np.array(
        [
            [1, 1, 1, 1],
            [1, 0, 0, 1],
            [1, 0, 1, 1],  # this pixel and the one below to the left touch
            [1, 1, 0, 0],
            [0, 0, 0, 0],
        ],
        np.uint8,
    )
    for heights in ([1], [2], [3], [5]):
        (found,) = outlines(labels, heights)
        assert len(found.rings) == 2
        assert_same_map(labels, [found])


def test_two_objects_that_touch_at_a_corner_stay_two():
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    assert len(outlines(labels, [1])) == 2


@pytest.mark.slow
def test_a_wide_map_with_large_objects():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (30, 40), np.uint8).repeat(17, 0).repeat(13, 1)
    found = outlines(labels, [64, 100, 1])
    assert_same_map(labels, found)
    # a straight side has corners only where something else meets it
    assert max(len(ring) for o in found for ring in o.rings) < 200
