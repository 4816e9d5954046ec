"""Rectangles at other scales, and around masks."""

import numpy as np
import pytest

from napari_uhrseg.types import Roi


@pytest.mark.parametrize(
    ("roi", "step", "wanted"),
    [
        (Roi(0, 0, 8, 8), 4, Roi(0, 0, 2, 2)),
        (Roi(3, 4, 2, 4), 4, Roi(0, 1, 2, 1)),
        (Roi(-1, 5, 1, 1), 4, Roi(-1, 1, 1, 1)),
        (Roi(7, 9, 5, 6), 1, Roi(7, 9, 5, 6)),
        (Roi(8, 8, 0, 0), 4, Roi(2, 2, 0, 0)),
    ],
)
def test_a_coarser_level_has_the_pixels_that_the_rectangle_touches(roi, step, wanted):
    assert roi.at_scale(step) == wanted


def test_the_rectangle_around_a_mask_is_the_smallest():
    mask = np.zeros((9, 7), bool)
    assert Roi.around(mask) is None
    mask[2, 5] = mask[6, 1] = True
    assert Roi.around(mask) == Roi(2, 1, 5, 5)
