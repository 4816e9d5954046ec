"""Files of other projects, where the folder with them is there."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

FILES = Path(__file__).parents[3] / "../shared/data/files"
BROKEN = {"broken.svs", "unopenable.tiff", "unreadable.svs"}
# what rasterio reads as our pixels are meant to be, mask included
RASTERS = {
    "aperio_cmu1_small_region.svs", "bigtiff_rgb.tif", "cells_gray16.tif",
    "cog_gcps.tif", "cog_int16.tif", "cog_jpeg_ycbcr_mask.tif",
    "cog_rgb_internal_mask.tif", "cog_uint16_overviews.tif",
    "geotiff_rgb_byte_utm18n_nodata0.tif", "geotiff_rgba_uint16.tif",
    "geotiff_rotated_affine.tif", "planar_separate_rgb_u8.tif", "small_synthetic.svs",
    "tiled_zstd_10000x5000.tif", "world.jp2",
}  # fmt: skip
SIZES = {
    "aperio_cmu1_small_region.svs": (0.499, "micrometer"),
    "cells_gray16.tif": (0.25, "micrometer"),
    "ome_cells_2c.ome.tif": (0.25, "micrometer"),
    "perkinelmer_vectra.qptiff": (0.4965, "micrometer"),
    "cog_jpeg_ycbcr_mask.tif": (0.5972, "metre"),
    "cog_float_nan_nodata.tif": (200.0, "metre"),
    "tiled_jpeg.tif": (None, "pixel"),
    "orientation_tag_6.tif": (None, "pixel"),
}


def there(names):
    return sorted(FILES / n for n in names if (FILES / n).exists())


def everything():
    found = FILES.iterdir() if FILES.exists() else []
    return sorted(p for p in found if p.suffix != ".md" and p.name not in BROKEN)


@pytest.mark.slow
@pytest.mark.parametrize("path", everything(), ids=lambda p: p.name)
def test_it_opens_and_all_of_it_reads(path):
    image = open_image(path)
    data, valid = image.read(Roi(0, 0, *image.shape))
    assert data.shape == (*image.shape, len(image.bands))
    assert data.dtype == image.dtype
    assert valid.any()
    assert image.levels[0].compute().any()
    low, high = image.estimate_range()
    assert low < high


@pytest.mark.slow
@pytest.mark.parametrize("path", there(RASTERS), ids=lambda p: p.name)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_pixels_are_rasterios(path):
    with rasterio.open(path) as file:
        expected, mask = np.moveaxis(file.read(), 0, -1), file.dataset_mask() > 0
    data, valid = open_image(path).read(Roi(0, 0, *mask.shape))
    np.testing.assert_array_equal(valid, mask)
    np.testing.assert_array_equal(data, expected[..., : data.shape[-1]])


@pytest.mark.parametrize("path", there(SIZES), ids=lambda p: p.name)
def test_pixel_sizes(path):
    size, unit = SIZES[path.name]
    image = open_image(path)
    assert image.unit == unit
    assert image.pixel_size == (
        None if size is None else pytest.approx((size,) * 2, 1e-3)
    )


@pytest.mark.parametrize("path", there(BROKEN), ids=lambda p: p.name)
def test_broken_files_say_so(path):
    with pytest.raises(OpenError, match=path.name) as error:
        open_image(path)
    assert error.value.hint


@pytest.mark.parametrize(
    "path", there(["ome_multichannel_zseries.ome.tif"]), ids=lambda p: p.name
)
def test_planes_of_a_stack(path):
    expected = tifffile.imread(path)
    image = open_image(path)
    assert image.planes == {"z": 5}
    data = image.with_plane(z=3).read(Roi(0, 0, *image.shape)).data
    np.testing.assert_array_equal(data, np.moveaxis(expected[:, 3], 0, -1))


@pytest.mark.parametrize("path", there(["tiled_jpeg.tif"]), ids=lambda p: p.name)
def test_ycbcr_becomes_rgb(path):
    from PIL import Image as Pillow

    with Pillow.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"))
    image = open_image(path)
    np.testing.assert_array_equal(image.read(Roi(0, 0, *image.shape)).data, expected)
