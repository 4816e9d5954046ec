"""Pixels inside polygons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.types import Polygon, Roi

numbers = st.integers(-30, 130).map(lambda n: n / 4)  # on corners, edges and centres
points = st.tuples(numbers, numbers)
rings = st.lists(points, min_size=3, max_size=8).map(tuple)


def winding(y, x, ring):
    """Even-odd by a ray to the left, edges half open: a pixel alone, the slow way."""
    odd = False
    for (y0, x0), (y1, x1) in zip(ring, ring[1:] + ring[:1], strict=True):
        if (y0 <= y) != (y1 <= y):
            (ya, xa), (yb, xb) = sorted([(y0, x0), (y1, x1)])
            odd ^= xa + (y - ya) / (yb - ya) * (xb - xa) <= x
    return odd


@pytest.mark.slow
@settings(max_examples=60)
@given(rings, st.lists(rings, max_size=2), st.integers(-3, 9), st.integers(-3, 9))
def test_rasterize_uses_pixel_centres(ring, holes, y, x):
    roi = Roi(y, x, 14, 13)
    mask = rasterize(Polygon(ring, tuple(holes)), roi)
    for row in range(14):
        for column in range(13):
            at = y + row + 0.5, x + column + 0.5
            wanted = winding(*at, ring) and not any(winding(*at, h) for h in holes)
            assert mask[row, column] == wanted


@settings(max_examples=30)
@given(rings, st.integers(4, 17))
def test_rasterized_tiles_equal_whole(ring, side):
    polygon = Polygon(ring)
    whole = np.zeros((40, 40), bool)
    for tile in Roi(0, 0, 40, 40).tiles(side):
        whole[tile.slices] = rasterize(polygon, tile)
    np.testing.assert_array_equal(whole, rasterize(polygon, Roi(0, 0, 40, 40)))
    covered = np.zeros((60, 60), bool)
    bounds = polygon.bounds.shift(10, 10).intersect(Roi(0, 0, 60, 60))
    covered[bounds.slices] = True
    assert not (rasterize(polygon, Roi(-10, -10, 60, 60)) & ~covered).any()


@settings(max_examples=40)
@given(rings, points)
def test_rasterized_polygons_with_shared_edge_partition_pixels(ring, middle):
    """A fan of triangles covers what lies in it an odd number of times: the ring."""
    fan = np.zeros((40, 40), bool)
    for one, other in zip(ring, ring[1:] + ring[:1], strict=True):
        fan ^= rasterize(Polygon((one, other, middle)), Roi(-4, -4, 40, 40))
    np.testing.assert_array_equal(fan, rasterize(Polygon(ring), Roi(-4, -4, 40, 40)))
