import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.types import InputSpec, Roi, View

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def spec(extent: int, size: int, window: int, padding: str = "reflect") -> InputSpec:
    return InputSpec({"v": View(extent, size)}, window, padding=padding, **PLAIN)


def views(image, windows, wanted):
    batch = read_pixels(
        image, windows, wanted, bands=(0, 1, 2), value_range=(0.0, 1.0)
    ).normalized(torch.device("cpu"))
    return batch.views["v"].numpy(), batch.boxes["v"].numpy()


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.data())
def test_ground_beyond_the_image_is_its_mirror(height, width, data):
    pixels = np.random.default_rng(5).integers(0, 255, (height, width, 3), np.uint8)
    image = image_from_array(pixels, name="i", rgb=True)
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    got, _ = views(image, [Roi(y, x, 16, 16)], spec(32, 32, 16))
    margin = 64
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "reflect")
    top, left = y - 8 + margin, x - 8 + margin
    inner = pixels[max(0, y - 8) : y + 24, max(0, x - 8) : x + 24]
    if min(inner.shape[:2]) > 32 - min(inner.shape[:2]):
        expected = padded[top : top + 32, left : left + 32]
        np.testing.assert_array_equal(got[0].transpose(1, 2, 0), expected)
    assert got.shape == (1, 3, 32, 32)


def test_the_box_says_where_the_window_lies():
    image = image_from_array(np.zeros((99, 99, 3), np.uint8), name="i", rgb=True)
    _, boxes = views(image, [Roi(16, 16, 16, 16)], spec(64, 32, 16))
    np.testing.assert_array_equal(boxes, [[12, 12, 20, 20]])


def test_normalising_uses_range_mean_and_std_and_invalid_pixels_are_the_mean():
    pixels = np.full((16, 16, 3), 51, np.uint8)
    pixels[3, 4] = 0
    image = image_from_array(pixels, name="i", rgb=True, nodata=0)
    wanted = InputSpec({"v": View(16, 16)}, 16, mean=(0.1,) * 3, std=(0.5,) * 3)
    batch = read_pixels(
        image, [Roi(0, 0, 16, 16)], wanted, bands=(0, 1, 2), value_range=(0, 255)
    ).normalized(torch.device("cpu"))
    value = batch.views["v"][0, 0]
    assert value[0, 0].item() == pytest.approx((0.2 - 0.1) / 0.5, abs=1e-6)
    assert value[3, 4].item() == 0


def test_a_window_does_not_depend_on_its_neighbours_in_the_batch():
    pixels = np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8)
    image = image_from_array(pixels, name="i", rgb=True)
    windows = [Roi(y, x, 32, 32) for y in (0, 70, 268) for x in (0, 13, 268)]
    together, _ = views(image, windows, spec(64, 48, 32))
    for window, one in zip(windows, together, strict=True):
        np.testing.assert_array_equal(
            views(image, [window], spec(64, 48, 32))[0][0], one
        )
