"""Nodata values that are rounded, or not exact in floating point."""

import numpy as np
import pytest

from napari_uhrseg.io.image.from_array import image_of_arrays
from napari_uhrseg.io.image.nodata import differs_from_nodata
from napari_uhrseg.io.image.pixel_reader import Band
from napari_uhrseg.types import Roi

LOWEST = np.finfo(np.float32).min


@pytest.mark.parametrize(
    ("values", "nodata", "valid"),
    [
        (np.float32([LOWEST, -3.4e38, 5, 3.4e38]), -3.402823e38, [0, 0, 1, 1]),
        (np.float32([LOWEST, -1e37]), -3.4e38, [0, 1]),
        (np.float32([0.1, 0.1001]), 0.1, [0, 1]),
        (np.float64([-1.7976931348623157e308, 0]), -1.797693e308, [0, 1]),
        (np.float32([-9999, -9998.99, np.inf]), -9999, [0, 1, 1]),
        (np.float32([0, -0.0, 1e-30]), 0, [0, 0, 1]),
        (np.int64([2**60, 2**60 + 1]), 2**60, [0, 1]),
        (np.uint64([2**64 - 1, 2**64 - 2]), 2**64 - 1, [0, 1]),
        (np.uint8([0, 255]), -9999, [1, 1]),
        (np.uint8([0, 255]), 0.5, [1, 1]),
        (np.uint8([0, 255]), np.nan, [1, 1]),
        (np.array([True, False]), 1, [0, 1]),
        (np.uint8([0, 255]), None, [1, 1]),
    ],
)
def test_pixels_that_differ_from_nodata(values, nodata, valid):
    np.testing.assert_array_equal(differs_from_nodata(values, nodata), valid)


def test_a_pixel_is_nodata_if_it_is_in_all_bands():
    data = np.array([[[7, 7], [7, 8], [1, 2]]], np.uint8)
    image = image_of_arrays([data], name="a", rgb=False, axes="yxs")
    image.bands = (Band("one", None, 7), Band("two", None, 7))
    np.testing.assert_array_equal(image.read(Roi(0, 0, 1, 3)).valid, [[0, 1, 1]])
