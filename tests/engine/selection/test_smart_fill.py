"""Tests of smart fill: regions that the features of an encoder hold together."""

import numpy as np
import pytest

from napari_uhrseg.engine.selection.smart_fill import feature_regions, select_similar
from napari_uhrseg.engine.selection.superpixels import superpixels
from napari_uhrseg.engine.selection.wand import grow, wand_picture, wand_seed

pytestmark = pytest.mark.slow  # loads torch and an encoder


@pytest.fixture(scope="module")
def textures():
    """Return a picture of two textures with equal colours, and the mask of one."""
    y, x = np.mgrid[:160, :192]
    right = x >= 96
    stripes = np.where((y // 4) % 2, 0.8, 0.2)
    noise = np.random.default_rng(0).choice([0.2, 0.8], (160, 192))
    return np.where(right, noise, stripes)[..., None].repeat(3, 2), right


@pytest.fixture
def regions(textures, make_area):
    area = make_area(textures[0])
    return feature_regions(area, superpixels(area))


def test_region_is_one_texture_although_its_colours_are_not_connected(
    regions, textures, make_area
):
    pixels, right = textures
    found = [select_similar(regions, (80, 40), t) for t in (0.4, 0.5, 0.6, 0.7)]
    assert max((f & ~right).sum() / (f | ~right).sum() for f in found) > 0.8
    seed = wand_seed(wand_picture(make_area(pixels)), (80, 40))
    assert grow(seed, 0.1).sum() < 0.3 * (~right).sum()


def test_region_is_connected_and_grows_with_the_tolerance(regions):
    sizes = [select_similar(regions, (80, 150), t).sum() for t in (0, 0.4, 0.8, 9)]
    assert sizes == sorted(sizes)
    assert sizes[0] == (regions.segments == regions.segments[80, 150]).sum()
    assert sizes[-1] == regions.segments.size


def test_superpixels_without_data_are_never_taken(textures, make_area):
    valid = np.ones(textures[1].shape, bool)
    valid[:, 96:] = False
    area = make_area(textures[0], valid)
    regions = feature_regions(area, superpixels(area))
    assert not select_similar(regions, (80, 180), 9).any()
    assert select_similar(regions, (-5, -5), 9)[:, 96:].sum() == 0


def test_picture_of_one_band_has_features(make_area):
    area = make_area(np.random.default_rng(0).random((40, 70, 1)))
    regions = feature_regions(area, superpixels(area))
    assert np.isfinite(regions.features).all()
    assert len(regions.features) == regions.segments.max() + 1
