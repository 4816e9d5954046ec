"""Many threads reading one image get the bytes that one thread gets."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import tifffile
import zarr

from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE, CachedSource
from napari_uhrseg.io.image.geometry import missing_levels
from napari_uhrseg.io.image.image import Image, Pixels
from napari_uhrseg.io.image.level_source import ArraySource
from napari_uhrseg.io.image.pyramid_builder import fill_levels
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

REAL = Path(__file__).parents[3] / "../shared/data/files"
THREADS = 8
Request = tuple[Roi, tuple[int, int] | None]


def picture(height: int = 2100, width: int = 2600) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    wave = (120 + 60 * np.sin(y / 23) + 60 * np.cos(x / 31)).astype(np.uint8)
    return np.stack([wave, wave[::-1], wave[:, ::-1]], -1)


def make_tiff(folder: Path, **how: object) -> Path:
    path = folder / "a.tif"
    with tifffile.TiffWriter(path) as file:
        full = picture()
        options = {"photometric": "rgb", "metadata": None, **how}
        file.write(full, subifds=1, **options)  # type: ignore[arg-type]
        file.write(full[::2, ::2], subfiletype=1, **options)  # type: ignore[arg-type]
    return path


def make_geotiff(folder: Path) -> Path:
    import rasterio

    path = folder / "geo.tif"
    data = picture().transpose(2, 0, 1)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        height=data.shape[1],
        width=data.shape[2],
        dtype="uint8",
        crs="EPSG:32632",
        transform=rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
    ) as file:
        file.write(data)
        file.build_overviews([2, 4])
    return path


def make_zarr(folder: Path) -> Path:
    zarr.save_array(folder / "a.zarr", picture())
    return folder / "a.zarr"


MAKERS = {
    "deflate": lambda d: make_tiff(d, tile=(256, 256), compression="deflate"),
    "jpeg": lambda d: make_tiff(d, tile=(256, 256), compression="jpeg"),
    "strips": lambda d: make_tiff(d, rowsperstrip=17, compression="lzw"),
    "mapped": lambda d: make_tiff(d),
    "geotiff": make_geotiff,
    "zarr": make_zarr,
}
FILES = [
    REAL / name
    for name in (
        "aperio_cmu1_small_region.svs",
        "dicom_wsi_cmu1",
        "cog_jpeg_ycbcr_mask.tif",
        "cog_uint16_overviews.tif",
        "ome_multichannel_zseries.ome.tif",
    )
    if (REAL / name).exists()
]


def requests(image: Image, count: int) -> list[Request]:
    """Windows inside and across the border, as they are and at other sizes."""
    rng = np.random.default_rng(3)
    height, width = image.shape
    out: list[Request] = []
    for number in range(count):
        side = int(rng.integers(1, 300))
        y = int(rng.integers(-50, max(1, height - 50)))
        x = int(rng.integers(-50, max(1, width - 50)))
        size = None if number % 2 else (max(1, side // 3), max(1, side // 2))
        out.append((Roi(y, x, side, side), size))
    return out


def check(path: Path, count: int = 160) -> None:
    wanted = requests(open_image(path), count)
    CHUNK_CACHE.clear()
    together = _together(open_image(path), wanted)
    CHUNK_CACHE.clear()
    alone = open_image(path)
    for (roi, size), found in zip(wanted, together, strict=True):
        expected = alone.read(roi, size)
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.valid, expected.valid)


def _together(image: Image, wanted: list[Request]) -> list[Pixels]:
    """All threads begin at once, on chunks that nobody has decoded yet."""
    barrier = threading.Barrier(THREADS)

    def some(first: int) -> list[Pixels]:
        barrier.wait(20)
        return [image.read(roi, size) for roi, size in wanted[first::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(some, range(THREADS)))
    return [parts[i % THREADS][i // THREADS] for i in range(len(wanted))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_files_made_here(tmp_path: Path, kind: str) -> None:
    check(MAKERS[kind](tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_real_files(path: Path) -> None:
    check(path, 80)


def test_all_threads_want_the_same_chunk(tmp_path: Path) -> None:
    image = open_image(MAKERS["jpeg"](tmp_path))
    CHUNK_CACHE.clear()
    wanted: list[Request] = [(Roi(300, 300, 200, 200), None)] * 64
    found = _together(image, wanted)
    assert all((f.data == found[0].data).all() for f in found)


@pytest.mark.slow
def test_a_cache_that_is_too_small(tmp_path: Path) -> None:
    with CHUNK_CACHE.limited(2**20):
        check(MAKERS["deflate"](tmp_path))


@pytest.mark.slow
def test_reading_while_levels_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    large = np.resize(picture(), (4500, 4400, 3))
    tifffile.imwrite(path, large, tile=(256, 256), compression="deflate")
    image, alone = open_image(path), open_image(path)
    assert image.missing_levels
    filler = threading.Thread(target=lambda: list(fill_levels(image, tmp_path / "c")))
    wanted = requests(image, 160)
    filler.start()
    together = _together(image, wanted)
    filler.join(30)
    assert not image.missing_levels
    for (roi, size), found in zip(wanted, together, strict=True):
        np.testing.assert_array_equal(found.data, alone.read(roi, size).data)


def test_levels_that_are_means_of_means_are_read_by_a_busy_pool() -> None:
    """A chunk of a coarse level is decoded from several chunks of the finer one."""
    data = np.arange(40_000, dtype=np.uint16)[:, None].repeat(64, 1)
    levels = missing_levels(CachedSource(ArraySource(data, (512, 64))), "yx", None)
    sizes = [len(data) >> k for k in (4, 5, 4, 5)]
    found: dict[int, np.ndarray] = {}

    def read(number: int) -> None:
        level = levels[(-2, -1)[number % 2]]
        found[number] = level[(slice(0, sizes[number]), slice(0, 1))]

    threads = [Thread(target=read, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [0, 1, 2, 3]
    for number, size in enumerate(sizes):
        means = data[:, 0].reshape(size, -1).mean(1)
        assert abs(found[number][:, 0] - means).max() <= 1
