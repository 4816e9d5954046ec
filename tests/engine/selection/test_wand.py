"""Tests of the wand: regions of similar colour."""

import numpy as np
import pytest
from skimage.segmentation import flood

from napari_uhrseg.engine.selection.wand import SIDE, grow, wand_picture, wand_seed
from napari_uhrseg.types import Roi


def region(area, at, tolerance):
    """Return the region in the work area."""
    seed = wand_seed(wand_picture(area), at)
    found = np.zeros(area.shape, bool)
    found[seed.box.slices] = grow(seed, tolerance)
    return found


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def test_wand_takes_the_disk_and_not_the_ground(disk_area):
    area, disk = disk_area
    assert iou(region(area, (48, 60), 0.3), disk) > 0.97
    assert iou(region(area, (2, 2), 0.3), ~disk) > 0.97


def test_tolerance_grows_the_region_up_to_everything(disk_area):
    area, disk = disk_area
    sizes = [region(area, (48, 60), t).sum() for t in (0, 0.02, 0.15, 2)]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 1
    assert sizes[-1] == disk.size


def test_region_is_that_of_scikit_image_on_one_band(make_area):
    steps = np.repeat(np.arange(8), 8)[None, :] / 10  # wider than the smoothing
    area = make_area(np.repeat(steps, 20, 0)[..., None])
    found = region(area, (10, 36), 0.15)
    smooth = wand_picture(area).colors[..., 0]
    np.testing.assert_array_equal(found, flood(smooth, (10, 36), tolerance=0.15))


def test_small_holes_are_filled_and_large_ones_kept(make_area):
    pixels = np.full((60, 60, 1), 0.5)
    pixels[10:14, 10:14] = 1
    pixels[30:50, 30:50] = 1
    found = region(make_area(pixels), (0, 0), 0.05)
    assert found[10:14, 10:14].all()
    assert not found[33:47, 33:47].any()


def test_pixels_without_data_are_never_taken(make_area):
    valid = np.ones((30, 30), bool)
    valid[:, 15:] = False
    area = make_area(np.zeros((30, 30, 3)), valid)
    np.testing.assert_array_equal(region(area, (5, 5), 2), valid)
    assert not region(area, (5, 20), 2).any()


@pytest.mark.parametrize("at", [(-5, 700), (1100, 2000), (3000, 3000)])
def test_work_is_bounded_to_a_square_around_the_point(make_area, at):
    area = make_area(np.zeros((1200, 1600, 1)))
    seed = wand_seed(wand_picture(area), at)
    assert max(seed.box.height, seed.box.width) <= SIDE
    assert Roi(0, 0, *area.shape).contains(seed.box)
    assert grow(seed, 0).all()
