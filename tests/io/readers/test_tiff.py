import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_uhrseg.io.image.pyramid_builder import fill_levels
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Limits, Roi

RNG = np.random.default_rng(1)


def whole(image):
    return image.read(Roi(0, 0, *image.shape)).data


def photo(height, width, bands=3, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return RNG.integers(0, top, (height, width, bands), dtype).squeeze()


@pytest.mark.parametrize("compression", [None, "deflate", "zstd", "lzw", "jpeg2000"])
@pytest.mark.parametrize("tile", [None, (128, 64)])
def test_pixels_are_tifffiles(tmp_path, compression, tile):
    if compression == "jpeg2000" and tile is None:
        tile = (64, 64)
    path, pixels = tmp_path / "a.tif", photo(300, 211)
    tifffile.imwrite(
        path, pixels, photometric="rgb", tile=tile, compression=compression
    )
    image = open_image(path)
    np.testing.assert_array_equal(whole(image), tifffile.imread(path))
    np.testing.assert_array_equal(
        image.read(Roi(99, 60, 80, 90)).data, tifffile.imread(path)[99:179, 60:150]
    )
    assert image.rgb
    assert not image.is_slide


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u2", "i2", "f4", "i8", "u1"])
def test_every_dtype_and_byte_order(tmp_path, dtype, byteorder):
    path = tmp_path / "a.tif"
    pixels = RNG.integers(0, 99, (70, 90)).astype(dtype)
    tifffile.imwrite(path, pixels, byteorder=byteorder, bigtiff=True)
    image = open_image(path)
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(whole(image)[..., 0], pixels)


def test_planar_pages_and_extra_samples(tmp_path):
    pixels = photo(120, 90, 4)
    path = tmp_path / "planar.tif"
    tifffile.imwrite(
        path, np.moveaxis(pixels, -1, 0), photometric="rgb", planarconfig="separate",
        tile=(64, 64), extrasamples=["unassalpha"],
    )  # fmt: skip
    image = open_image(path)
    np.testing.assert_array_equal(whole(image), pixels[..., :3])
    assert image.levels[0].shape == (120, 90, 4)
    assert image.read(Roi(0, 0, 120, 90)).valid.sum() == (pixels[..., 3] > 0).sum()
    infrared = tmp_path / "nir.tif"
    tifffile.imwrite(infrared, pixels, photometric="rgb", extrasamples=["unspecified"])
    image = open_image(infrared)
    assert [b.name for b in image.bands] == ["red", "green", "blue", "band 4"]
    assert image.levels[0].shape == (120, 90, 3)
    np.testing.assert_array_equal(whole(image), pixels)


def test_subifd_pyramid_with_channels_and_z(tmp_path):
    path = tmp_path / "a.ome.tif"
    values = photo(4, 600, 800, np.uint16).reshape(2, 2, 600, 800)
    names = {"Channel": {"Name": ["DAPI", "FITC"]}, "PhysicalSizeX": 0.4,
             "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm",
             "axes": "ZCYX"}  # fmt: skip
    with tifffile.TiffWriter(path) as file:
        file.write(values, subifds=1, tile=(128, 128), metadata=names)
        file.write(values[..., ::2, ::2], subfiletype=1, tile=(128, 128))
    image = open_image(path)
    assert [b.name for b in image.bands] == ["DAPI", "FITC"]
    assert image.pixel_size == pytest.approx((0.5, 0.4))
    assert (image.unit, image.planes) == ("micrometer", {"z": 2})
    assert image.downsamples == (1, 2)
    moved = np.moveaxis(values[0], 0, -1)
    np.testing.assert_array_equal(whole(image.with_plane(z=0)), moved)
    half = image.with_plane(z=0).read(Roi(0, 0, 600, 800), (300, 400)).data
    np.testing.assert_array_equal(half, moved[::2, ::2])


def test_imagej_and_resolution_tags_are_believed_when_plausible(tmp_path):
    pixels = photo(40, 50, 1)
    tifffile.imwrite(
        tmp_path / "ij.tif", pixels, imagej=True, resolution=(4, 4),
        metadata={"unit": "um"},
    )  # fmt: skip
    assert open_image(tmp_path / "ij.tif").pixel_size == (0.25, 0.25)
    for value, unit, expected in [
        ((40_000, 40_000), "CENTIMETER", 0.25), ((72, 72), "INCH", None),
        ((118, 118), "CENTIMETER", None), ((50_800, 50_800), "INCH", 0.5),
    ]:  # fmt: skip
        path = tmp_path / "r.tif"
        tifffile.imwrite(path, pixels, resolution=value, resolutionunit=unit)
        found = open_image(path).pixel_size
        assert found == (None if expected is None else pytest.approx((expected,) * 2))


def test_svs_states_microns(tmp_path):
    path = tmp_path / "slide.svs"
    text = "Aperio Image Library v11\n512x512 [0,0 512x512] |AppMag = 20|MPP = 0.4990"
    pixels = photo(512, 512)
    tifffile.imwrite(
        path, pixels, tile=(240, 240), photometric="rgb", compression="jpeg",
        description=text, metadata=None,
    )  # fmt: skip
    image = open_image(path)
    assert image.pixel_size == (0.499, 0.499)
    assert image.is_slide


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_pillows(tmp_path, orientation):
    from PIL import ImageOps

    path = tmp_path / "o.tif"
    tifffile.imwrite(
        path, photo(130, 90), photometric="rgb", tile=(64, 64), compression="deflate",
        extratags=[(274, 3, 1, orientation, True)],
    )  # fmt: skip
    with Pillow.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(whole(open_image(path)), expected)


def test_palette_cmyk_and_white_is_zero(tmp_path):
    path, index = tmp_path / "p.tif", photo(60, 50, 1)
    table = RNG.integers(0, 65535, (3, 256), np.uint16)
    tifffile.imwrite(path, index, photometric="palette", colormap=table)
    np.testing.assert_array_equal(
        whole(open_image(path)), (table.T >> 8).astype("u1")[index]
    )
    inks = photo(60, 50, 4)
    tifffile.imwrite(path, inks, photometric="separated")
    light = 255 - inks.astype(float)
    expected = light[..., :3] * light[..., 3:] / 255
    assert np.abs(whole(open_image(path)) - expected).max() <= 0.51
    tifffile.imwrite(path, index, photometric="miniswhite")
    np.testing.assert_array_equal(whole(open_image(path))[..., 0], 255 - index)


def test_series_can_be_chosen(tmp_path):
    path, small, large = tmp_path / "s.tif", photo(40, 40), photo(200, 100)
    with tifffile.TiffWriter(path) as file:
        for pixels in (small, large):
            file.write(pixels, photometric="rgb", metadata=None)
    np.testing.assert_array_equal(whole(open_image(path)), large)
    np.testing.assert_array_equal(whole(open_image(path, series=0)), small)
    image = open_image(path)
    assert len(image.series) == 2
    assert image.series_number == 1  # the largest


def test_a_large_file_in_strips_is_grey_until_it_is_tiled(tmp_path):
    path, pixels = tmp_path / "strips.tif", photo(5000, 100)
    tifffile.imwrite(
        path, pixels, photometric="rgb", compression="zstd", rowsperstrip=10
    )
    image = open_image(path, limits=Limits(untiled_pixels=10_000))
    assert image.needs_tiling
    assert "not tiled" in image.warnings[0]
    assert (image.levels[0][:700].compute() == 128).all()
    np.testing.assert_array_equal(whole(image), pixels)


@pytest.mark.slow
@pytest.mark.parametrize("width", [75_000, 100_000])
def test_wide_strips_become_tiles_not_slivers(tmp_path, width):
    path, pixels = tmp_path / "wide.tif", np.full((24, width, 3), 7, np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib",
                     rowsperstrip=1)  # fmt: skip
    image = open_image(path, limits=Limits(untiled_pixels=10_000))
    list(fill_levels(image, tmp_path / "cache"))
    files = list((tmp_path / "cache").glob("*/0/c/*/*/*"))
    assert len(files) == -(-width // 512)


def test_missing_tiles_are_not_valid(tmp_path):
    path = tmp_path / "sparse.tif"
    pixels = photo(256, 256)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), compression="zstd")
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages.first.tags
        for name in ("TileOffsets", "TileByteCounts"):
            values = list(tags[name].value)
            values[5] = 0
            tags[name].overwrite(values)
    image = open_image(path)
    data, valid = image.read(Roi(0, 0, 256, 256))
    assert (~valid).sum() == 64 * 64
    assert not valid[64:128, 64:128].any()
    np.testing.assert_array_equal(data[valid], pixels[valid])
