"""Sources that read windows of TIFF pages from several threads."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_uhrseg.io.image.level_source import Array, Slices
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.readers.common import NO_RANGES

MIN_TILE_SIDE = 256  # px: smaller tiles are decoded several at a time
STRIP_BYTES = 1 << 20  # bytes of strips decoded at a time


class RangeReader:
    """Reader of byte ranges of a file or URL for several threads.

    Each read of a URL is one request.
    """

    def __init__(self, path: PathOrUrl) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._url = None if isinstance(path, Path) else path
        self._file = path.open("rb") if isinstance(path, Path) else None
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from an offset.

        Raises
        ------
        ValueError
            If the file has fewer bytes, or if a server does not support ranges.
        """
        data = self._read(offset, count)
        if len(data) < count:
            raise ValueError(
                f"the file ends at byte {self.size}, before the pixels at {offset}"
            )
        return data

    def _read(self, offset: int, count: int) -> bytes:
        if self._url is not None:
            end = min(offset + count, self.size)
            data = bytes(self._url.fs.cat_file(self._url.path, start=offset, end=end))
            if len(data) > count:
                raise ValueError(NO_RANGES)
            return data
        assert self._file is not None
        if hasattr(os, "pread"):  # not on Windows
            return os.pread(self._file.fileno(), count, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(count)


class PagesSource:
    """Source of one level of a TIFF series, whose pages have tiles or strips.

    A window reads and decodes the tiles or strips that it intersects.

    Parameters
    ----------
    pages
        Pages (``tifffile.TiffPage``) in order; None for a missing page, whose pixels
        are 0.
    leading
        Sizes of the axes before those of a page; their product is the number of
        pages.
    keyframe
        Page that describes all pages.
    reader
        Function that returns the reader of the file that contains a page.

    Raises
    ------
    ValueError
        If the pages are volumes, or differ in size or type.
    """

    def __init__(
        self,
        pages: Sequence[Any],
        leading: tuple[int, ...],
        keyframe: Any,
        reader: Callable[[Any], RangeReader],
    ) -> None:
        self._pages, self._leading, self._reader = pages, leading, reader
        separate, depth, self._height, self._width, self._samples = keyframe.shaped
        if depth != 1 or math.prod(leading) != len(pages):
            raise ValueError("pages of volumes are not read one by one")
        keys = {id(p.keyframe): p.keyframe for p in pages if p is not None}
        if any(_pixels(key) != _pixels(keyframe) for key in keys.values()):
            raise ValueError("the pages of the files differ in size or type")
        for key in keys.values():
            _load_decoder(key)
        # pages of other files of a set may have other tiles
        own = _tiles(keyframe)
        self._unlike = {i for i, key in keys.items() if _tiles(key) != own}
        self._separate = separate
        self.is_tiled = bool(keyframe.is_tiled)
        if self.is_tiled:
            self._tile = (keyframe.tilelength, keyframe.tilewidth)
        else:
            self._tile = (min(keyframe.rowsperstrip, self._height), self._width)
        self._grid = (
            math.ceil(self._height / self._tile[0]),
            math.ceil(self._width / self._tile[1]),
        )
        self.dtype = np.dtype(keyframe.dtype).newbyteorder("=")
        first = (separate,) if separate > 1 else ()
        last = (self._samples,) if self._samples > 1 else ()
        self.shape = (*leading, *first, self._height, self._width, *last)
        ones = (1,) * (len(leading) + len(first))
        self.chunks = (*ones, *self._decoded_together(), *last)

    def _decoded_together(self) -> tuple[int, int]:
        height, width = self._tile
        if self.is_tiled:
            return (
                height * max(1, MIN_TILE_SIDE // height),
                width * max(1, MIN_TILE_SIDE // width),
            )
        row = self._width * self._samples * self.dtype.itemsize
        return height * max(1, STRIP_BYTES // max(1, row * height)), width

    def __getitem__(self, key: Slices) -> Array:
        out = np.zeros([s.stop - s.start for s in key], self.dtype)
        flat = out.reshape(-1, *self._page_shape(key))
        chosen = np.ravel_multi_index(
            np.ix_(*(range(s.start, s.stop) for s in key[: len(self._leading)])),
            self._leading,
        ) if self._leading else np.zeros(1, int)  # fmt: skip
        for number, target in zip(np.ravel(chosen), flat, strict=True):
            page, inside = self._pages[number], key[len(self._leading) :]
            if page is None:
                continue
            if id(page.keyframe) in self._unlike:
                alone = PagesSource([page], (), page.keyframe, self._reader)
                target[...] = alone[inside]
            else:
                self._fill(page, target, inside)
        return out

    def _page_shape(self, key: Slices) -> tuple[int, ...]:
        own = key[len(self._leading) :]
        return tuple(s.stop - s.start for s in own)

    def _fill(self, page: Any, target: Array, key: Slices) -> None:
        """Decode the part of a page that ``key`` selects into ``target``."""
        planes = range(key[0].start, key[0].stop) if self._separate > 1 else range(1)
        rows, columns = key[1:3] if self._separate > 1 else key[:2]
        samples = key[-1] if self._samples > 1 else slice(None)
        for plane in planes:
            part = target[plane - planes.start] if self._separate > 1 else target
            for i, j in self._touched(rows, columns):
                segment = self._segment(page, plane, i, j)
                if segment is None:
                    continue
                y, x = i * self._tile[0], j * self._tile[1]
                top, left = max(y, rows.start), max(x, columns.start)
                bottom = min(y + segment.shape[0], rows.stop)
                right = min(x + segment.shape[1], columns.stop)
                piece = segment[top - y : bottom - y, left - x : right - x]
                piece = piece[..., samples] if self._samples > 1 else piece[..., 0]
                part[
                    top - rows.start : bottom - rows.start,
                    left - columns.start : right - columns.start,
                ] = piece

    def _touched(self, rows: slice, columns: slice) -> Iterator[tuple[int, int]]:
        height, width = self._tile
        for i in range(rows.start // height, math.ceil(rows.stop / height)):
            for j in range(columns.start // width, math.ceil(columns.stop / width)):
                yield i, j

    def _segment(self, page: Any, plane: int, i: int, j: int) -> Array | None:
        """Return a tile or strip (height, width, samples), or None if it is missing."""
        index = (plane * self._grid[0] + i) * self._grid[1] + j
        if index >= len(page.dataoffsets):
            raise ValueError(f"the file lists no tile number {index}")
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not offset or not count:
            return None
        data, _, _ = page.keyframe.decode(
            self._reader(page).read(offset, count),
            index,
            jpegtables=page.jpegtables,
            jpegheader=self._header(page),
        )
        return None if data is None else np.asarray(data[0])

    def _header(self, page: Any) -> bytes | None:
        """Return the JPEG header of an NDPI page, which only full pages have."""
        header: bytes | None = getattr(page, "jpegheader", None)
        return header

    def missing_tiles(self) -> "TileMask | None":
        """Return the mask of a single page with missing tiles, else None."""
        if len(self._pages) != 1 or self._pages[0] is None:
            return None
        there = self._tiles_there(self._pages[0])
        if there.all():
            return None
        return TileMask(there, self._tile, (self._height, self._width))

    def missing_in_planes(self) -> tuple[int, int]:
        """Return the numbers of missing tiles and of all tiles of several pages."""
        pages = [p for p in self._pages if p is not None]
        like = [p for p in pages if id(p.keyframe) not in self._unlike]
        missing = sum(int((~self._tiles_there(page)).sum()) for page in like)
        return missing, len(pages) * math.prod(self._grid)

    def _tiles_there(self, page: Any) -> Array:
        """Return bool (tile rows, tile columns): tiles that the file contains."""
        there = np.zeros(self._separate * math.prod(self._grid), bool)
        offsets, counts = page.dataoffsets, page.databytecounts
        listed = min(len(there), len(offsets), len(counts))
        there[:listed] = np.asarray(offsets[:listed]) > 0
        there[:listed] &= np.asarray(counts[:listed]) > 0
        return np.asarray(there.reshape(self._separate, *self._grid).all(axis=0))

    def ends(self) -> Iterator[tuple[Any, int]]:
        """Yield each page and the offset of the byte after its last tile."""
        for page in self._pages:
            if page is not None and len(page.dataoffsets):
                sizes = np.asarray(page.dataoffsets, np.int64)
                yield page, int((sizes + np.asarray(page.databytecounts)).max())


def _load_decoder(key: Any) -> None:
    """Load what decoding needs from a file of a set, which tifffile has closed."""
    file = key.parent.filehandle
    if not file.closed:
        return
    file.open()
    try:
        _ = key.decode, key.jpegtables, key.is_jfif
    finally:
        file.close()


def _pixels(key: Any) -> tuple[Any, ...]:
    """Return the size and type of pages, which all pages of a source share."""
    return key.shaped, np.dtype(key.dtype)


def _tiles(key: Any) -> tuple[int, ...]:
    """Return the size of the tiles, or the rows of a strip."""
    return (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip,)


class TileMask:
    """Mask (y, x) of a level that is 1 where the file contains a tile.

    Parameters
    ----------
    there
        bool (tile rows, tile columns), True for tiles in the file.
    tile
        Height and width of a tile in pixels.
    shape
        Height and width of the level in pixels.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, there: Array, tile: tuple[int, int], shape: tuple[int, int]
    ) -> None:
        self._there, self._tile, self.shape = there, tile, shape
        self.count, self.missing = int(there.size), int((~there).sum())
        self.chunks = (
            tile[0] * max(1, 1024 // tile[0]),
            tile[1] * max(1, 1024 // tile[1]),
        )

    def __getitem__(self, key: Slices) -> Array:
        rows, columns = (
            np.arange(s.start, s.stop) // n
            for s, n in zip(key, self._tile, strict=True)
        )
        return self._there[np.ix_(rows, columns)].astype(np.uint8)


class MappedFile:
    """Source of an uncompressed, contiguous series, read by memory mapping.

    Parameters
    ----------
    path
        File to map.
    offset
        Offset of the first pixel in bytes.
    shape
        Size of each axis.
    dtype
        Data type in the file, with its byte order.
    axes
        One letter per axis.
    """

    def __init__(
        self, path: Path, offset: int, shape: tuple[int, ...], dtype: Any, axes: str
    ) -> None:
        self._array = np.memmap(path, np.dtype(dtype), "r", offset, shape)
        self.shape = shape
        self.dtype = np.dtype(dtype).newbyteorder("=")
        whole = {"s": 1 << 30, "y": 512, "x": 512}
        self.chunks = tuple(
            min(n, whole.get(a, 1)) for a, n in zip(axes, shape, strict=True)
        )

    def __getitem__(self, key: Slices) -> Array:
        return np.array(self._array[key], self.dtype)


def for_tifffile(path: PathOrUrl) -> Any:
    """Return the argument for tifffile: the path, or an open file for a URL."""
    return path if isinstance(path, Path) else path.open("rb")
