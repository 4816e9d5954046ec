import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_uhrseg.types import Roi, TissueMask
from napari_uhrseg.types.tissue import mask_factor


def random_mask(shape: tuple[int, int], seed: int = 0) -> TissueMask:
    noise = np.random.default_rng(seed)
    pixels = noise.random(TissueMask.shape_of(shape)) > 0.7
    return TissueMask.of(pixels, shape)


def test_mask_has_at_most_2048_pixels_a_side():
    assert mask_factor((2048, 100)) == 1
    assert mask_factor((2049, 100)) == 2
    assert TissueMask.shape_of((100_000, 90_001)) == (1563, 1407)
    with pytest.raises(ValueError, match="a mask of"):
        TissueMask.of(np.zeros((5, 5), bool), (6, 5))


def test_mask_keeps_its_pixels_and_identity():
    mask = random_mask((37, 53))
    again = pickle.loads(pickle.dumps(mask))
    assert again == mask
    assert again.id == mask.id
    np.testing.assert_array_equal(again.pixels, mask.pixels)
    changed = mask.pixels.copy()
    changed[3, 4] ^= True
    assert TissueMask.of(changed, (37, 53)).id != mask.id


@given(st.integers(0, 5000), st.integers(0, 3000), st.integers(0, 3000))
def test_inside_touches_and_share_agree(seed, y, x):
    shape = (4097, 3001)  # three level-0 pixels of the last row and column are missing
    mask = random_mask(shape, seed % 3)
    assert mask.factor == 4
    roi = Roi(y, x, 1 + seed % 13, 1 + seed % 7).intersect(Roi(0, 0, *shape))
    if not roi.area:
        return
    inside = mask.inside(roi)
    assert inside.shape == (roi.height, roi.width)
    assert mask.touches(roi) == inside.any()
    assert mask.share_of(roi) == pytest.approx(inside.mean())
    spans = [np.array([[a, b]]) for a, b in ((roi.y, roi.bottom), (roi.x, roi.right))]
    assert mask.touched(*spans)[0, 0] == inside.any()
