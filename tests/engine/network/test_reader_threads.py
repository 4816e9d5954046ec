import threading

import numpy as np
import pytest
import torch

from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.network.reader_threads import ReaderThreads
from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.types import InputSpec, Roi, View

SPEC = InputSpec({"local": View(32, 32), "far": View(96, 32)}, 32)
WINDOWS = [Roi(y, x, 32, 32) for y in range(0, 320, 32) for x in range(0, 256, 32)]


def batch(image, threads):
    return read_pixels(
        image,
        WINDOWS,
        SPEC,
        bands=(0, 1, 2),
        value_range=(0.0, 255.0),
        threads=threads,
    )


@pytest.mark.parametrize("nodata", [None, 0])
@pytest.mark.parametrize("count", [2, 3, 8, 100])
def test_several_threads_read_the_same_pixels_as_one(count, nodata):
    pixels = np.random.default_rng(2).integers(0, 9, (300, 260, 3), np.uint8)
    image = image_from_array(pixels, name="i", rgb=True, nodata=nodata)
    expected, got = batch(image, None), batch(image, ReaderThreads(count))
    assert got.valid.keys() == expected.valid.keys()
    for name in SPEC.views:
        assert torch.equal(got.views[name], expected.views[name])
        if name in expected.valid:
            assert torch.equal(got.valid[name], expected.valid[name])


def test_threads_read_at_the_same_time():
    met = threading.Barrier(4, timeout=60)
    ReaderThreads(4).each(lambda _: met.wait(), 4)


def test_an_error_is_raised_once_no_thread_works_any_more():
    running, seen = set(), []

    def work(number):
        running.add(number)
        if number in (5, 9):
            running.remove(number)
            raise ReadError(f"Window {number} is damaged.")
        seen.append(number)
        running.remove(number)

    with pytest.raises(ReadError, match="Window 5"):
        ReaderThreads(4).each(work, 12)
    assert not running
    assert {0, 1, 2, 3, 4, 6, 7, 8} <= set(seen)


def test_damaged_pixels_are_told_with_the_place_of_the_first_window():
    class Damaged:
        shape, dtype, chunks = (320, 256, 3), np.dtype("u1"), (32, 32, 3)

        def __getitem__(self, key):
            if key[0].start >= 256:
                raise ValueError("bad chunk")
            return np.ones([s.stop - s.start for s in key], np.uint8)

    image = image_from_array(Damaged(), name="i", rgb=True)
    with pytest.raises(ReadError) as serial:
        batch(image, None)
    with pytest.raises(ReadError) as parallel:
        batch(image, ReaderThreads(3))
    assert str(parallel.value) == str(serial.value)
