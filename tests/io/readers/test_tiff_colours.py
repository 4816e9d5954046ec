"""Colours of TIFF files: YCbCr, alpha, few bits, and masks."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from upath import UPath

from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

RNG = np.random.default_rng(3)


def whole(image):
    return image.read(Roi(0, 0, *image.shape))


def retag(path, **values):
    """Overwrite tags of the first page."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, value in values.items():
            file.pages.first.tags[name].overwrite(value)


def smooth():
    """Return a picture (64, 96, 3) without extreme colours."""
    y, x = np.mgrid[:64, :96]
    return np.stack([60 + y * 2, 60 + x, 200 - y - x // 2], -1).astype(np.uint8)


def ycbcr(rgb):
    return np.asarray(Pillow.fromarray(rgb).convert("YCbCr"))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw", "zstd"])
def test_ycbcr_without_jpeg_becomes_rgb(tmp_path, compression, planar):
    path, rgb = tmp_path / "a.tif", smooth()
    samples = ycbcr(rgb)
    if planar == "separate":
        samples = np.moveaxis(samples, -1, 0)
    tifffile.imwrite(
        path, samples, photometric="rgb", planarconfig=planar, compression=compression,
        metadata=None, extratags=[(530, 3, 2, (1, 1), True)],
    )  # fmt: skip
    retag(path, PhotometricInterpretation=6)
    image = open_image(path)
    assert np.abs(whole(image).data.astype(int) - rgb).max() <= 3
    assert image.rgb
    assert image.levels[0].shape == rgb.shape


def test_ycbcr_of_video_range(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.array([[[16, 128, 128], [235, 128, 128]]], np.uint8),
        photometric="rgb", metadata=None, extratags=[
            (530, 3, 2, (1, 1), True),
            (532, 5, 6, (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1), True),
        ],
    )  # fmt: skip
    retag(path, PhotometricInterpretation=6)
    assert whole(open_image(path)).data.tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize(("code", "converted"), [(33003, True), (33005, False)])
def test_jpeg_2000_of_aperio(tmp_path, code, converted):
    path, rgb = tmp_path / "a.svs", smooth()
    stored = ycbcr(rgb) if converted else rgb
    tifffile.imwrite(
        path, stored, photometric="rgb", tile=(64, 96), compression="jpeg2000",
        compressionargs={"level": 0, "mct": False, "codecformat": "j2k"},
        description="Aperio Image Library v11 |MPP = 0.5", metadata=None,
    )  # fmt: skip
    retag(path, Compression=code)
    found = whole(open_image(path)).data
    assert np.abs(found.astype(int) - rgb).max() <= 3


def test_jpeg_in_ycbcr_is_not_converted_twice(tmp_path):
    path, rgb = tmp_path / "a.tif", smooth()
    tifffile.imwrite(
        path, rgb, photometric="rgb", tile=(64, 96), compression="jpeg",
        compressionargs={"level": 100}, subsampling=(1, 1),
    )  # fmt: skip
    assert np.abs(whole(open_image(path)).data.astype(int) - rgb).max() <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_associated_alpha_is_divided_out(tmp_path, dtype, planar):
    path, top = tmp_path / "a.tif", np.iinfo(dtype).max
    colours = RNG.integers(0, top, (20, 30, 3)).astype(dtype)
    alpha = RNG.integers(top // 4, top, (20, 30)).astype(dtype)
    alpha[:5] = 0
    stored = np.rint(colours * (alpha[..., None] / top)).astype(dtype)
    samples = np.dstack([stored, alpha])
    tifffile.imwrite(
        path, np.moveaxis(samples, -1, 0) if planar == "separate" else samples,
        photometric="rgb", planarconfig=planar, extrasamples=["assocalpha"],
    )  # fmt: skip
    data, valid = whole(open_image(path))
    np.testing.assert_array_equal(valid, alpha > 0)
    assert np.abs(data.astype(int) - colours)[5:].max() <= 2


def test_associated_alpha_is_pillows(tmp_path):
    path = tmp_path / "a.tif"
    alpha = RNG.integers(1, 255, (20, 30, 1), np.uint8)
    stored = RNG.integers(0, 255, (20, 30, 3), np.uint8) // 255 * alpha
    tifffile.imwrite(path, np.dstack([stored, alpha]), photometric="rgb",
                     extrasamples=["assocalpha"])  # fmt: skip
    with Pillow.open(path) as picture:
        expected = np.asarray(picture.convert("RGBA"))
    found = whole(open_image(path)).data
    assert np.abs(found.astype(int) - expected[..., :3]).max() <= 1


def test_alpha_after_another_sample(tmp_path):
    path, samples = tmp_path / "a.tif", RNG.integers(0, 3, (20, 30, 5), np.uint8)
    tifffile.imwrite(path, samples, photometric="rgb",
                     extrasamples=["unspecified", "unassalpha"])  # fmt: skip
    image = open_image(path)
    data, valid = whole(image)
    assert [b.name for b in image.bands] == ["red", "green", "blue", "band 4"]
    np.testing.assert_array_equal(data, samples[..., :4])
    np.testing.assert_array_equal(valid, samples[..., 4] > 0)


def pack(values, bits):
    """Return rows of samples with few bits, each padded to whole bytes."""
    shifts = np.arange(bits - 1, -1, -1)
    each = (values[..., None] >> shifts & 1).reshape(len(values), -1)
    return np.packbits(each.astype(np.uint8), axis=1)


def write_bits(path, values, bits, white_is_zero):
    """Write grey samples of 2, 4 or 12 bits."""
    rows, buffer = pack(values, bits), io.BytesIO()
    tags = [
        (256, 4, values.shape[1]), (257, 4, values.shape[0]), (258, 3, bits),
        (259, 3, 1), (262, 3, 0 if white_is_zero else 1), (273, 4, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1), (278, 4, len(values)), (279, 4, rows.size),
    ]  # fmt: skip
    buffer.write(b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little"))
    for code, kind, value in tags:
        for number, size in ((code, 2), (kind, 2), (1, 4), (value, 4)):
            buffer.write(int(number).to_bytes(size, "little"))
    buffer.write(b"\0\0\0\0" + rows.tobytes())
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 12])
def test_samples_of_few_bits(tmp_path, bits, white_is_zero):
    path, top = tmp_path / "a.tif", 2**bits - 1
    values = RNG.integers(0, top + 1, (20, 31))
    values[0, :2] = 0, top
    write_bits(path, values, bits, white_is_zero)
    image = open_image(path)
    expected = top - values if white_is_zero else values
    np.testing.assert_array_equal(whole(image).data[..., 0], expected)
    if bits < 8:
        assert image.contrast_limits == (0, top)


def test_internal_mask_without_coordinates(tmp_path):
    path, mask = tmp_path / "a.tif", RNG.integers(0, 2, (64, 96)).astype(bool)
    with tifffile.TiffWriter(path) as file:
        file.write(smooth(), photometric="rgb", metadata=None, tile=(16, 16))
        file.write(mask, photometric="mask", subfiletype=4, metadata=None)
    image = open_image(path)
    np.testing.assert_array_equal(whole(image).valid, mask)
    assert len(image.series) == 1


def test_internal_mask_at_a_url():
    mask = RNG.integers(0, 2, (64, 96)).astype(bool)
    url = UPath("memory://masks/a.tif")
    url.parent.mkdir(parents=True, exist_ok=True)
    with url.open("wb") as target, tifffile.TiffWriter(target) as file:
        file.write(smooth(), photometric="rgb", metadata=None, tile=(16, 16))
        file.write(mask, photometric="mask", subfiletype=4, metadata=None)
    np.testing.assert_array_equal(whole(open_image(url)).valid, mask)


@pytest.mark.parametrize("own", [True, False])
def test_mask_of_a_pyramid(tmp_path, own):
    path, mask = tmp_path / "a.tif", np.zeros((64, 96), bool)
    mask[:32] = True
    with tifffile.TiffWriter(path) as file:
        file.write(smooth(), photometric="rgb", metadata=None, tile=(16, 16))
        file.write(mask, photometric="mask", subfiletype=4, metadata=None)
        file.write(smooth()[::2, ::2], photometric="rgb", subfiletype=1, metadata=None,
                   tile=(16, 16))  # fmt: skip
        if own:
            file.write(mask[::2, ::2], photometric="mask", subfiletype=5, metadata=None)
    image = open_image(path)
    assert image.downsamples == (1, 2)
    assert len(image.series) == 1
    half = image.read(Roi(0, 0, 64, 96), (32, 48))
    np.testing.assert_array_equal(half.valid, mask[::2, ::2])


def write_slide(path, full, *, gone):
    """Write an SVS file with two levels, without some tiles of the second level."""
    options = {"photometric": "rgb", "tile": (16, 16), "metadata": None,
               "compression": "zlib"}  # fmt: skip
    about = "Aperio Image Library v11 |AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as file:
        file.write(full, description=about, **options)
        file.write(full[::4, ::4], photometric="rgb", metadata=None,
                   description="Aperio Image Library thumbnail")  # fmt: skip
        file.write(full[::2, ::2], description="Aperio Image Library", **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[2].tags["TileByteCounts"]
        counts = list(tag.value)
        for index in gone:
            counts[index] = 0
        tag.overwrite(counts)


def test_missing_tiles_of_a_level_are_filled_from_the_finer_level(tmp_path):
    path, full = tmp_path / "a.svs", smooth()
    write_slide(path, full, gone=[1, 4])
    image = open_image(path)
    half, valid = image.read(Roi(0, 0, 64, 96), (32, 48))
    assert valid.all()
    mean = full.reshape(32, 2, 48, 2, 3).mean((1, 3))
    inside = (slice(0, 16), slice(16, 32))
    assert np.abs(half[inside] - mean[inside]).max() <= 0.5
    np.testing.assert_array_equal(half[:16, :16], full[:32:2, :32:2])
    assert "Level 1 lacks 2 of 6 tiles" in image.warnings[0]


def test_images_of_an_svs_file_have_their_own_pixel_sizes(tmp_path):
    path, full = tmp_path / "a.svs", smooth()
    options = {"photometric": "rgb", "metadata": None}
    about = "Aperio Image Library v11 |AppMag = 20|MPP = 0.4990"
    with tifffile.TiffWriter(path) as file:
        file.write(full, tile=(16, 16), description=about, **options)
        file.write(full[::4, ::4], description=about, **options)
        file.write(full[:40, :30], subfiletype=1, description="label 40x30",
                   resolution=(40_000, 40_000), resolutionunit="CENTIMETER",
                   **options)  # fmt: skip
        file.write(full[:40, :40], subfiletype=9, description="macro 40x40", **options)
    sizes = [open_image(path, series=i).pixel_size for i in range(4)]
    assert sizes == [(0.499, 0.499), pytest.approx((1.996, 1.996)), None, None]


def test_missing_tiles_of_planes_are_counted(tmp_path):
    path, planes = tmp_path / "a.tif", RNG.integers(1, 9, (3, 32, 32), np.uint8)
    with tifffile.TiffWriter(path) as file:
        for plane in planes:
            file.write(plane, tile=(16, 16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[1].tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])
    image = open_image(path).with_plane(i=1)
    assert "lack 1 of 12 tiles" in image.warnings[0]
    data = whole(image).data[..., 0]
    assert not data[:16, :16].any()
    np.testing.assert_array_equal(data[16:], planes[1][16:])


def test_a_tile_that_one_of_the_separate_planes_lacks_is_not_valid(tmp_path):
    path, samples = tmp_path / "a.tif", RNG.integers(1, 9, (3, 32, 32), np.uint8)
    tifffile.imwrite(path, samples, photometric="rgb", planarconfig="separate",
                     tile=(16, 16), compression="zlib", metadata=None)  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages.first.tags["TileByteCounts"]
        tag.overwrite([0 if i == 5 else n for i, n in enumerate(tag.value)])
    image = open_image(path)
    expected = np.ones((32, 32), bool)
    expected[:16, 16:] = False
    np.testing.assert_array_equal(whole(image).valid, expected)
    assert "1 of 4 tiles" in image.warnings[0]


def test_other_color_spaces_are_reported(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((20, 30, 3), np.uint8), photometric="cielab")
    image = open_image(path)
    assert not image.rgb
    assert "CIE L*a*b*, which is not converted" in image.warnings[0]
