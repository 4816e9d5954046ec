"""Smooth outlines: shared borders stay shared, without overlaps and gaps."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

from helpers.outlines import strips
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.io.vectorize.simplify import trace_polygons
from napari_uhrseg.io.vectorize.smooth import smooth_coverage
from napari_uhrseg.types import Roi

MAPS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))
)


def traced(labels, tolerance=0.0, smooth=0.0, limits=VectorLimits(), unlabelled=255):
    """Return the polygons of a map."""
    found = trace_polygons(strips(labels, [64]), tolerance, limits, unlabelled, smooth)
    return [
        shapely.Polygon(outer, holes)
        for one in found
        if not isinstance(one, Roi)
        for outer, *holes in [one[1]]
    ]


@pytest.fixture(scope="module")
def noise():
    """Return the largest of three noise fields, 160 x 160 pixels."""
    rng = np.random.default_rng(0)
    fields = [gaussian_filter(rng.standard_normal((160, 160)), 3) for _ in range(3)]
    return (np.argmax(fields, 0) + 1).astype(np.uint8)


@pytest.mark.parametrize("tolerance", [0.0, 2.0])
@pytest.mark.parametrize("smooth", [1.0, 4.0])
@pytest.mark.parametrize("corners", [2_000_000, 2000])
def test_smooth_map_is_covered_once(noise, tolerance, smooth, corners):
    limits = VectorLimits(coverage_corners=corners)
    found = traced(noise, tolerance, smooth, limits)
    assert shapely.is_valid(found).all()
    assert shapely.coverage_is_valid(found)
    assert shapely.area(found).sum() == pytest.approx(noise.size)
    before = traced(noise, tolerance, 0, limits)
    assert len(found) == len(before)
    moved = shapely.hausdorff_distance(
        shapely.boundary(found), shapely.boundary(before)
    )
    assert 0 < moved.max() <= smooth


def turns(shapes) -> np.ndarray:
    """Return the angles in degrees by which outlines turn at their corners."""
    rings = [shapely.get_coordinates(s.exterior)[:-1] for s in shapes]
    sides = [np.roll(ring, -1, 0) - ring for ring in rings]
    angles = [np.arctan2(side[:, 1], side[:, 0]) for side in sides]
    change = np.concatenate([a - np.roll(a, 1) for a in angles])
    return np.abs(np.degrees((change + np.pi) % (2 * np.pi) - np.pi))


def test_smooth_outlines_turn_less(noise):
    before, after = turns(traced(noise)), turns(traced(noise, 0, 1))
    assert np.median(before) == 90
    assert np.median(after) < 30


def test_long_sides_stay_straight():
    labels = np.ones((64, 64), np.uint8)
    labels[10:50, 10:50] = 2
    square, _ = traced(labels, 0, 1.5)
    inner = shapely.box(10, 10, 50, 50)
    assert square.within(inner)
    assert inner.area - square.area < 4
    assert square.contains(shapely.box(11.5, 10, 48.5, 50).intersection(inner))


@given(MAPS, st.sampled_from([0.0, 1.0]), st.sampled_from([0.5, 1.0, 3.0]))
@settings(deadline=None, max_examples=60)
def test_any_map_stays_a_coverage(labels, tolerance, smooth):
    found = traced(labels, tolerance, smooth)
    assert shapely.is_valid(found).all()
    assert shapely.coverage_is_valid(found)
    whole = traced(np.where(labels == 0, 9, labels), tolerance, smooth, unlabelled=0)
    assert shapely.coverage_is_valid(whole)
    assert shapely.area(whole).sum() == pytest.approx(labels.size)


@given(MAPS)
@settings(deadline=None, max_examples=40)
def test_short_distances_need_no_check(labels):
    """The fast way for outlines along pixels gives the result of the checked one."""
    rings = [
        one[1]
        for one in trace_polygons(strips(labels, [64]))
        if not isinstance(one, Roi)
    ]
    fast = smooth_coverage(rings, 1.0, along_pixels=True)
    checked = smooth_coverage(rings, 1.0)
    for one, other in zip(fast, checked, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_polygons():
    assert smooth_coverage([], 1.0) == []
