"""Test the display of files whose bands have no colours, or more than three."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from napari_uhrseg.cli.info import image_facts
from napari_uhrseg.io.image.band_colors import false_color
from napari_uhrseg.io.image.composite import (
    Picture,
    composite_levels,
    default_picture,
    measured_limits,
)
from napari_uhrseg.io.open import open_image

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)
RNG = np.random.default_rng(0)


def raster(path, count, dtype="uint16", colors=(), names=()):
    values = RNG.integers(100, 1000, (count, 60, 50)).astype(dtype)
    if dtype == "float32":
        values /= 1000
    with rasterio.open(
        path, "w", driver="GTiff", height=60, width=50, count=count, dtype=dtype,
        photometric="MINISBLACK" if not colors else "RGB",
    ) as file:  # fmt: skip
        file.write(values)
        if colors:
            file.colorinterp = colors
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
    return open_image(path), values


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("count", [3, 4, 6])
def test_bands_without_colours_are_red_green_and_blue_in_order(tmp_path, dtype, count):
    image, values = raster(tmp_path / "a.tif", count, dtype)
    picture = default_picture(image)
    assert picture == Picture((0, 1, 2), "percentiles")
    limits = measured_limits(image, picture)
    expected = [np.percentile(values[band], (2, 98)) for band in range(3)]
    np.testing.assert_allclose(limits, expected, rtol=1e-5)
    pixels = composite_levels(image, picture.bands, limits)[0].compute()
    for band in range(3):  # a picture that one can see
        assert pixels[..., band].min() == 0
        assert pixels[..., band].max() == 255
        assert 100 < pixels[..., band].mean() < 155


def test_near_infrared_of_an_rgb_file_is_named_and_can_be_shown(tmp_path):
    colors = (
        ColorInterp.red,
        ColorInterp.green,
        ColorInterp.blue,
        ColorInterp.undefined,
    )
    names = ("red", "green", "blue", "near infrared")
    image, _ = raster(tmp_path / "a.tif", 4, "uint8", colors, names)
    assert image.rgb
    assert default_picture(image).bands == (0, 1, 2)
    assert false_color(image.bands) == (3, 0, 1)
    bands = image_facts(image)["Bands"]
    assert bands == "4 bands: red, green, blue, near infrared (displayed as RGB)"
