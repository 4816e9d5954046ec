"""The mean of boxes, against a slow and plain computation."""

import numpy as np
import pytest

from napari_uhrseg.io.image.box_mean import box_mean


def plainly(data: np.ndarray, factor: int) -> np.ndarray:
    """(y, x), halves rounded up, boxes at the border smaller."""
    height, width = (-(-n // factor) for n in data.shape)
    out = np.empty((height, width), np.float64)
    for y in range(height):
        for x in range(width):
            box = data[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            out[y, x] = box.astype(np.float64).mean()
    return out if data.dtype.kind == "f" else np.floor(out + 0.5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("shape", [(8, 6), (7, 5), (1, 9), (1, 1)])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_plain(dtype: str, shape: tuple[int, int], factor: int) -> None:
    rng = np.random.default_rng(1)
    if dtype[0] == "f":
        data = rng.normal(size=shape).astype(dtype)
    else:
        limit = np.iinfo(dtype)
        low, high = max(limit.min, -(2**30)), min(limit.max, 2**30)
        data = rng.integers(low, high, shape, dtype, endpoint=True)
    found = box_mean(data, factor, "yx")
    assert found.dtype == data.dtype
    np.testing.assert_allclose(found, plainly(data, factor), rtol=1e-5, atol=1e-6)


def test_axes_may_stand_anywhere() -> None:
    data = np.random.default_rng(2).integers(0, 255, (3, 9, 7), np.uint8)
    expected = np.stack([plainly(band, 2) for band in data])
    np.testing.assert_array_equal(box_mean(data, 2, "cyx"), expected)
    last = box_mean(data.transpose(1, 2, 0), 2, "yxs")
    np.testing.assert_array_equal(last, expected.transpose(1, 2, 0))


def test_nodata_takes_no_part() -> None:
    data = np.array([[0, 10, 0, 0], [20, 30, 0, 4]], np.uint8)
    assert box_mean(data, 2, "yx", 0).tolist() == [[20, 0]]
    assert box_mean(data, 2, "yx", -9999.0).tolist() == [[15, 1]]
    assert box_mean(data, 2, "yx").tolist() == [[15, 1]]


def test_nodata_in_one_band_is_data() -> None:
    data = np.zeros((2, 2, 2), np.uint8)
    data[..., 0] = 8
    assert box_mean(data, 2, "yxs", 0).tolist() == [[[8, 0]]]


def test_nan_takes_no_part() -> None:
    nan = np.nan
    data = np.array([[nan, 1.0, nan, nan], [2.0, 3.0, nan, 7.0]], np.float32)
    assert box_mean(data, 2, "yx")[0, 0] == 2
    assert np.isnan(box_mean(data, 2, "yx")[0, 1])
    assert box_mean(data, 2, "yx", -1.0).tolist() == [[2.0, -1.0]]
