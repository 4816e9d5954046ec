import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine, from_origin

from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

RNG = np.random.default_rng(3)


def write(path, pixels, *, mask=None, overviews=(), colours=None, **profile):
    """A raster of (bands, y, x) pixels."""
    options = {
        "driver": "GTiff", "count": len(pixels), "height": pixels.shape[1],
        "width": pixels.shape[2], "dtype": pixels.dtype, "crs": "EPSG:32632",
        "transform": from_origin(500_000, 5_000_000, 0.2, 0.2), **profile,
    }  # fmt: skip
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **options) as file,
    ):
        file.write(pixels)
        if mask is not None:
            file.write_mask(mask)
        if colours is not None:
            file.colorinterp = colours
        if overviews:
            file.build_overviews(list(overviews), Resampling.average)
    return path


def whole(image):
    return image.read(Roi(0, 0, *image.shape))


def test_cog_has_coordinates_and_overviews(tmp_path):
    pixels = RNG.integers(0, 255, (3, 900, 700), np.uint8)
    path = write(
        tmp_path / "a.tif", pixels, tiled=True, blockxsize=256, blockysize=256,
        compress="deflate", photometric="rgb", overviews=(2, 4),
    )  # fmt: skip
    image = open_image(path)
    assert image.rgb
    assert image.downsamples == (1, 2, 4)
    assert (image.unit, image.pixel_size) == ("metre", pytest.approx((0.2, 0.2)))
    assert image.affine == pytest.approx((0.2, 0, 500_000, 0, -0.2, 5_000_000))
    assert "32N" in image.crs
    np.testing.assert_array_equal(whole(image).data, np.moveaxis(pixels, 0, -1))
    half = image.read(Roi(0, 0, 900, 700), (450, 350)).data
    with rasterio.open(path, overview_level=0) as file:
        np.testing.assert_array_equal(half, np.moveaxis(file.read(), 0, -1))


def test_nodata_and_masks_are_not_valid(tmp_path):
    pixels = RNG.integers(1, 255, (3, 300, 300), np.uint8)
    pixels[:, :50] = 0
    pixels[0, 60] = 0  # nodata in one band only: valid, as GDAL has it
    image = open_image(write(tmp_path / "n.tif", pixels, nodata=0))
    assert image.bands[0].nodata == 0
    assert (~whole(image).valid).sum() == 50 * 300
    mask = np.zeros((300, 300), np.uint8)
    mask[100:] = 255
    image = open_image(write(tmp_path / "m.tif", pixels, mask=mask, overviews=(2,)))
    np.testing.assert_array_equal(whole(image).valid, mask > 0)
    assert image.read(Roi(0, 0, 300, 300), (150, 150)).valid.sum() == 100 * 150


def test_many_bands_are_named_and_colours_found_among_them(tmp_path):
    pixels = RNG.integers(0, 4000, (6, 128, 100), np.uint16)
    kinds = [ColorInterp.undefined, ColorInterp.blue, ColorInterp.green,
             ColorInterp.red, ColorInterp.undefined, ColorInterp.undefined]  # fmt: skip
    path = write(tmp_path / "s2.tif", pixels, colours=kinds)
    with rasterio.open(path, "r+") as file:
        file.set_band_description(5, "near infrared")
        file.update_tags(1, STATISTICS_MINIMUM="5", STATISTICS_MAXIMUM="3999")
    image = open_image(path)
    assert [b.name for b in image.bands] == [
        "band 1", "blue", "green", "red", "near infrared", "band 6",
    ]  # fmt: skip
    assert image.bands[0].range == (5, 3999)
    assert image.rgb_bands == (3, 2, 1)
    assert image.levels[0].shape == (128, 100, 3)
    np.testing.assert_array_equal(
        image.read(Roi(0, 0, 128, 100), bands=(4, 0)).data,
        np.moveaxis(pixels[[4, 0]], 0, -1),
    )


def test_degrees_feet_and_rotation(tmp_path):
    pixels = np.zeros((1, 64, 64), np.uint8)
    degrees = from_origin(10, 60, 1e-5, 1e-5)
    image = open_image(
        write(tmp_path / "d.tif", pixels, crs="EPSG:4326", transform=degrees)
    )
    assert image.unit == "degree"
    assert image.meters_per_pixel == pytest.approx(1.1132 * 0.5**0.5, rel=1e-2)
    feet = from_origin(0, 0, 2, 2)
    image = open_image(
        write(tmp_path / "f.tif", pixels, crs="EPSG:2263", transform=feet)
    )
    assert (image.unit, image.pixel_size[0]) == ("metre", pytest.approx(0.6096, 1e-4))
    turned = Affine.translation(9, 9) * Affine.rotation(30) * Affine.scale(3, -2)
    image = open_image(write(tmp_path / "r.tif", pixels, transform=turned))
    assert image.pixel_size == pytest.approx((2, 3))
    assert image.affine == pytest.approx(tuple(turned)[:6])


def test_colour_tables_are_shown_as_colours(tmp_path):
    index = RNG.integers(0, 4, (1, 70, 80), np.uint8)
    path = write(tmp_path / "p.tif", index)
    table = {0: (9, 8, 7, 255), 1: (255, 0, 0, 255), 2: (0, 255, 0, 255)}
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, table)
    image = open_image(path)
    assert image.colormap[1] == (255, 0, 0, 255)
    np.testing.assert_array_equal(whole(image).data[index[0] == 0][0], (9, 8, 7))
    np.testing.assert_array_equal(whole(image).data[index[0] == 2][0], (0, 255, 0))


def test_jp2_and_vrt(tmp_path):
    pixels = RNG.integers(0, 255, (3, 200, 150), np.uint8)
    jp2 = write(
        tmp_path / "a.jp2", pixels, driver="JP2OpenJPEG", quality=100, reversible="YES"
    )
    np.testing.assert_array_equal(
        whole(open_image(jp2)).data, np.moveaxis(pixels, 0, -1)
    )
    source = write(tmp_path / "a.tif", pixels)
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="150" rasterYSize="200">'
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source.name}</SourceFilename>'
        "<SourceBand>2</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    np.testing.assert_array_equal(whole(open_image(vrt)).data[..., 0], pixels[1])


def test_many_threads_read_alike(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    pixels = RNG.integers(0, 255, (3, 1500, 1500), np.uint8)
    path = write(
        tmp_path / "a.tif", pixels, tiled=True, blockxsize=128, blockysize=128,
        compress="zstd",
    )  # fmt: skip
    image = open_image(path)
    rois = [Roi(y, x, 300, 300) for y in range(0, 1200, 170) for x in (0, 400, 900)]
    with ThreadPoolExecutor(6) as pool:
        for roi, found in zip(rois, pool.map(image.read, rois), strict=True):
            expected = np.moveaxis(pixels[(slice(None), *roi.slices)], 0, -1)
            np.testing.assert_array_equal(found.data, expected)


READER = """
import sys
import psutil
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi
image, used = open_image(sys.argv[1]), psutil.Process().memory_info
before = used().rss
with CHUNK_CACHE.limited(16 << 20):
    for tile in Roi(0, 0, *image.shape).tiles(1024):
        image.read(tile)
print((used().rss - before) >> 20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [None, "1000"])
def test_gdal_keeps_no_large_cache_of_its_own(tmp_path, own):
    path = tmp_path / "large.tif"  # 400 MB
    with rasterio.open(
        path, "w", driver="GTiff", width=20_000, height=20_000, count=1, dtype="uint8",
        tiled=True, sparse_ok=True, crs="EPSG:32633",
        transform=Affine(1, 0, 5e5, 0, -1, 5.8e6),
    ):  # fmt: skip
        pass
    given = {k: v for k, v in os.environ.items() if k != "GDAL_CACHEMAX"}
    done = subprocess.run(
        [sys.executable, "-c", READER, path], capture_output=True, text=True,
        env=given | ({"GDAL_CACHEMAX": own} if own else {}), check=True,
    )  # fmt: skip
    assert (int(done.stdout) < 250) == (own is None)
