import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

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


def test_too_large_a_picture_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_uhrseg.io.readers.png_jpeg.MAX_PIXELS", 100)
    path = tmp_path / "a.png"
    Pillow.new("L", (50, 50)).save(path)
    with pytest.raises(OpenError, match="megapixels"):
        open_image(path)


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
