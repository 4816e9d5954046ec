"""Levels computed in the background: their pixels, and what stopping leaves."""

import os
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tifffile

from helpers.forked import ForkedCode, forked_code
from helpers.pyramids import Lazy, image_of, scene, tiled
from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.image import pyramid_builder
from napari_uhrseg.io.image.box_mean import box_mean
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.io.image.composite import composite_levels
from napari_uhrseg.io.image.image import Band, Image
from napari_uhrseg.io.image.level_source import LevelSource, Slices
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.image.pyramid_builder import attach_levels
from napari_uhrseg.io.image.pyramid_cache import release_entries
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Limits, Roi

SMALL_STEPS = Limits(read_bytes=2**18)


def fill_levels(
    image: Image, cache_dir: Path | None = None, limits: Limits = SMALL_STEPS
) -> Iterator[float]:
    """Fill the levels in small steps."""
    return pyramid_builder.fill_levels(image, cache_dir, limits)


def untiled(data: np.ndarray, rows: int = 32) -> Image:
    strips = Lazy(data, (rows, data.shape[1], 3))
    first = PendingLevel(data.shape, data.dtype, (256, 256, 3), untiled_source=strips)
    return image_of(first, fingerprint="strips")


def pixels(level: LevelSource) -> np.ndarray:
    return np.asarray(level[tuple(slice(0, n) for n in level.shape)])


def pending(image: Image) -> list[PendingLevel]:
    return [s for s in image.sources if isinstance(s, PendingLevel)]


def check(image: Image, data: np.ndarray) -> None:
    """Every level is the mean of the one before, as computed at once in memory."""
    assert not image.missing_levels
    expected = data
    for number, level in enumerate(image.sources):
        if number:
            expected = box_mean(expected, 2, image.source_axes)
        np.testing.assert_array_equal(pixels(level), expected)


@pytest.mark.slow
def test_levels_are_what_they_are_at_once_in_memory(tmp_path: Path) -> None:
    data = scene()
    image = tiled(data)
    assert len(pending(image)) == 2
    shares = list(fill_levels(image, tmp_path))
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert len(shares) > 10
    check(image, data)


@pytest.mark.slow
def test_untiled_files_are_converted_once(tmp_path: Path) -> None:
    data = scene(1500, 1250)
    image = untiled(data)
    assert image.needs_tiling
    list(fill_levels(image, tmp_path))
    check(image, data)
    again = untiled(data)
    assert attach_levels(again, tmp_path)
    assert not again.needs_tiling
    check(again, data)
    assert pending(again)[0].untiled_source.read == 0  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiled, untiled])
def test_a_second_opening_reads_no_pixels(tmp_path: Path, make: object) -> None:
    data = scene(1500, 1250)
    list(fill_levels(make(data), tmp_path))  # type: ignore[operator]
    image = make(data)  # type: ignore[operator]
    first = image.sources[0]
    # a tiled file's pixels lie behind the cache of decoded chunks
    source = first.untiled_source if isinstance(first, PendingLevel) else first.source
    shares = list(fill_levels(image, tmp_path))
    assert source.read == 0  # type: ignore[union-attr]
    assert shares == [0.0, 1.0]
    check(image, data)


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiled, untiled])
@pytest.mark.parametrize("at", [0.0, 0.2, 0.7])
def test_stopped_and_continued(tmp_path: Path, make: object, at: float) -> None:
    data = scene(1500, 1250)
    image = make(data)  # type: ignore[operator]
    filling = fill_levels(image, tmp_path)
    for share in filling:
        if share > at:
            break
    filling.close()
    assert image.missing_levels
    again = make(data)  # type: ignore[operator]
    assert not attach_levels(again, tmp_path)
    shares = list(fill_levels(again, tmp_path))
    assert at < 0.5 or shares[1] > 0.3  # goes on, does not begin again
    check(again, data)


def test_done_parts_show_before_the_whole_is_done(tmp_path: Path) -> None:
    data = scene()
    image = tiled(data)
    _ = image.levels
    filling = fill_levels(image, tmp_path)
    for share in filling:
        if share > 0.6:
            break
    half = len(data) // 2
    for factor, level in ((2, pending(image)[0]), (4, pending(image)[1])):
        expected = data
        for _ in range(factor // 2):
            expected = box_mean(expected, 2, "yxs")
        shown = pixels(level)
        top = half // factor - 50
        np.testing.assert_array_equal(shown[:top], expected[:top])
        assert (shown[-25:] == 128).all()
    filling.close()


def test_other_stretch_overwrites_no_filled_pixels(tmp_path: Path) -> None:
    """The contrast is measured, or changed by the user, while the levels are filled."""
    image = tiled(scene(), rgb_bands=(0, 1, 2))
    _ = image.levels
    first = pending(image)[0]
    grey = pixels(first).copy()
    filling = fill_levels(image, tmp_path)
    assert 0 < next(share for share in filling if share) < 0.3
    filled = pixels(first).copy()
    assert (filled != grey).any()
    composite_levels(image, (0, 1, 2), ((10, 200),) * 3)
    np.testing.assert_array_equal(pixels(first), filled)
    filling.close()


KILLED = """
    import sys, time
    from pathlib import Path
    from helpers.pyramids import scene, tiled
    from napari_uhrseg.io.image.pyramid_builder import fill_levels
    from napari_uhrseg.types import Limits
    limits = Limits(read_bytes=2**18)
    image = tiled(scene(1500, 1250))
    for share in fill_levels(image, Path(sys.argv[1]), limits):
        print(share, flush=True)
        if share > float(sys.argv[2]):
            sys.stdin.read()  # wait to be killed
        time.sleep(0.02)
"""


def filling_process(
    folder: Path, until: float = 1.0
) -> AbstractContextManager[ForkedCode]:
    return forked_code(textwrap.dedent(KILLED), folder, until)


def shares_of(process: ForkedCode) -> Iterator[float]:
    return map(float, process.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("at", [0.1, 0.5])
def test_killed_and_continued(tmp_path: Path, at: float) -> None:
    with filling_process(tmp_path, at) as process:  # killed at the end
        assert any(share > at for share in shares_of(process))
    data = scene(1500, 1250)
    image = tiled(data)
    assert not attach_levels(image, tmp_path)
    list(fill_levels(image, tmp_path))
    check(image, data)


@pytest.mark.slow
def test_two_processes_fill_one_image(tmp_path: Path) -> None:
    data = scene(1500, 1250)
    with filling_process(tmp_path) as process:
        next(share for share in shares_of(process) if share > 0.1)
        image = tiled(data)
        list(fill_levels(image, tmp_path))
    assert image.sources[0].source.read == 0  # type: ignore[attr-defined]
    check(image, data)


def test_two_threads_fill_one_image(tmp_path: Path) -> None:
    data = scene(1500, 1250)
    images = [tiled(data), tiled(data)]
    threads = [
        threading.Thread(target=lambda i=i: list(fill_levels(i, tmp_path)))
        for i in images
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for image in images:
        check(image, data)


class Sparse:
    """Pixels of a virtual image: nothing is held."""

    def __init__(self, side: int) -> None:
        self.shape = (side, side, 3)
        self.dtype = np.dtype(np.uint8)
        self.chunks = (1024, 1024, 3)

    def __getitem__(self, key: Slices) -> np.ndarray:
        out = np.zeros([s.stop - s.start for s in key], np.uint8)
        out += np.uint8(key[0].start // 1024 % 7)
        return out


@pytest.mark.slow
def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    image = image_of(Sparse(60_000))  # 11 GB
    with CHUNK_CACHE.limited(2**24):
        filling = fill_levels(image, tmp_path, Limits(read_bytes=2**20))
        next(filling)
        resident = memory()
        tracemalloc.start()
        assert len(list(islice(filling, 200))) == 200  # MB
        filling.close()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100 * 2**20  # 16 of them the cache of decoded chunks
    assert memory() - resident < 150 * 2**20


def memory() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def test_a_strip_too_large_to_keep_is_read_few_times(tmp_path: Path) -> None:
    data = scene(1500, 1250)
    image = untiled(data, rows=len(data))
    with CHUNK_CACHE.limited(2**20):
        list(fill_levels(image, tmp_path))
    check(image, data)
    assert pending(image)[0].untiled_source.read == 1  # type: ignore[union-attr]


@pytest.mark.slow
def test_untiled_file_with_a_coarser_level_of_its_own(tmp_path: Path) -> None:
    data = scene(1050, 1150)
    half = box_mean(data, 2, "yxs")
    strips = Lazy(data, (32, data.shape[1], 3))
    first = PendingLevel(data.shape, data.dtype, (256, 256, 3), untiled_source=strips)
    image = image_of(first, Lazy(half, (256, 256, 3)))
    shares = list(fill_levels(image, tmp_path))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    check(image, data)


@pytest.mark.slow
def test_untiled_tiff_above_the_limit_is_converted(tmp_path: Path) -> None:
    data = np.zeros((4400, 3000), np.uint8)
    data[::97] = np.arange(3000) % 256
    path = tmp_path / "untiled.tif"
    tifffile.imwrite(path, data, compression="zlib", rowsperstrip=3)
    assert not open_image(path).needs_tiling
    limits = Limits(untiled_pixels=10_000_000, read_bytes=2**21)
    image = open_image(path, limits=limits)
    assert image.needs_tiling
    shares = list(fill_levels(image, tmp_path / "cache", limits))
    assert np.diff(shares).max() < 0.2  # it answers often enough to be cancelled
    again = open_image(path, limits=limits)
    assert attach_levels(again, tmp_path / "cache")
    roi = Roi(2000, 1500, 600, 550)
    np.testing.assert_array_equal(again.read(roi).data[..., 0], data[roi.slices])
    coarser = np.asarray(again.sources[1][1000:1300, 750:1025])
    np.testing.assert_array_equal(coarser, box_mean(data[roi.slices], 2, "yx"))


def test_nodata_stays_apart(tmp_path: Path) -> None:
    data = np.full((1250, 1050), 50, np.int16)
    data[:, 501:] = -99
    image = tiled(data, bands=(Band("height", (0, 100), -99.0),))
    list(fill_levels(image, tmp_path))
    assert set(np.unique(pixels(pending(image)[0]))) == {-99, 50}


def test_changed_file_is_not_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "a.raw"
    file.write_bytes(b"1")
    one, two = scene(1050, 1050), scene(1050, 1050)[::-1].copy()
    list(fill_levels(tiled(one, path=file), tmp_path / "cache"))
    os.utime(file, (1, 1))
    image = tiled(two, path=file)
    assert not attach_levels(image, tmp_path / "cache")
    list(fill_levels(image, tmp_path / "cache"))
    check(image, two)


def test_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    data = scene(1050, 1050)
    list(fill_levels(tiled(data), tmp_path))
    next(tmp_path.glob("*/1/zarr.json")).write_text("{")
    image = tiled(data)
    assert not attach_levels(image, tmp_path)
    list(fill_levels(image, tmp_path))
    check(image, data)


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiled, untiled])
@pytest.mark.parametrize("keep", [0, 20, -1])
def test_damaged_computed_chunk_is_computed_again(
    tmp_path: Path, make: object, keep: int
) -> None:
    data = scene(550, 550)
    list(fill_levels(make(data), tmp_path))  # type: ignore[operator]
    for file in tmp_path.glob("*/*/c/0/0/0"):
        file.write_bytes(file.read_bytes()[:keep])
    image = make(data)  # type: ignore[operator]
    attach_levels(image, tmp_path)
    shown = pixels(image.sources[0])
    assert shown.shape == data.shape
    again = make(data)  # type: ignore[operator]
    assert not attach_levels(again, tmp_path)
    list(fill_levels(again, tmp_path))
    check(again, data)


def test_damaged_rows_of_a_stopped_computation_are_found(tmp_path: Path) -> None:
    data = scene(1050, 300)
    filling = fill_levels(untiled(data), tmp_path)
    for share in filling:
        if share > 0.3:
            break
    filling.close()
    for file in tmp_path.glob("*/0/c/*/0/0"):
        file.write_bytes(b"")
    for _ in range(2):  # the display finds the damage, and the next opening mends it
        image = untiled(data)
        with suppress(ReadError):
            list(fill_levels(image, tmp_path))
        pixels(image.sources[0])
    check(image, data)


def test_one_bad_tile_stops_nothing(tmp_path: Path) -> None:
    data = scene(1050, 1050)

    class Bad(Lazy):
        def __getitem__(self, key: Slices) -> np.ndarray:
            if key[0].start <= 256 < key[0].stop:
                raise ValueError("bogus marker")
            return super().__getitem__(key)

    image = image_of(Bad(data, (256, 256, 3)))
    list(fill_levels(image, tmp_path))
    expected = box_mean(data, 2, "yxs")
    shown = pixels(pending(image)[0])
    np.testing.assert_array_equal(shown[:128], expected[:128])
    assert not shown[128:256].any()
    np.testing.assert_array_equal(shown[256:], expected[256:])


def test_images_with_all_levels_need_nothing(tmp_path: Path) -> None:
    image = Image(
        name="small", sources=[Lazy(scene(500, 400), (99, 99, 3))], source_axes="yxs"
    )
    assert list(fill_levels(image, tmp_path)) == [1.0]
    assert not any(tmp_path.iterdir())


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReadError) as caught:
        list(fill_levels(tiled(scene(1050, 1050)), tmp_path / "file"))
    assert "NAPARI_UHRSEG_CACHE" in caught.value.hint


def test_full_disk_is_reported_before_anything_is_written(tmp_path: Path) -> None:
    limits = Limits(reserved_disk_bytes=2**62)
    with pytest.raises(ReadError, match="are needed"):
        list(fill_levels(tiled(scene(1050, 1050)), tmp_path, limits))
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


@pytest.mark.slow
def test_the_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE", str(tmp_path))
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE_LIMIT", "4.5MB")
    data = np.random.default_rng(0).integers(0, 255, (1050, 1050, 3), np.uint8)
    for name in "abcd":  # 1 MB each
        list(fill_levels(tiled(data, name)))
        time.sleep(0.02)
        release_entries()
    assert attach_levels(tiled(data, "a"))  # used now: b is the oldest one
    release_entries()
    list(fill_levels(tiled(data, "e")))
    there = {name for name in "abcde" if attach_levels(tiled(data, name))}
    assert {"a", "e"} <= there
    assert "b" not in there
    size = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert size <= 4.5 * 2**20


def test_what_is_in_use_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE_LIMIT", "250kB")
    data = scene(1050, 1050)
    first = tiled(data, "a")
    list(fill_levels(first, tmp_path))
    list(fill_levels(tiled(data, "b"), tmp_path))
    check(first, data)
    release_entries()
    list(fill_levels(tiled(data, "c"), tmp_path))
    assert not attach_levels(tiled(data, "a"), tmp_path)
    assert attach_levels(tiled(data, "c"), tmp_path)


@pytest.mark.slow
def test_opening_again_shows_the_cached_levels_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "large.tif"
    data = np.random.default_rng(0).integers(0, 255, (4352, 4352), np.uint8)
    tifffile.imwrite(path, data, tile=(256, 256))
    first = open_image(path)
    assert first.missing_levels
    list(fill_levels(first))
    again = open_image(path)
    assert not again.missing_levels
    np.testing.assert_array_equal(
        np.asarray(again.levels[-1]), np.asarray(first.levels[-1])
    )


def test_files_that_differ_only_in_the_middle_share_no_levels(tmp_path: Path) -> None:
    one, two = scene(1050, 1050), scene(1050, 1050)[::-1].copy()
    for name in ("a.raw", "b.raw"):
        (tmp_path / name).write_bytes(b"1")
        os.utime(tmp_path / name, (1000, 1000))
    first = tiled(one, path=tmp_path / "a.raw")
    other = tiled(two, path=tmp_path / "b.raw")
    assert first.fingerprint == other.fingerprint
    list(fill_levels(first, tmp_path / "cache"))
    assert not attach_levels(other, tmp_path / "cache")
    list(fill_levels(other, tmp_path / "cache"))
    check(other, two)
    check(first, one)
