"""Sources of raster levels, which GDAL reads from several threads."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_uhrseg.io.image.level_source import Array, Slices

GDAL_CACHE_BYTES = 64 * 1024**2  # limit of GDAL's cache of decoded blocks
_CACHEMAX = "GDAL_CACHEMAX"


class DatasetPool:
    """Pool of open datasets of one file, since GDAL requires one for each thread."""

    def __init__(self, path: Path | str, driver: str) -> None:
        self._path, self._driver = path, driver
        self._free: dict[int, list[Any]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def at(self, level: int) -> Iterator[Any]:
        """Yield a dataset of a level (-1: full size) that no other thread uses."""
        import rasterio

        with self._lock:
            waiting = self._free.setdefault(level, [])
            dataset = waiting.pop() if waiting else None
        if dataset is None:
            options = {} if level < 0 else {"overview_level": level}
            bound_blocks()
            with quiet():
                dataset = rasterio.open(self._path, driver=self._driver, **options)
        try:
            yield dataset
        finally:
            with self._lock:
                self._free[level].append(dataset)


class RasterLevel:
    """Source of a level of a raster.

    Parameters
    ----------
    files
        Datasets of the file.
    dataset
        Dataset of the full size.
    level
        Index of the overview; -1 is the full size.
    together
        True if a chunk contains all bands, and the axes are y, x, bands. Otherwise it
        contains one, and the axes are bands, y, x.
    """

    def __init__(
        self, files: DatasetPool, dataset: Any, level: int, together: bool
    ) -> None:
        self._files, self.level, self._together = files, level, together
        with files.at(level) as own:
            self.size = (own.height, own.width)
            chunk = tuple(
                min(n, block * max(1, 512 // block))
                for n, block in zip(self.size, own.block_shapes[0], strict=True)
            )
        if own.block_shapes[0][1] == self.size[1]:  # strips: as wide as the image
            row = self.size[1] * dataset.count * np.dtype(dataset.dtypes[0]).itemsize
            rows = max(own.block_shapes[0][0], min(512, (8 << 20) // row))
            chunk = (min(self.size[0], rows), self.size[1])
        self.count = dataset.count
        self.dtype = np.result_type(*dataset.dtypes)
        self.shape: tuple[int, ...] = (*self.size, self.count)
        self.chunks: tuple[int, ...] = (*chunk, self.count)
        if not together:
            self.shape, self.chunks = (self.count, *self.size), (1, *chunk)

    def __getitem__(self, key: Slices) -> Array:
        from rasterio.windows import Window as Part

        bands, rows, columns = (key[2], key[0], key[1]) if self._together else key
        part = Part.from_slices(rows, columns)
        numbers = list(range(bands.start + 1, bands.stop + 1))
        with self._files.at(self.level) as dataset:
            if len(set(dataset.dtypes)) == 1:
                data = dataset.read(numbers, window=part)
            else:  # rasterio reads bands of different types one by one
                each = [dataset.read(n, window=part) for n in numbers]
                data = np.stack([band.astype(self.dtype) for band in each])
        return np.ascontiguousarray(data.transpose(1, 2, 0)) if self._together else data


class SingleBand:
    """Source of a level with one band, without the axis of bands."""

    def __init__(self, level: RasterLevel) -> None:
        self._level = level
        self.shape, self.dtype = level.size, level.dtype
        self.chunks = level.chunks[:2]

    def __getitem__(self, key: Slices) -> Array:
        return self._level[(*key, slice(0, 1))][..., 0]


class GdalMask:
    """GDAL's mask of a level, which is 0 at invalid pixels."""

    dtype = np.dtype(np.uint8)

    def __init__(self, files: DatasetPool, level: RasterLevel) -> None:
        self._files, self._level, self.shape = files, level.level, level.size
        at = 0 if level.shape[:2] == level.size else 1
        self.chunks = level.chunks[at : at + 2]

    def __getitem__(self, key: Slices) -> Array:
        from rasterio.windows import Window as Part

        with self._files.at(self._level) as dataset:
            return np.asarray(dataset.read_masks(1, window=Part.from_slices(*key)))


def bound_blocks() -> None:
    """Limit GDAL's cache of blocks, which by default is 5 % of the memory.

    The limit applies to the whole process, unless ``GDAL_CACHEMAX`` is set in the
    environment. It is set whenever a file is opened, since the ``Env`` of other code
    may reset it.
    """
    from rasterio.env import get_gdal_config, set_gdal_config

    if _CACHEMAX not in os.environ and get_gdal_config(_CACHEMAX) > GDAL_CACHE_BYTES:
        set_gdal_config(_CACHEMAX, GDAL_CACHE_BYTES)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress rasterio's warning about images without coordinates."""
    import warnings

    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
