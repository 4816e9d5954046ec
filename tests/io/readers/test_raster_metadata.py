"""Positions, pages, nodata and statistics of rasters as other programs write them."""

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Pillow
from rasterio.transform import from_origin
from rasterio.warp import transform

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

GREY = np.arange(64 * 48, dtype=np.uint8).reshape(64, 48)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], -1)
UTM = rasterio.CRS.from_epsg(32633)


def write(path, pixels, **profile):
    """A GeoTIFF of (bands, y, x) pixels."""
    options = {
        "driver": "GTiff", "count": len(pixels), "height": pixels.shape[1],
        "width": pixels.shape[2], "dtype": pixels.dtype, "crs": UTM,
        "transform": from_origin(5e5, 5e6, 2, 2), **profile,
    }  # fmt: skip
    with rasterio.open(path, "w", **options) as file:
        file.write(pixels)
    return path


def whole(image):
    return image.read(Roi(0, 0, *image.shape))


def test_pages_are_images(tmp_path):
    path = tmp_path / "pages.tif"
    write(path, GREY[None])
    with tifffile.TiffWriter(path, append=True) as file:
        for number in (1, 2):
            file.write(GREY + number, photometric="minisblack", metadata=None)
    image = open_image(path)
    assert len(image.series) == 3
    assert "contains 3 images" in image.warnings[0]
    np.testing.assert_array_equal(whole(image).data[..., 0], GREY)
    prints = {image.fingerprint}
    for number in (0, 1, 2):
        image = open_image(path, series=number)
        np.testing.assert_array_equal(whole(image).data[..., 0], GREY + number)
        assert image.series_number == number
        prints.add(image.fingerprint)
    assert len(prints) == 3
    for file, number in ((path, 3), (path, -1), (write(tmp_path / "a.tif", RGB), 1)):
        with pytest.raises(OpenError, match=f"no image number {number}"):
            open_image(file, series=number)


def place_beside(path):
    """Write a world file (centres of pixels) and the CRS beside a picture."""
    path.with_suffix(f"{path.suffix[:2]}{path.suffix[-1]}w").write_text(
        "2\n0\n0\n-2\n500001\n4999999\n"
    )
    path.with_name(path.name + ".aux.xml").write_text(
        f"<PAMDataset><SRS>{UTM.to_wkt()}</SRS></PAMDataset>"
    )


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_world_files_and_crs_beside_a_picture(tmp_path, name):
    path = tmp_path / name
    Pillow.fromarray(RGB).save(path)
    plain = open_image(path)
    assert plain.crs is None
    place_beside(path)
    image = open_image(path)
    assert (image.pixel_size, image.unit) == ((2, 2), "metre")
    assert image.affine == (2, 0, 500_000, 0, -2, 5_000_000)
    assert "33N" in image.crs
    np.testing.assert_array_equal(whole(image).data, whole(plain).data)
    assert image.rgb
    path.with_name(path.name + ".aux.xml").unlink()
    image = open_image(path)
    assert image.pixel_size is None
    assert "coordinate system is not known" in image.warnings[0]


def test_colors_of_a_placed_tiff_are_those_of_the_plain_one(tmp_path):
    path = tmp_path / "white.tif"
    tifffile.imwrite(path, GREY, photometric="miniswhite")
    expected = whole(open_image(path)).data
    place_beside(path)
    image = open_image(path)
    assert image.pixel_size == (2, 2)
    np.testing.assert_array_equal(whole(image).data, expected)


def test_rotated_picture_is_not_placed(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Pillow.Exif()
    exif[274] = 6
    Pillow.fromarray(RGB).save(path, exif=exif)
    place_beside(path)
    image = open_image(path)
    assert image.shape == (48, 64)
    assert image.crs is None
    assert "orientation tag" in image.warnings[0]


def test_overviews_beside_a_tiff_without_position(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, GREY, photometric="minisblack", metadata=None,
        resolution=(40_000, 20_000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    half = GREY[::2, ::2]
    tifffile.imwrite(tmp_path / "a.tif.ovr", half, metadata=None, subfiletype=1)
    image = open_image(path)
    assert image.downsamples == (1, 2)
    assert (image.pixel_size, image.unit) == ((0.5, 0.25), "micrometer")


def test_bands_of_different_types(tmp_path):
    write(tmp_path / "byte.tif", GREY[None])
    write(tmp_path / "real.tif", GREY[None].astype(np.float32) / 4)
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{i}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{name}.tif</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for i, (kind, name) in enumerate((("Byte", "byte"), ("Float32", "real")), 1)
    )
    path = tmp_path / "a.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="48" rasterYSize="64">{bands}</VRTDataset>'
    )
    image = open_image(path)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(
        whole(image).data, np.stack([GREY, GREY / 4], -1).astype(np.float32)
    )


def test_nodata_of_64_bits_is_exact(tmp_path):
    pixels = np.full((1, 64, 48), 2**60 + 1, np.int64)
    pixels[0, :32] = 2**60 + 3
    path = write(tmp_path / "a.tif", pixels, nodata=1)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags[42113].overwrite(str(2**60 + 3))
    image = open_image(path)
    assert image.bands[0].nodata == 2**60 + 3
    assert whole(image).valid.mean() == 0.5


def test_rounded_nodata_text(tmp_path):
    pixels = np.ones((1, 64, 48), np.float32)
    pixels[0, :16] = np.finfo(np.float32).min
    path = write(tmp_path / "a.tif", pixels, nodata=-1)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags[42113].overwrite("-3.402823e+38")
    assert whole(open_image(path)).valid.mean() == 0.75


@pytest.mark.parametrize(
    ("low", "high", "stated"),
    [(-5, 700, True), (-3.4e38, 1000, False), ("-inf", "inf", False),
     (-9999, 1000, False), ("nan", 1000, False), (0, 1e30, False)],
)  # fmt: skip
def test_statistics_that_include_nodata_are_not_used(tmp_path, low, high, stated):
    pixels = np.linspace(0, 900, 64 * 48, dtype=np.float32).reshape(1, 64, 48)
    path = write(tmp_path / "a.tif", pixels, nodata=-9999)
    with rasterio.open(path, "r+") as file:
        file.update_tags(1, STATISTICS_MINIMUM=low, STATISTICS_MAXIMUM=high)
    image = open_image(path)
    limits = (low, high) if stated else (4.5, 895.5)
    assert image.contrast_limits == pytest.approx(limits, abs=0.5)


@pytest.mark.parametrize(
    ("epsg", "latitude", "side"),
    [(3857, 60, 5), (3857, 5, 10), (32632, 60, 10), (3035, 60, 10), (3395, 45, 7.07)],
)
def test_pixels_are_measured_on_the_ground(tmp_path, epsg, latitude, side):
    crs = rasterio.CRS.from_epsg(epsg)
    (x,), (y,) = transform(rasterio.CRS.from_epsg(4326), crs, [9], [latitude])
    path = write(
        tmp_path / "a.tif", GREY[None], crs=crs, transform=from_origin(x, y, 10, 10)
    )
    image = open_image(path)
    assert image.pixel_size == (10, 10)
    assert image.meters_per_pixel == pytest.approx(side, rel=5e-3)
    assert bool(image.warnings) == (side != 10)
    if image.warnings:
        assert "on the ground" in image.warnings[0]


@pytest.mark.parametrize("epsg", [32633, 3035, 2056])
def test_position_that_is_not_on_earth_has_no_pixel_size(tmp_path, epsg):
    far = from_origin(5e12, 5e12, 2, 2)
    crs = rasterio.CRS.from_epsg(epsg)
    image = open_image(write(tmp_path / "a.tif", GREY[None], crs=crs, transform=far))
    assert image.meters_per_pixel is None
    assert "the pixel size on the ground is not known" in image.warnings[0]


def test_coordinates_of_a_building_site_have_no_pixel_size(tmp_path):
    site = rasterio.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    image = open_image(write(tmp_path / "a.tif", GREY[None], crs=site))
    assert image.meters_per_pixel is None
    assert "neither longitudes and latitudes nor a map" in image.warnings[0]


def test_control_points_are_reported(tmp_path):
    points = [rasterio.control.GroundControlPoint(r, c, 5e5 + c, 5e6 - r)
              for r, c in ((0, 0), (0, 48), (64, 0), (64, 48))]  # fmt: skip
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=64, width=48, dtype="uint8",
        gcps=points, crs=UTM,
    ) as file:  # fmt: skip
        file.write(GREY[None])
    assert "4 ground control points" in open_image(path).warnings[0]


@pytest.mark.parametrize("bands", [4, 6])
def test_associated_alpha_of_a_geotiff_is_divided_out(tmp_path, bands):
    alpha = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(GREY.shape)
    scaled = np.rint(GREY * (alpha / 255)).astype(np.uint8)
    pixels = np.stack([scaled] * (bands - 1) + [alpha])
    path = write(tmp_path / "a.tif", pixels, photometric="RGB", alpha="PREMULTIPLIED")
    if bands > 4:  # GDAL writes alpha as the fourth sample
        pixels = pixels[[0, 1, 2, -1, 3, 4]]
        write(path, pixels, photometric="RGB", alpha="PREMULTIPLIED")
    image = open_image(path)
    data, valid = whole(image)
    assert image.crs is not None
    assert data.shape[-1] == bands - 1
    np.testing.assert_array_equal(valid, alpha > 0)
    opaque = alpha > 100
    wrong = np.abs(data[opaque].astype(int) - GREY[opaque][:, None])
    assert wrong.max() <= 2


def test_few_bits_of_a_geotiff_are_displayed_over_their_range(tmp_path):
    path = write(tmp_path / "a.tif", GREY[None] % 16, nbits=4)
    assert open_image(path).contrast_limits == (0, 15)


def write_mask_beside(path):
    """Write a mask file beside a picture of the size of `GREY`."""
    tiff = path.with_name("mask.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        write(tiff, GREY[None], crs=None)
        with rasterio.open(tiff, "r+") as file:
            file.write_mask(GREY > 99)
    tiff.with_name("mask.tif.msk").rename(path.with_name(path.name + ".msk"))


def test_mask_file_beside_a_tiff_without_position(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, photometric="minisblack", metadata=None)
    write_mask_beside(path)
    np.testing.assert_array_equal(whole(open_image(path)).valid, GREY > 99)


def test_mask_file_beside_a_png_is_reported(tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(GREY).save(path)
    write_mask_beside(path)
    assert "mask in the file beside this image" in open_image(path).warnings[0]


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_nodata_in_the_file_beside_a_picture(tmp_path, name):
    path = tmp_path / name
    Pillow.fromarray(GREY).save(path)
    path.with_name(path.name + ".aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>5</NoDataValue>'
        "</PAMRasterBand></PAMDataset>"
    )
    np.testing.assert_array_equal(whole(open_image(path)).valid, GREY != 5)


def test_scale_and_offset_are_reported(tmp_path):
    path = write(tmp_path / "a.tif", np.stack([GREY] * 3))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.1, 1, 0.1), (5, 0, 5)
    image = open_image(path)
    np.testing.assert_array_equal(whole(image).data[..., 0], GREY)
    (warning,) = image.warnings
    assert "a scale of 0.1 and an offset of 5 for bands 1, 3 of 3" in warning


def test_scale_in_the_file_beside_a_picture_is_reported(tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(GREY).save(path)
    path.with_name("a.png.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Offset>5</Offset><Scale>2</Scale>'
        "</PAMRasterBand></PAMDataset>"
    )
    assert any("a scale of 2" in warning for warning in open_image(path).warnings)


def test_values_of_one_bit_are_not_colours(tmp_path):
    bits = GREY % 2
    image = open_image(write(tmp_path / "a.tif", bits[None], nbits=1))
    assert [band.name for band in image.bands] == ["value"]
    np.testing.assert_array_equal(whole(image).data[..., 0], bits)
    assert image.contrast_limits == (0, 1)


@pytest.mark.parametrize("name", ["a.bmp", "a.ome.tif", "a.gif"])
def test_unused_files_beside_an_image_are_named(tmp_path, name):
    path = tmp_path / name
    if name == "a.ome.tif":
        tifffile.imwrite(path, GREY, ome=True)
    else:
        Pillow.fromarray(GREY).save(path)
    world = path.with_suffix(f"{path.suffix[:2]}{path.suffix[-1]}w")
    world.write_text("2\n0\n0\n-2\n500001\n4999999\n")
    path.with_suffix(".tab").write_text("barcode\tclass\n")  # no MapInfo table
    image = open_image(path)
    assert image.affine is None
    (warning,) = [w for w in image.warnings if "not used" in w]
    assert warning.startswith(f"{world.name} beside {name} is not used")


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.where(GREY < 64, np.float32(-9999), GREY)[None], "are -9999"),
        (np.where(GREY < 64, np.float32(1e30), GREY)[None], "beyond"),
        (np.where(GREY < 64, np.int16(-32768), GREY)[None], "are -32768"),
        (np.zeros((3, 64, 48), np.uint8), "4 of the 4 corners of this image are black"),
        (GREY[None].astype(np.float32), ""),
        (np.stack([GREY] * 3), ""),
    ],
)
def test_undeclared_nodata_is_reported(tmp_path, pixels, words):
    path = write(tmp_path / "a.tif", pixels)
    found = " ".join(open_image(path).warnings)
    assert words in found
    assert bool(words) == bool(found)
    declared = write(tmp_path / "b.tif", pixels, nodata=0)
    assert not open_image(declared).warnings
