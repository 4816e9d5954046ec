"""Tests of the pixels on which tools select regions."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from napari_uhrseg.engine.selection.work_area import (
    MAX_PIXELS,
    read_work_area,
    work_level,
)
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.types import Roi

RNG = np.random.default_rng(0)


def test_pixels_are_those_of_the_image_between_black_and_white():
    data = RNG.integers(0, 1000, (40, 50, 3), np.uint16)
    image = image_from_array([data], name="a", rgb=True)
    limits = [(0, 1000), (100, 500), (0, 500)]
    area = read_work_area(image, Roi(4, 6, 20, 30), 0, (0, 1, 2), limits)
    low, high = np.array(limits).T
    expected = np.clip((data[4:24, 6:36] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(area.pixels, expected, atol=1e-6)
    assert area.roi == Roi(4, 6, 20, 30)
    assert area.valid.all()


def test_work_area_outside_the_image_is_not_valid():
    image = image_from_array([np.full((10, 10, 3), 9, np.uint8)], name="a", rgb=True)
    area = read_work_area(image, Roi(3, 3, 9, 9), 2, (0, 1, 2), [(0, 255)] * 3)
    assert area.roi == Roi(0, 0, 12, 12)
    assert area.shape == (3, 3)
    assert area.valid[0, 0]
    assert not area.valid[2, 2] or area.pixels[2, 2].any()


@pytest.mark.parametrize(
    ("side", "level", "expected"),
    [(1000, 0, 0), (1000, 2, 2), (1449, 0, 1), (100_000, 0, 7)],
)
def test_level_bounds_the_pixels_of_the_work_area(side, level, expected):
    roi = Roi(0, 0, side, side)
    found = work_level(roi, level)
    assert found == expected
    assert roi.at_scale(1 << found).area <= MAX_PIXELS


def test_colors_are_cielab_of_three_bands_and_else_the_pixels():
    data = RNG.integers(0, 255, (5, 6, 3), np.uint8)
    image = image_from_array([data], name="a", rgb=True)
    three = read_work_area(image, Roi(0, 0, 5, 6), 0, (0, 1, 2), [(0, 255)] * 3)
    np.testing.assert_allclose(three.colors, rgb2lab(data / 255) / 100, atol=1e-4)
    one = read_work_area(image, Roi(0, 0, 5, 6), 0, (1,), [(0, 255)])
    np.testing.assert_allclose(one.colors[..., 0], data[..., 1] / 255, atol=1e-6)
