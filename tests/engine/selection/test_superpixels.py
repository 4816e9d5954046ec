"""Tests of superpixels, and of those that a brush touches."""

import numpy as np
from skimage.measure import label

from napari_uhrseg.engine.selection.superpixels import SIDE, superpixels, touched


def test_superpixels_are_connected_small_and_end_at_the_border(disk_area):
    area, disk = disk_area
    segments = superpixels(area)
    count = segments.max()
    assert segments.shape == area.shape
    assert label(segments, connectivity=1).max() == count
    assert 0.5 < disk.size / count / SIDE**2 < 2
    inside = np.bincount(segments[disk], minlength=count + 1)
    mixed = np.minimum(inside, np.bincount(segments.ravel()) - inside)
    assert mixed.sum() < 0.02 * disk.size


def test_side_sets_the_number_of_superpixels(disk_area):
    area, _ = disk_area
    assert superpixels(area, side=6).max() > 2 * superpixels(area, side=12).max()


def test_touched_superpixels_are_taken_whole():
    numbers = np.array([[1, 2], [3, 4]], np.int32)
    segments = numbers.repeat(3, 0).repeat(3, 1)
    painted = np.zeros((6, 6), bool)
    painted[0, 2:4] = True
    np.testing.assert_array_equal(touched(segments, painted), segments <= 2)
    assert not touched(segments, np.zeros((6, 6), bool)).any()


def test_one_pixel_is_one_superpixel(make_area):
    assert superpixels(make_area(np.zeros((1, 1, 3)))).tolist() == [[1]]


def test_pixels_without_data_have_no_superpixel(make_area):
    valid = np.ones((40, 40), bool)
    valid[:, 20:] = False
    segments = superpixels(make_area(np.zeros((40, 40, 3)), valid))
    np.testing.assert_array_equal(segments == 0, ~valid)
    np.testing.assert_array_equal(touched(segments, np.ones((40, 40), bool)), valid)
