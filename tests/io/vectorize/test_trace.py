"""Outlines, checked with shapely and rasterio: no seam, no overlap, holes kept."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize
from skimage.measure import label

from helpers.outlines import outlines, polygon
from napari_uhrseg.io.export.polygons import simplified
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
@settings(max_examples=300)
@given(MAPS, HEIGHTS)
def test_any_map_comes_back_pixel_for_pixel(labels, heights):
    found = outlines(labels, heights)
    assert len(found) == label(labels, background=0, connectivity=1).max()
    assert_same_map(labels, found)


@pytest.mark.slow
@settings(max_examples=100)
@given(MAPS, HEIGHTS)
def test_outlines_do_not_depend_on_the_strips(labels, heights):
    def as_set(found):
        return {(o.class_id, polygon(o).normalize().wkb) for o in found}

    assert as_set(outlines(labels, heights)) == as_set(outlines(labels, [100]))


@pytest.mark.slow
@settings(max_examples=300)
@given(MAPS, HEIGHTS, st.integers(0, 40))
def test_pieces_of_divided_objects_are_the_map_too(labels, heights, most):
    found = outlines(labels, heights, VectorLimits(max_corners=most))
    assert_same_map(labels, found)
    # at most what it may have, a strip's corners, and those where it was ended
    of_a_strip = 2 * (max(heights) + 1) * (labels.shape[1] + 1)
    assert all(one.corners <= most + of_a_strip for one in found)
    pieces = [(o.class_id, polygon(o)) for o in found if o.divided]
    left = {polygon(o).normalize().wkb for o in found if not o.divided}
    for whole in outlines(labels, heights):
        shape = polygon(whole)
        mine = [p for c, p in pieces if c == whole.class_id and shape.covers(p)]
        assert bool(mine) != (shape.normalize().wkb in left)
        if mine:
            assert shapely.union_all(mine).equals(shape)


def test_a_divided_object_and_its_neighbours_are_simplified_alike():
    """Cut across a wavy border, both sides still cover all, once."""
    y, x = np.mgrid[:400, :200]
    labels = np.where(x < 100 + 12 * np.sin(y / 9), 1, 2).astype(np.uint8)
    found = outlines(labels, [50], VectorLimits(max_corners=40))
    assert [o.divided for o in found] == [True] * 16
    shapes = [shapely.Polygon(simplified(o, 2.0)[0]) for o in found]
    assert sum(s.area for s in shapes) == pytest.approx(400 * 200)
    assert shapely.union_all(shapes).equals(shapely.box(0, 0, 200, 400))


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


@pytest.mark.slow
@settings(max_examples=100)
@given(MAPS, HEIGHTS, st.floats(0.1, 3))
def test_simplified_polygons_are_valid_and_stay_near(labels, heights, tolerance):
    for outline in outlines(labels, heights):
        outer, *holes = simplified(outline, tolerance)
        shape = shapely.Polygon(outer, holes)
        assert shape.is_valid
        assert len(holes) == len(outline.rings) - 1
        assert polygon(outline).hausdorff_distance(shape) <= tolerance + 1e-9


def test_neighbours_are_simplified_alike():
    """Four districts around wavy borders: after it they still cover all, once."""
    y, x = np.mgrid[:200, :200]
    wave = 100 + 12 * np.sin(x / 9)
    labels = np.where(y < wave, 1, 2) + 2 * (x > 90 + 10 * np.cos(y / 7))
    found = outlines(labels.astype(np.uint8), [64])
    rings = [list(simplified(o, 2.0)) for o in found]
    assert sum(map(len, (r[0] for r in rings))) < 0.2 * sum(
        len(o.rings[0]) for o in found
    )
    shapes = [shapely.Polygon(r[0], r[1:]) for r in rings]
    assert sum(s.area for s in shapes) == pytest.approx(200 * 200)
    assert shapely.union_all(shapes).equals(shapely.box(0, 0, 200, 200))


def test_an_island_smaller_than_the_tolerance_stays_with_its_hole():
    labels = np.ones((40, 40), np.uint8)
    labels[20, 20] = 2
    shapes = [shapely.Polygon(r[0], r[1:]) for r in
              (simplified(o, 5.0) for o in outlines(labels, [16]))]  # fmt: skip
    assert sorted(s.area for s in shapes) == [1, 1599]
