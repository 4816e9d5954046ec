"""Cases after reports against OpenSlide and GDAL."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Pillow

from campaign.cases_images import COLOUR, GREY, opened, pixels
from campaign.report import case
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

SVS = "Aperio Image Library v11.2.1 \r\n301x203|AppMag = 20"
UTM: dict = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 5e5, 0, -2, 5e6)}


def svs(folder: Path, about: str, **options: Any) -> Image:
    """Write a file like Aperio's and open it."""
    path = folder / "a.svs"
    tiles: dict = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(COLOUR, description=about, **tiles, **options)
        file.write(COLOUR[::8, ::8], photometric="rgb", metadata=None)
        file.write(COLOUR[::4, ::4], **tiles)
    return open_image(path)


# -- OpenSlide ------------------------------------------------------------------------


@case("OpenSlide", "MPP with a decimal comma", "0.499 µm or unknown, not 0")
def decimal_comma(folder: Path) -> None:
    size = svs(folder, f"{SVS}|MPP = 0,499").pixel_size
    assert size is None or size == pytest.approx((0.499, 0.499))


@case("OpenSlide", "MPP missing, 0, or empty", "unknown size")
def no_mpp(folder: Path) -> None:
    for text in ("", "|MPP = 0", "|MPP = ", "|MPP = -1", "|MPP = 1.2.3"):
        assert svs(folder, SVS + text).pixel_size is None, text


@case("OpenSlide", "tiled TIFF with pixels per centimetre", "0.25 µm")
def generic_resolution(folder: Path) -> None:
    image = opened(
        folder / "a.tif", COLOUR, photometric="rgb", tile=(64, 64),
        resolution=(4e4, 4e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    assert image.pixel_size == pytest.approx((0.25, 0.25))


@case("OpenSlide", "TIFF, PNG and JPEG with 72 dpi", "unknown size, not 353 µm")
def screen_resolution(folder: Path) -> None:
    tif = opened(folder / "a.tif", GREY, resolution=(72, 72), resolutionunit="INCH")
    assert tif.pixel_size is None
    for suffix in (".png", ".jpg"):
        Pillow.fromarray(COLOUR).save(folder / f"a{suffix}", dpi=(72, 72))
        assert open_image(folder / f"a{suffix}").pixel_size is None


@case("OpenSlide", "slide level of 1/4, size rounded", "landmark at the same place")
def slide_levels(folder: Path) -> None:
    image = svs(folder, f"{SVS}|MPP = 0.5")
    assert image.pixel_size == (0.5, 0.5)
    assert image.downsamples[1] == pytest.approx(4, rel=0.02)
    np.testing.assert_array_equal(pixels(image), COLOUR)


@case("OpenSlide", "SVS named .tif", "same pixels and size")
def renamed_slide(folder: Path) -> None:
    svs(folder, f"{SVS}|MPP = 0.5")
    (folder / "a.svs").rename(folder / "a.tif")
    image = open_image(folder / "a.tif")
    assert image.pixel_size == (0.5, 0.5)
    assert image.shape == (203, 301)


@case("OpenSlide", "DICOM, MRXS and NDPI names with other content", "a sentence")
def wrong_slides(folder: Path) -> None:
    for suffix in (".dcm", ".mrxs", ".ndpi", ".scn", ".bif", ".vms"):
        path = folder / f"a{suffix}"
        path.write_bytes(b"DICM" * 400)
        with pytest.raises(UhrSegError, match="a"):
            open_image(path)


# -- GDAL -----------------------------------------------------------------------------


def raster(path: Path, data: np.ndarray, **options: Any) -> Image:
    """Write (bands, y, x) by rasterio and open it."""
    tags = options.pop("tags", {})
    profile = {
        "driver": "GTiff", "height": data.shape[1], "width": data.shape[2],
        "count": data.shape[0], "dtype": data.dtype, **UTM, **options,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(data)
        file.update_tags(**tags)
    return open_image(path)


def valid(image: Image) -> np.ndarray:
    return image.read(Roi(0, 0, *image.shape)).valid


@case("GDAL", "AREA_OR_POINT=Point", "the transform that rasterio gives")
def pixel_is_point(folder: Path) -> None:
    path = folder / "a.tif"
    image = raster(path, GREY[None], tags={"AREA_OR_POINT": "Point"})
    with rasterio.open(path) as file:
        assert file.tags()["AREA_OR_POINT"] == "Point"
        assert image.affine == pytest.approx(tuple(file.transform)[:6])


@case("GDAL", "nodata NaN; NaN pixels with nodata -9999", "both invalid")
def nan_nodata(folder: Path) -> None:
    data = GREY.astype(np.float32)[None].copy()
    data[0, :50] = np.nan
    data[0, 50:90] = -9999
    first = raster(folder / "a.tif", data, nodata=np.nan)
    assert not valid(first)[:50].any()
    assert valid(first)[50:].all()
    second = raster(folder / "b.tif", data, nodata=-9999)
    assert not valid(second)[:90].any()
    assert valid(second)[90:].all()


@case("GDAL", "south-up raster", "rows not flipped, positive size")
def south_up(folder: Path) -> None:
    transform = rasterio.Affine(2, 0, 5e5, 0, 2, 5e6)
    image = raster(folder / "a.tif", GREY[None], transform=transform)
    np.testing.assert_array_equal(pixels(image)[..., 0], GREY)
    assert image.affine[4] == 2
    assert image.meters_per_pixel == pytest.approx(2, rel=0.01)


@case("GDAL", "rotated transform", "2 m pixels, transform kept")
def rotated(folder: Path) -> None:
    transform = rasterio.Affine.rotation(30) * rasterio.Affine.scale(2, -2)
    image = raster(folder / "a.tif", GREY[None], transform=transform)
    assert image.meters_per_pixel == pytest.approx(2, rel=0.01)
    assert image.affine == pytest.approx(tuple(transform)[:6])


@case("GDAL", "scale 0.1 and offset 5 of a band", "applied, or a warning")
def scale_offset(folder: Path) -> None:
    path = folder / "a.tif"
    raster(path, GREY[None])
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.1,), (5.0,)
    image = open_image(path)
    found = pixels(image)[..., 0]
    applied = np.allclose(found, GREY * 0.1 + 5)
    assert applied or any("scale" in w.lower() for w in image.warnings)


@case("GDAL", "int8 raster with nodata -1", "negative values, -1 invalid")
def signed_raster(folder: Path) -> None:
    data = GREY.astype(np.int8)
    data[:9] = -1
    image = raster(folder / "a.tif", data[None], nodata=-1)
    np.testing.assert_array_equal(pixels(image)[..., 0], data)
    np.testing.assert_array_equal(valid(image), data != -1)


@case("GDAL", "CRS in US survey feet", "0.6096 m for 2 ft")
def feet(folder: Path) -> None:
    transform = rasterio.Affine(2, 0, 984_000, 0, -2, 200_000)
    image = raster(folder / "a.tif", GREY[None], crs="EPSG:2263", transform=transform)
    assert image.meters_per_pixel == pytest.approx(0.6096, rel=0.01)


@case("GDAL", "degrees at 60° north", "111 m north, 56 m east for 0.001°")
def degrees(folder: Path) -> None:
    transform = rasterio.Affine(0.001, 0, 10, 0, -0.001, 60)
    image = raster(folder / "a.tif", GREY[None], crs="EPSG:4326", transform=transform)
    assert 55 < image.meters_per_pixel < 112
    assert image.unit == "degree"


@case("GDAL", "RGBA GeoTIFF", "three bands, alpha decides")
def alpha_band(folder: Path) -> None:
    path, alpha = folder / "a.tif", np.where(GREY > 99, 255, 0).astype(np.uint8)
    data = np.concatenate([COLOUR.transpose(2, 0, 1), alpha[None]])
    image = raster(path, data, photometric="RGB", alpha="yes")
    assert len(image.bands) == 3
    np.testing.assert_array_equal(valid(image), GREY > 99)


@case("GDAL", "one-band palette GeoTIFF", "the colours of the table")
def colour_table(folder: Path) -> None:
    path, data = folder / "a.tif", (GREY % 3)[None]
    table = {0: (255, 0, 0, 255), 1: (0, 255, 0, 255), 2: (0, 0, 255, 255)}
    with rasterio.open(
        path, "w", driver="GTiff", height=203, width=301, count=1, dtype="uint8", **UTM
    ) as file:
        file.write(data)
        file.write_colormap(1, table)
    image = open_image(path)
    if image.colormap:
        assert image.colormap[1][:3] == (0, 255, 0)
    else:
        found = pixels(image)[GREY % 3 == 1]
        np.testing.assert_array_equal(found, np.tile([0, 255, 0], (len(found), 1)))


@case("GDAL", "sparse GeoTIFF with nodata", "blocks not written are invalid")
def sparse(folder: Path) -> None:
    path = folder / "a.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=512,
        width=512,
        count=1,
        dtype="uint8",
        nodata=7,
        tiled=True,
        blockxsize=256,
        blockysize=256,
        sparse_ok=True,
        **UTM,
    ) as file:
        block = np.ones((256, 256), np.uint8)
        file.write(block, 1, window=rasterio.windows.Window(0, 0, 256, 256))
    found = valid(open_image(path))
    assert found[:256, :256].all()
    assert not found[256:].any()


@case("GDAL", "internal mask of a GeoTIFF", "masked pixels invalid")
def internal_mask(folder: Path) -> None:
    path = folder / "a.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=203,
            width=301,
            count=3,
            dtype="uint8",
            **UTM,
        ) as file,
    ):
        file.write(COLOUR.transpose(2, 0, 1))
        file.write_mask(GREY > 99)
    np.testing.assert_array_equal(valid(open_image(path)), GREY > 99)


@case("GDAL", "mask in a file .msk beside the raster", "masked pixels invalid")
def external_mask(folder: Path) -> None:
    path = folder / "a.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=203,
            width=301,
            count=1,
            dtype="uint8",
            **UTM,
        ) as file,
    ):
        file.write(GREY[None])
        file.write_mask(GREY > 99)
    assert path.with_name("a.tif.msk").exists()
    np.testing.assert_array_equal(valid(open_image(path)), GREY > 99)


@case("GDAL", "NBITS=1 and NBITS=12", "values unchanged")
def few_bits(folder: Path) -> None:
    image = raster(folder / "a.tif", (GREY[None] > 99).astype(np.uint8), nbits=1)
    np.testing.assert_array_equal(pixels(image)[..., 0], GREY > 99)
    data = (GREY.astype(np.uint16) * 16)[None]
    image = raster(folder / "b.tif", data, nbits=12)
    np.testing.assert_array_equal(pixels(image)[..., 0], data[0])


@case("GDAL", "transform without a CRS", "no metres are claimed")
def no_crs(folder: Path) -> None:
    image = raster(folder / "a.tif", GREY[None], crs=None)
    assert image.meters_per_pixel is None
    assert image.affine is not None


@case("GDAL", "JPEG 2000 with georeference, lossless", "equal pixels, 2 m")
def jpeg_2000(folder: Path) -> None:
    image = raster(
        folder / "a.jp2", GREY[None], driver="JP2OpenJPEG", quality=100, reversible=True
    )
    np.testing.assert_array_equal(pixels(image)[..., 0], GREY)
    assert image.meters_per_pixel == pytest.approx(2, rel=0.01)


@case("GDAL", "VRT with two bands of different nodata", "the mask of rasterio")
def nodata_per_band(folder: Path) -> None:
    data = np.stack([GREY, GREY])
    raster(folder / "a.tif", data)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{k}"><NoDataValue>{k}</NoDataValue>'
        '<SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename>'
        f"<SourceBand>{k}</SourceBand></SimpleSource></VRTRasterBand>"
        for k in (1, 2)
    )
    path = folder / "a.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="301" rasterYSize="203">{bands}</VRTDataset>'
    )
    image = open_image(path)
    assert [b.nodata for b in image.bands] == [1, 2]
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(valid(image), file.dataset_mask() > 0)


@case("GDAL", "averaged overviews with nodata", "no dark border at nodata")
def nodata_border(folder: Path) -> None:
    data = np.full((1, 1024, 1024), 200, np.uint8)
    data[:, :, :513] = 0
    image = raster(folder / "a.tif", data, nodata=0)
    found = image.read(Roi(0, 0, 1024, 1024), (256, 256))
    assert (found.data[..., 0][found.valid] == 200).all()


@case("GDAL", "name with spaces, umlauts, quotes and %", "opens")
def odd_names(folder: Path) -> None:
    for name in ("a b.tif", "Luftbild ä ß.tif", "100%20.tif", "it's #1, [2].tif"):
        image = raster(folder / name, GREY[None])
        assert image.name == name
