"""Simplified polygons: a coverage without overlaps and gaps."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from helpers.outlines import outlines, strips
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.io.vectorize.simplify import trace_polygons
from napari_uhrseg.types import Roi

MAPS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))
)
HEIGHTS = st.lists(st.integers(1, 6), min_size=1, max_size=14)


def simplified(labels, heights, tolerance, limits=VectorLimits(), unlabelled=255):
    """Return the class ids and the polygons."""
    found = [
        one
        for one in trace_polygons(
            strips(labels, heights), tolerance, limits, unlabelled
        )
        if not isinstance(one, Roi)
    ]
    ids = [outline.class_id for outline, _ in found]
    return ids, [shapely.Polygon(outer, holes) for _, (outer, *holes) in found]


@pytest.fixture(scope="module")
def noise():
    """Return the largest of three noise fields, 256 x 256 pixels."""
    rng = np.random.default_rng(0)
    fields = [gaussian_filter(rng.standard_normal((256, 256)), 3) for _ in range(3)]
    return (np.argmax(fields, 0) + 1).astype(np.uint8)


@pytest.mark.parametrize(
    "limits",
    [
        VectorLimits(),
        VectorLimits(coverage_corners=3000),
        VectorLimits(coverage_corners=3000, max_corners=1000),
    ],
)
def test_simplified_map_is_covered_once(noise, limits):
    ids, shapes = simplified(noise, [64], 2.0, limits)
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert shapely.area(shapes).sum() == noise.size
    assert set(ids) == {1, 2, 3}
    corners = sum(one.corners for one in outlines(noise, [64]))
    assert shapely.get_num_coordinates(shapes).sum() < 0.75 * corners


def test_borders_to_unlabelled_ground_are_simplified(noise):
    labels = np.where(noise == 3, 0, noise).astype(np.uint8)
    ids, shapes = simplified(labels, [64], 2.0)
    _, kept = simplified(labels, [64], 2.0, unlabelled=0)
    assert set(ids) == {1, 2}
    for found in (shapes, kept):
        assert shapely.coverage_is_valid(found)
    assert shapely.area(kept).sum() == np.count_nonzero(labels)
    count = shapely.get_num_coordinates
    assert count(shapes).sum() < 0.6 * count(kept).sum()


@pytest.mark.slow
@settings(max_examples=50)
@given(MAPS, HEIGHTS, st.floats(0.1, 3), st.integers(0, 60))
def test_any_map_becomes_a_coverage(labels, heights, tolerance, most):
    limits = VectorLimits(coverage_corners=most)
    ids, shapes = simplified(labels, heights, tolerance, limits)
    whole = outlines(labels, heights)
    assert sorted(ids) == sorted(one.class_id for one in whole)
    holes = sum(len(one.rings) - 1 for one in whole)
    assert shapely.get_num_interior_rings(shapes).sum() == holes
    assert shapely.is_valid(shapes).all()
    if len(shapes):
        assert shapely.coverage_is_valid(shapes)


def test_divided_object_and_its_neighbours_are_simplified_alike():
    """Both sides of a wavy border, cut across, still cover all once."""
    y, x = np.mgrid[:400, :200]
    labels = np.where(x < 100 + 12 * np.sin(y / 9), 1, 2).astype(np.uint8)
    ids, shapes = simplified(labels, [50], 2.0, VectorLimits(max_corners=40))
    assert len(ids) == 16
    assert sum(s.area for s in shapes) == pytest.approx(400 * 200)
    assert shapely.union_all(shapes).equals(shapely.box(0, 0, 200, 400))


def test_neighbours_are_simplified_alike():
    """Four districts around wavy borders still cover all once."""
    y, x = np.mgrid[:200, :200]
    wave = 100 + 12 * np.sin(x / 9)
    labels = np.where(y < wave, 1, 2) + 2 * (x > 90 + 10 * np.cos(y / 7))
    labels = labels.astype(np.uint8)
    _, shapes = simplified(labels, [64], 2.0)
    corners = sum(one.corners for one in outlines(labels, [64]))
    assert shapely.get_num_coordinates(shapes).sum() < 0.3 * corners
    assert sum(s.area for s in shapes) == pytest.approx(200 * 200)
    assert shapely.union_all(shapes).equals(shapely.box(0, 0, 200, 200))


def test_island_smaller_than_the_tolerance_stays_with_its_hole():
    labels = np.ones((40, 40), np.uint8)
    labels[20, 20] = 2
    _, (sea, island) = simplified(labels, [16], 5.0)
    sea, island = sorted((sea, island), key=lambda s: -s.area)
    assert 0 < island.area <= 1
    assert sea.area + island.area == 1600
    assert len(sea.interiors) == 1


def test_map_without_labels_has_no_polygons():
    assert simplified(np.zeros((9, 9), np.uint8), [4], 1.0) == ([], [])
