import struct
import zlib

import imagecodecs
import numpy as np
import psutil
import pytest
from PIL import Image as Pillow

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Limits, Roi

RNG = np.random.default_rng(2)


def whole(image):
    return image.read(Roi(0, 0, *image.shape)).data


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGB"), ("a.png", "L"), ("a.jpg", "RGB"), ("a.bmp", "RGB"),
     ("a.jpeg", "L"), ("a.jpg", "CMYK"), ("a.png", "P"), ("a.webp", "RGB")],
)  # fmt: skip
def test_pixels_are_pillows(tmp_path, name, mode):
    path = tmp_path / name
    noise = RNG.integers(0, 256, (90, 70, 3), np.uint8)
    Pillow.fromarray(noise).convert(mode).save(path)
    with Pillow.open(path) as picture:
        expected = np.asarray(picture if mode == "L" else picture.convert("RGB"))
    image = open_image(path)
    np.testing.assert_array_equal(whole(image).squeeze(), expected)
    assert image.rgb == (mode != "L")


def test_alpha_and_sixteen_bits(tmp_path):
    path = tmp_path / "a.png"
    rgba = RNG.integers(0, 256, (40, 50, 4), np.uint8)
    rgba[:9, :, 3] = 0
    Pillow.fromarray(rgba).save(path)
    image = open_image(path)
    data, valid = image.read(Roi(0, 0, 40, 50))
    np.testing.assert_array_equal(data, rgba[..., :3])
    np.testing.assert_array_equal(valid, rgba[..., 3] > 0)
    for shape in ((40, 50), (40, 50, 3)):
        deep = RNG.integers(0, 65535, shape, np.uint16)
        path.write_bytes(imagecodecs.png_encode(deep))
        np.testing.assert_array_equal(whole(open_image(path)).squeeze(), deep)


def test_exif_turns_a_photo_upright(tmp_path):
    path = tmp_path / "a.png"
    exif = Pillow.Exif()
    exif[274] = 6
    Pillow.new("RGB", (80, 40)).save(path, exif=exif)
    assert open_image(path).shape == (80, 40)


def test_coarser_levels_are_made_at_once(tmp_path):
    path = tmp_path / "a.png"
    Pillow.new("L", (5000, 2100), 77).save(path)
    image = open_image(path)
    assert [level.shape for level in image.levels] == [
        (2100, 5000), (1050, 2500), (525, 1250),
    ]  # fmt: skip
    assert not image.missing_levels
    assert (image.levels[-1].compute() == 77).all()


def test_too_large_a_picture_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Pillow.new("L", (50, 50)).save(path)
    with pytest.raises(OpenError, match="12 KB of main memory"):
        open_image(path, limits=Limits(picture_bytes=12_000))
    assert open_image(path, limits=Limits(picture_bytes=13_000)).shape == (50, 50)


def test_a_picture_is_refused_by_the_free_main_memory(tmp_path, monkeypatch):
    few = psutil.virtual_memory()._replace(available=2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: few)
    path = tmp_path / "a.png"
    Pillow.new("L", (1000, 1000)).save(path)
    with pytest.raises(OpenError, match="1,000 x 1,000 pixels") as error:
        open_image(path)
    assert "tiled TIFF" in error.value.hint


def png(depth, colour, row, transparent):
    """Return a PNG file of one row of pixels with one transparent colour."""
    width = {0: 1, 2: 3}[colour]
    samples = len(row) * 8 // depth // width

    def chunk(name, data):
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", samples, 1, depth, colour, 0, 0, 0)
    key = struct.pack(f">{width}H", *transparent)
    pixels = zlib.compress(b"\0" + row)
    parts = (b"IHDR", header), (b"tRNS", key), (b"IDAT", pixels), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("depth", "colour", "row", "transparent", "values"),
    [(8, 2, bytes([1, 2, 3, 9, 2, 3]), (1, 2, 3), [1, 2, 3]),
     (8, 0, bytes([7, 8]), (7,), [7]),
     (2, 0, bytes([0b01101100]), (1,), [85]),
     (1, 0, bytes([0b01111111]), (0,), [0]),
     (16, 0, bytes([1, 0, 1, 1]), (256,), [256]),
     (16, 2, bytes([1, 0, 2, 0, 3, 0, 1, 1, 2, 0, 3, 0]), (256, 512, 768),
      [256, 512, 768])],
)  # fmt: skip
def test_the_transparent_colour_of_a_png_is_not_valid(
    tmp_path, depth, colour, row, transparent, values
):
    path = tmp_path / "a.png"
    path.write_bytes(png(depth, colour, row, transparent))
    image = open_image(path)
    data, valid = image.read(Roi(0, 0, *image.shape))
    assert not valid[0, 0]
    assert valid[0, 1]
    assert data[0, 0].tolist() == values


def test_grey_and_alpha_of_sixteen_bits(tmp_path):
    path = tmp_path / "a.png"
    pixels = RNG.integers(1, 65535, (40, 50, 2), np.uint16)
    pixels[:10, :, 1] = 0
    path.write_bytes(imagecodecs.png_encode(pixels))
    image = open_image(path)
    data, valid = image.read(Roi(0, 0, 40, 50))
    assert len(image.bands) == 1
    np.testing.assert_array_equal(data[..., 0], pixels[..., 0])
    np.testing.assert_array_equal(valid, pixels[..., 1] > 0)


def test_exif_turns_a_picture_of_sixteen_bits(tmp_path):
    deep = RNG.integers(0, 65535, (40, 80, 3), np.uint16)
    plain, turned = tmp_path / "plain.png", tmp_path / "turned.png"
    plain.write_bytes(imagecodecs.png_encode(deep))
    exif = Pillow.Exif()
    exif[274] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    data = plain.read_bytes()
    name = b"eXIf" + body
    part = struct.pack(">I", len(body)) + name + struct.pack(">I", zlib.crc32(name))
    turned.write_bytes(data[:33] + part + data[33:])  # after the header
    np.testing.assert_array_equal(whole(open_image(turned)), np.rot90(deep, -1))


def test_pillows_own_limit_does_not_count_and_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1000)
    noise = RNG.integers(0, 256, (50, 50), np.uint8)
    for name in ("a.png", "a.bmp", "a.webp"):
        path = tmp_path / name
        Pillow.fromarray(noise).convert("RGB").save(path, lossless=True)
        np.testing.assert_array_equal(whole(open_image(path))[..., 0], noise)
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(OpenError):
        open_image(tmp_path / "b.png")
    with pytest.raises(Pillow.DecompressionBombError), Pillow.open(path):
        pass
