import threading
from dataclasses import dataclass, replace
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest

from napari_uhrseg.errors import OpenError, ReadError
from napari_uhrseg.io.image.chunk_cache import ChunkCache
from napari_uhrseg.io.image.from_array import image_from_array, image_from_layer
from napari_uhrseg.io.image.image import Band, Image
from napari_uhrseg.io.image.level_source import ArraySource
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.types import Limits, Roi

RNG = np.random.default_rng(0)


@dataclass
class Virtual:
    """A function of the coordinates, or nothing decodable, of any size."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...] = (512, 512, 3)
    dtype: type = np.uint8
    bad: bool = False
    reads: int = 0

    def __getitem__(self, key):
        self.reads += 1
        if self.bad and key[0].start >= 512:
            raise ValueError("Bogus marker length")
        y, x = (np.arange(s.start, s.stop) for s in key[:2])
        plane = (y[:, None] // 7 + x // 5) % 251
        return np.repeat(plane[..., None], 3, -1).astype(np.uint8)


def virtual(*sizes: int, **kwargs) -> Image:
    sources = [Virtual((n, n, 3)) for n in sizes]
    return Image(
        name="v", sources=sources, source_axes="yxs", rgb_bands=(0, 1, 2), **kwargs
    )


def test_read_gives_the_very_pixels_and_says_what_lies_outside():
    pixels = RNG.integers(1, 256, (300, 400, 3), np.uint8)
    image = image_from_array(pixels, name="a", rgb=True)
    data, valid = image.read(Roi(-10, 350, 100, 100))
    np.testing.assert_array_equal(data[10:, :50], pixels[:90, 350:])
    assert valid[10:, :50].all()
    assert valid.sum() == 90 * 50
    assert not data[~valid].any()
    assert image.read(Roi(5000, 0, 4, 4)).valid.sum() == 0
    assert image.read(Roi(0, 0, 9, 8), bands=[2]).data.shape == (9, 8, 1)


def test_read_does_not_depend_on_how_chunks_lie():
    pixels = RNG.integers(0, 4000, (1100, 900), np.uint16)
    plain = image_from_array(pixels, name="a")
    chunked = image_from_array(da.from_array(pixels, chunks=(130, 210)), name="a")
    for roi, size in [
        (Roi(13, 40, 700, 800), None),
        (Roi(0, 0, 1024, 512), (512, 256)),
        (Roi(5, 7, 500, 400), (333, 271)),
        (Roi(-40, 3, 200, 100), (512, 300)),
    ]:
        np.testing.assert_array_equal(
            plain.read(roi, size).data, chunked.read(roi, size).data
        )


def test_shrinking_averages_areas_and_enlarging_is_linear():
    pixels = RNG.integers(0, 256, (240, 240), np.uint8)
    image = image_from_array(pixels, name="a")
    data = image.read(Roi(0, 0, 240, 240), (60, 60)).data[..., 0]
    mean = pixels.reshape(60, 4, 60, 4).mean((1, 3))
    assert np.abs(data - mean).max() <= 0.5
    ramp = image_from_array(np.arange(64.0)[None].repeat(8, 0), name="ramp")
    wide = ramp.read(Roi(0, 0, 8, 64), (8, 128)).data[0, :, 0]
    np.testing.assert_allclose(np.diff(wide)[1:-1], 0.5, atol=1e-5)
    # 2.5 pixels each: a total that is kept says that no pixel counts twice
    odd = image.read(Roi(0, 0, 240, 240), (96, 96)).data
    assert abs(odd.mean() - pixels.mean()) < 0.6


def test_the_cheapest_sufficient_level_is_read():
    image = virtual(40_000, 20_000, 10_000, 5_000)
    levels = [source.source for source in image.sources[:4]]
    image.read(Roi(1024, 1024, 2048, 2048), (512, 512))
    assert [bool(level.reads) for level in levels] == [False, False, True, False]
    image.read(Roi(0, 0, 300, 300), (200, 200))
    assert levels[0].reads
    assert image.downsamples == (1, 2, 4, 8, 16, 32)


@pytest.mark.slow
def test_a_large_rectangle_is_resampled_piece_by_piece():
    image = virtual(6000)
    whole = image.read(Roi(3, 5, 3000, 2500), (300, 333))
    image = replace(image, limits=Limits(read_pixels=40_000))
    pieces = image.read(Roi(3, 5, 3000, 2500), (300, 333))
    np.testing.assert_array_equal(whole.data, pieces.data)


def test_nodata_nan_alpha_and_masks_make_pixels_invalid():
    values = np.ones((20, 20), np.float32)
    values[0], values[1] = np.nan, -9
    image = image_from_array(values, name="n", nodata=-9)
    data, valid = image.read(Roi(0, 0, 20, 20))
    assert (~valid).sum() == 40
    assert data[0, 0, 0] == 0
    assert image.read(Roi(0, 0, 20, 20), (10, 10)).data[1:].min() == 1
    rgba = np.full((20, 20, 4), 9, np.uint8)
    rgba[:5, :, 3] = 0
    image = image_from_array(rgba, name="a", rgb=True)
    assert len(image.bands) == 3
    assert image.read(Roi(0, 0, 20, 20)).valid.sum() == 300
    assert image.levels[0].shape == (20, 20, 4)


def test_opening_is_quick_and_panning_reads_what_is_seen():
    image = virtual(100_000)
    assert [type(level).__name__ for level in image.levels] == ["Array"] * 6 + [
        "ndarray"
    ]
    assert image.missing_levels
    assert (image.levels[-1] == 128).all()
    seen = image.levels[0][50_000:50_600, 70_000:70_800].compute()
    assert image.sources[0].source.reads <= 9
    np.testing.assert_array_equal(seen, image.read(Roi(50_000, 70_000, 600, 800)).data)


def test_a_small_image_without_overviews_is_never_grey():
    image = virtual(3000)
    assert not image.missing_levels
    assert image.levels[1].shape == (1500, 1500, 3)
    mean = image.read(Roi(0, 0, 3000, 3000), (1500, 1500)).data
    np.testing.assert_array_equal(image.levels[1].compute(), mean)


def test_what_cannot_be_decoded_is_empty_on_screen_and_an_error_for_the_engine():
    source = Virtual((1500, 1500, 3), bad=True)
    told: list[str] = []
    image = Image(
        name="bad.svs",
        sources=[source],
        source_axes="yxs",
        rgb_bands=(0, 1, 2),
        on_read_error=told.append,
    )
    shown = image.levels[0].compute()
    assert shown[:512].any()
    assert not shown[512:].any()
    assert len(told) == 1
    assert "bad.svs" in told[0]
    with pytest.raises(ReadError, match="Bogus"):
        image.read(Roi(600, 0, 10, 10))
    assert image.read(Roi(0, 0, 10, 10)).valid.all()


def test_planes_and_channels():
    values = RNG.integers(0, 999, (4, 3, 5, 60, 50), np.uint16)  # t c z y x
    image = image_from_array(values, name="s", axes="tczyx")
    assert image.planes == {"t": 4, "z": 5}
    assert image.plane == {"t": 0, "z": 2}
    other = image.with_plane(t=3, z=1)
    data = other.read(Roi(0, 0, 60, 50)).data
    np.testing.assert_array_equal(data, np.moveaxis(values[3, :, 1], 0, -1))
    one = other.read(Roi(0, 0, 60, 50), bands=(1,)).data[..., 0]
    np.testing.assert_array_equal(one, values[3, 1, 1])
    with pytest.raises(ValueError, match="z=9"):
        image.with_plane(z=9)


def test_more_bands_than_colours_are_shown_before_y_and_x():
    values = RNG.integers(0, 4000, (40, 30, 5), np.uint16)
    image = Image(name="m", sources=[_Array(values)], source_axes="yxs")
    assert image.axes == "cyx"
    np.testing.assert_array_equal(image.levels[0].compute(), np.moveaxis(values, -1, 0))
    colour = Image(
        name="m", sources=[_Array(values)], source_axes="yxs", rgb_bands=(3, 1, 0)
    )
    assert colour.levels[0].shape == (40, 30, 3)
    assert colour.levels[0].dtype == np.uint8
    assert colour.read(Roi(0, 0, 2, 2)).data.shape == (2, 2, 5)


def test_ranges_come_from_the_bands_or_a_bounded_sample():
    assert virtual(900).estimate_range() == (0, 255)
    values = RNG.normal(500, 10, (700, 600)).astype(np.float32)
    low, high = image_from_array(values, name="f").estimate_range()
    assert 460 < low < 480
    assert 520 < high < 540
    image = image_from_array(values, name="f")
    image.bands = (Band("b", (0.0, 7.0)),)
    assert image.estimate_range() == (0, 7)
    values[:, :100] = -3.4e38  # missing, which the file does not declare
    assert image_from_array(values, name="f").estimate_range()[0] > 460
    constant = image_from_array(np.full((9, 9), 7, np.uint16), name="c")
    assert constant.estimate_range() == (0, 7)


def test_pixel_sizes_become_metres():
    image = virtual(64)
    assert image.meters_per_pixel is None
    image.pixel_size, image.unit = (0.5, 0.5), "micrometer"
    assert image.meters_per_pixel == pytest.approx(5e-7)
    image.pixel_size, image.unit = (1e-5, 1e-5), "degree"
    image.affine = (1e-5, 0, 10, 0, -1e-5, 60)
    assert image.meters_per_pixel == pytest.approx(1.1132 * 0.5**0.5, rel=1e-3)


def test_any_image_layer_can_be_read():
    values = RNG.integers(0, 255, (6, 80, 70), np.uint8)
    layer = SimpleNamespace(
        data=[da.from_array(values), da.from_array(values[:, ::2, ::2])],
        multiscale=True, rgb=False, scale=(1, 0.25, 0.25), name="cells",
        units=("pixel", "micrometer", "micrometer"), metadata={},
    )  # fmt: skip
    image = image_from_layer(layer)
    assert (image.name, image.planes, image.pixel_size) == (
        "cells", {"z": 6}, (0.25, 0.25),
    )  # fmt: skip
    data = image.with_plane(z=4).read(Roi(0, 0, 80, 70)).data[..., 0]
    np.testing.assert_array_equal(data, values[4])
    layer.metadata["uhrseg_image"] = image
    assert image_from_layer(layer) is image
    with pytest.raises(OpenError, match="no image"):
        image_from_layer(SimpleNamespace(name="points", data=None, metadata={}))


def test_a_pending_level_is_grey_until_it_is_there():
    level = PendingLevel((9000, 9000, 3), np.uint8, (512, 512, 3))
    level.set_fill_value(128)
    assert (level[0:600, 0:600, 0:3] == 128).all()
    level.data = np.full((9000, 9000, 3), 7, np.uint8).view(np.memmap)
    level.ready[0, 0] = True
    part = level[0:600, 0:600, 0:3]
    assert (part[:512, :512] == 7).all()
    assert (part[512:] == 128).all()
    with pytest.raises(ReadError):
        PendingLevel((9000, 9000), np.uint8, (512, 512)).read_exact(np.s_[0:1, 0:1])


def test_the_cache_is_bounded_and_decodes_a_chunk_once():
    cache, made = ChunkCache(limit=10_000), []

    def decode(number):
        made.append(number)
        return np.full(1000, number, np.uint8)

    for number in range(30):
        cache.get(number, lambda n=number: decode(n))
    assert cache.size <= 10_000
    assert 29 in cache
    assert 0 not in cache
    made.clear()
    gate = threading.Barrier(8)

    def ask():
        gate.wait()
        cache.get("one", lambda: decode(5))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [5]
    with pytest.raises(ZeroDivisionError):
        cache.get("bad", lambda: 1 / 0)
    assert cache.get("bad", lambda: decode(1)).sum() == 1000


@dataclass
class _Array:
    array: np.ndarray

    def __post_init__(self):
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.chunks = tuple(min(n, 16) for n in self.shape[:2]) + self.shape[2:]

    def __getitem__(self, key):
        return self.array[key]


def test_colours_of_few_bits_are_displayed_over_their_range():
    pixels = np.array([[[0, 5, 15], [15, 15, 15]]], np.uint8)
    image = Image(
        name="n", sources=[ArraySource(pixels)], source_axes="yxs",
        rgb_bands=(0, 1, 2), value_range=(0, 15),
    )  # fmt: skip
    assert np.asarray(image.levels[0]).tolist() == [[[0, 85, 255], [255] * 3]]
    np.testing.assert_array_equal(image.read(Roi(0, 0, 1, 2)).data, pixels)
