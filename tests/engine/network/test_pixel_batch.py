import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.network.pixel_batch import (
    ViewBuffers,
    concatenate_batches,
)
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.types import InputSpec, Roi, View

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SPEC = InputSpec(
    {"local": View(16, 16), "context": View(32, 16)}, 16, mean=MEAN, std=STD
)
WINDOWS = [Roi(y, x, 16, 16) for y in (0, 20, 44) for x in (0, 31)]
RANGE = (10.0, 110.0)


def image(dtype, nodata=None):
    values = np.random.default_rng(7).integers(0, 120, (60, 47, 3)).astype(dtype)
    values[25:27, 10:13] = 0
    return image_from_array(values, name="i", rgb=True, nodata=nodata), values


def pixels(opened, windows=WINDOWS, spec=SPEC):
    return read_pixels(
        opened, windows, spec, bands=(0, 1, 2), value_range=RANGE, buffers=ViewBuffers()
    )


@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"],
)
def test_every_data_type_is_normalised_by_range_mean_and_deviation(dtype):
    opened, values = image(dtype)
    batch = pixels(opened).normalized(CPU, ViewBuffers())
    whole = (values.astype(np.float64) - 10) / 100
    expected = (whole - MEAN) / STD
    for window, view in zip(WINDOWS, batch.views["local"], strict=True):
        inside = window.intersect(Roi(0, 0, *opened.shape))
        got = view.permute(1, 2, 0).numpy()[: inside.height, : inside.width]
        np.testing.assert_allclose(got, expected[inside.slices], atol=1e-5)


def test_pixels_keep_the_data_type_of_the_image():
    for dtype in ("uint8", "uint16", "float32"):
        batch = pixels(image(dtype)[0])
        for view in batch.views.values():
            assert view.numpy().dtype == dtype
            assert view.shape == (len(WINDOWS), 16, 16, 3)


def test_invalid_pixels_are_the_mean_and_a_valid_view_needs_no_mask():
    opened, values = image("uint8", nodata=0)
    inner = [Roi(20, 8, 16, 16)]
    batch = pixels(opened, inner)
    there = values[20:36, 8:24].any(axis=-1)
    assert not there.all()
    np.testing.assert_array_equal(batch.valid["local"][0], there)
    view = batch.normalized(CPU, ViewBuffers()).views["local"][0]
    assert (view[:, torch.from_numpy(~there)] == 0).all()
    assert pixels(image("uint8")[0], inner).valid == {}


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_parts_and_whole_batches_have_the_same_inputs(counts, with_nodata, dtype):
    opened, _ = image(dtype, nodata=0 if with_nodata else None)
    windows = [WINDOWS[i % len(WINDOWS)] for i in range(sum(counts))]
    starts = np.cumsum([0, *counts])
    parts = [
        pixels(opened, windows[a : a + n])
        for a, n in zip(starts[:-1], counts, strict=True)
    ]
    one = concatenate_batches(parts).normalized(CPU, ViewBuffers())
    whole = read_pixels(
        opened, windows, SPEC, bands=(0, 1, 2), value_range=RANGE
    ).normalized(torch.device("cpu"))
    some = pixels(opened, windows)[torch.tensor([0, 0])]
    first = some.normalized(CPU, ViewBuffers())
    for name in SPEC.views:
        assert torch.equal(one.views[name], whole.views[name])
        assert torch.equal(first.views[name][1], whole.views[name][0])
        assert torch.equal(one.boxes[name], whole.boxes[name])


def test_memory_of_views_is_used_again_once_nothing_refers_to_it():
    buffers = ViewBuffers()
    first = torch.from_numpy(buffers.empty((2, 3, 4), np.float32))
    place, part = first.data_ptr(), first[1]
    del first
    other = torch.from_numpy(buffers.empty((2, 3, 4), np.float32))
    assert other.data_ptr() != place
    del part
    smaller = torch.from_numpy(buffers.empty((1, 3, 4), np.float32))
    assert smaller.data_ptr() == place
    assert smaller.shape == (1, 3, 4)


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 4)), max_size=40))
def test_there_is_never_more_memory_than_was_used_at_once(steps):
    buffers, used, most = ViewBuffers(), [], 0
    for size, drop in steps:
        used = used[drop:]
        used.append(buffers.empty((size,), np.uint8))
        # memory of up to twice the size may be used
        most = max(most, sum(2 * array.nbytes for array in used))
        assert sum(array.nbytes for array in used) <= buffers.nbytes <= most
