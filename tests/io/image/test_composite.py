"""Tests of the colours of bands, and of the contrast and pixels of composites."""

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.transform import from_origin

from helpers.qptiff import write_qptiff
from napari_uhrseg.io.image.band_colors import channel_colors, false_color, true_color
from napari_uhrseg.io.image.composite import (
    Picture,
    composite_levels,
    default_picture,
    measured_limits,
    quick_limits,
    value_bounds,
)
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Band
from napari_uhrseg.io.open import open_image

RNG = np.random.default_rng(0)


def bands(*names):
    return [Band(name) for name in names]


@pytest.mark.parametrize(
    ("names", "true", "false"),
    [
        (("blue", "green", "red", "nir"), (2, 1, 0), (3, 2, 1)),
        (("Red", "Green", "Blue", "Near infrared"), (0, 1, 2), (3, 0, 1)),
        (("R", "G", "B", "N"), (0, 1, 2), (3, 0, 1)),
        (("Blue", "Green", "Red Edge", "Red", "NIR"), (3, 1, 0), (4, 3, 1)),
        (("B02", "B03", "B04", "B05", "B08", "B8A"), (2, 1, 0), (4, 2, 1)),
        (("B1", "B2", "B3", "B4"), None, None),
        (("band 1", "band 2", "band 3", "band 4"), None, None),
        (("r", "s", "t"), None, None),
    ],
)
def test_bands_are_found_by_name(names, true, false):
    assert true_color(bands(*names)) == true
    assert false_color(bands(*names)) == false


def test_bands_are_found_by_wavelength_and_stated_color():
    waves = [Band(f"{w}", wavelength=w) for w in (443, 490, 550, 660, 710, 830, 2200)]
    assert true_color(waves) == (3, 2, 1)
    assert false_color(waves) == (5, 3, 2)
    stated = [Band("a", color="nir"), *(Band(c, color=c) for c in ("red", "green"))]
    assert false_color(stated) == (0, 1, 2)
    assert true_color(stated) is None


@pytest.mark.parametrize(
    ("name", "color"),
    [
        ("DAPI", "blue"), ("Hoechst 33342", "blue"), ("FITC", "green"),
        ("anti-CD3 GFP", "green"), ("Alexa Fluor 488", "green"), ("Cy3", "orange"),
        ("TRITC", "orange"), ("Cy3.5", "red"), ("Opal 570", "orange"),
        ("Cy5", "magenta"), ("Opal 690", "magenta"), ("Alexa 594", "red"),
        ("mCherry", "red"),
    ],
)  # fmt: skip
def test_fluorophores_have_colors(name, color):
    assert channel_colors(bands(name)) == (color,)


def test_channels_have_colors_by_wavelength_or_in_order():
    waves = [Band(str(w), wavelength=w) for w in (461, 519, 570, 617, 665)]
    assert channel_colors(waves) == ("blue", "green", "orange", "red", "magenta")
    named = channel_colors(bands("DAPI", "x", "GFP", "y"))
    assert named == ("blue", "magenta", "green", "cyan")
    assert len(set(channel_colors(bands(*map(str, range(7)))))) == 7


@pytest.fixture
def raster(tmp_path):
    """Return a 16-bit raster of B, G, R and NIR, whose upper quarter is nodata."""
    path = tmp_path / "four.tif"
    values = RNG.integers(300, 3000, (4, 300, 200)).astype(np.uint16)
    values[3] *= 3
    values[0, 150, :5] = 65_000  # outliers
    values[:, :75] = 0
    names = "blue", "green", "red", "nir"
    with rasterio.open(
        path, "w", driver="GTiff", height=300, width=200, count=4, dtype="uint16",
        nodata=0, crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10),
        photometric="MINISBLACK", tiled=True, blockxsize=128, blockysize=128,
    ) as file:  # fmt: skip
        file.write(values)
        for i, name in enumerate(names, 1):
            file.set_band_description(i, name)
            file.update_tags(i, STATISTICS_MINIMUM=1, STATISTICS_MAXIMUM=65_000)
    return path, values


def test_raster_has_composite_with_stretch_of_each_band(raster):
    path, values = raster
    image = open_image(path)
    picture = default_picture(image)
    assert picture == Picture((2, 1, 0), "percentiles")
    limits = measured_limits(image, picture)
    expected = [np.percentile(values[i, 75:], (2, 98)) for i in (2, 1, 0)]
    np.testing.assert_allclose(limits, expected)
    assert quick_limits(image, picture) == ((0, 65_535),) * 3
    assert value_bounds(image, 0) == (0, 65_535)
    shown = composite_levels(image, (3, 2, 1), ((900, 9000), (300, 3000), (300, 3000)))
    (level,) = shown
    assert level.dtype == np.uint8
    assert level.shape == (300, 200, 4)
    pixels = level[50:300:3, 10:].compute()
    raw = values[[3, 2, 1], 50:300:3, 10:].transpose(1, 2, 0).astype(float)
    low, high = np.array([900, 300, 300]), np.array([9000, 3000, 3000])
    scaled = np.rint(np.clip((raw - low) * (255 / (high - low)), 0, 255))
    valid = (raw != 0).any(axis=-1)
    np.testing.assert_array_equal(pixels[..., :3], scaled * valid[..., None])
    np.testing.assert_array_equal(pixels[..., 3], 255 * valid)


def test_composite_decodes_only_its_bands_of_many(tmp_path):
    path = tmp_path / "many.tif"
    values = RNG.integers(0, 4000, (12, 64, 64)).astype(np.uint16)
    with rasterio.open(
        path, "w", driver="GTiff", height=64, width=64, count=12, dtype="uint16",
        crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10), interleave="band",
    ) as file:  # fmt: skip
        file.write(values)
        for i, micrometres in enumerate((0.44, 0.49, 0.56, 0.665, 0.83), 1):
            tags = {"CENTRAL_WAVELENGTH_UM": micrometres}
            file.update_tags(i, ns="IMAGERY", **tags)
    image = open_image(path)
    assert default_picture(image).bands == (3, 2, 1)
    assert false_color(image.bands) == (4, 3, 2)
    (level,) = composite_levels(image, (11, 0, 5), ((0, 4000),) * 3)
    expected = np.rint(values[[11, 0, 5]].transpose(1, 2, 0) * (255 / 4000))
    np.testing.assert_array_equal(level.compute(), expected)


def test_masked_and_not_finite_pixels_are_left_out(tmp_path):
    path = tmp_path / "mask.tif"
    values = np.linspace(0, 1, 3 * 64 * 64, dtype=np.float32).reshape(3, 64, 64)
    values[1, 40, 40] = np.nan
    values[:, :32] += 1000  # masked
    mask = np.full((64, 64), 255, np.uint8)
    mask[:32] = 0
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", height=64, width=64, count=3, dtype="float32",
            crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10),
        ) as file,
    ):  # fmt: skip
        file.write(values)
        file.write_mask(mask)
    image = open_image(path)
    limits = measured_limits(image, default_picture(image))
    valid = [values[i, 32:][np.isfinite(values[i, 32:])] for i in range(3)]
    np.testing.assert_allclose(limits, [np.percentile(v, (2, 98)) for v in valid], 1e-5)
    (level,) = composite_levels(image, (0, 1, 2), limits)
    shown = level.compute()[..., 3] == 255
    assert not shown[:32].any()
    assert shown[32:].sum() == 32 * 64 - 1


def test_channels_are_layers_and_pictures_of_8_bits_are_unchanged(tmp_path):
    path = tmp_path / "four.ome.tif"
    data = RNG.integers(100, 900, (4, 96, 80)).astype(np.uint16)
    names = ["DAPI", "FITC", "Cy3", "Cy5"]
    about = {"axes": "CYX", "Channel": {"Name": names}, "PhysicalSizeX": 0.5,
             "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5,
             "PhysicalSizeYUnit": "µm"}  # fmt: skip
    tifffile.imwrite(path, data, metadata=about, photometric="minisblack")
    image = open_image(path)
    picture = default_picture(image)
    assert picture == Picture((), "percentiles")
    limits = measured_limits(image, picture)
    np.testing.assert_allclose(limits, [np.percentile(c, (2, 98)) for c in data])
    assert channel_colors(image.bands) == ("blue", "green", "orange", "magenta")
    color = image_from_array(np.zeros((9, 9, 3), np.uint8), name="rgb", rgb=True)
    assert default_picture(color) == Picture((0, 1, 2), "full")
    assert composite_levels(color, (0, 1, 2), ((0, 255),) * 3) is color.levels


def test_channels_of_qptiff_have_names_and_colors(tmp_path):
    path = tmp_path / "panel.qptiff"
    names = "DAPI", "Opal 520", "Opal 570", "Opal 690"
    planes = (np.full((64, 48), 100 * i, np.uint16) for i in range(4))
    write_qptiff(path, dict(zip(names, planes, strict=True)))
    image = open_image(path)
    assert tuple(band.name for band in image.bands) == names
    assert default_picture(image).bands == ()
    assert channel_colors(image.bands) == ("blue", "green", "orange", "magenta")


def test_emission_wavelengths_of_ome_tiff_are_read(tmp_path):
    path = tmp_path / "waves.ome.tif"
    about = {"axes": "CYX", "Channel": {"EmissionWavelength": [461, 519, 570]}}
    data = np.zeros((3, 64, 48), np.uint16)
    tifffile.imwrite(path, data, metadata=about, photometric="minisblack")
    image = open_image(path)
    assert [band.wavelength for band in image.bands] == pytest.approx([461, 519, 570])
    assert channel_colors(image.bands) == ("blue", "green", "orange")


@pytest.mark.parametrize(
    ("picture", "fits"),
    [
        (Picture((3, 2, 1)), True),
        (Picture((4, 2, 1)), False),
        (Picture((1, 2)), False),
        (Picture((), "custom", ((0, 1),) * 4), True),
        (Picture((), "custom", ((0, 1),) * 3), False),
        (Picture((0, 1, 2), "custom", ((1, 1),) * 3), False),
    ],
)
def test_remembered_picture_must_fit(raster, picture, fits):
    assert picture.fits(open_image(raster[0])) == fits
