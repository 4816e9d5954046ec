"""Tests of freehand outlines, and of the way of a brush."""

import numpy as np
from skimage.draw import polygon2mask

from napari_uhrseg.engine.selection.outline import BrushWay, inside, stroke
from napari_uhrseg.types import Roi

SHAPE = (40, 50)
LINE = [(5.0, 5.0), (5.0, 30.0), (20.0, 42.0), (33.0, 20.0)]


def whole(points, shape=SHAPE):
    box, mask = inside(points, shape)
    found = np.zeros(shape, bool)
    found[box.slices] = mask
    return found


def test_inside_of_a_line_is_that_of_scikit_image_with_its_border():
    expected = polygon2mask(SHAPE, LINE)
    found = whole(LINE)
    assert found[expected].all()
    assert (found & ~expected).sum() < 120  # pixels on the line
    assert found[5, 5:31].all()


def test_line_that_leaves_the_work_area_is_clipped():
    found = whole([(-10, -10), (-10, 20), (20, 20), (20, -10)])
    assert found[:21, :21].all()
    assert found.sum() == 21 * 21
    box, mask = inside([(-9, -9), (-5, -5)], SHAPE)
    assert box.area == mask.size == 0


def test_click_is_one_pixel():
    box, mask = inside([(7.2, 8.4)], SHAPE)
    assert box == Roi(7, 8, 1, 1)
    assert mask.all()


def test_stroke_covers_the_pixels_near_its_way():
    found = stroke([(20, 10), (20, 30)], 4, SHAPE)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(y - 20, x - np.clip(x, 10, 30))
    assert found[distance <= 3].all()
    assert not found[distance > 5.5].any()
    assert stroke([(3, 3)], 0.4, SHAPE)[3, 3]


def test_stroke_that_grows_covers_the_same_pixels():
    points = [(5, 5), (5, 20), (25, 30), (10, 35)]
    way = BrushWay(SHAPE)
    for end in (1, 2, 2, 4):
        found = way.covered(points[:end], 3)
    assert (found == stroke(points, 3, SHAPE)).all()
