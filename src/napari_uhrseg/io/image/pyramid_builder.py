"""Builder of missing image levels, which are computed once and kept on disk.

The finest missing level is computed in bands of chunk rows. Each band also fills the
rows of the coarser levels that depend on it, so the smallest level, which the user
sees first, fills from the top immediately. The progress is recorded after each band,
and an interrupted computation resumes there.
"""

import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.image.box_mean import Array, box_mean
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE, CachedSource
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import LevelSource, Slices
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.image.pyramid_cache import (
    CacheEntry,
    cache_folder,
    content_key,
    make_room,
)
from napari_uhrseg.io.zarr_setup import CheckedBloscCodec
from napari_uhrseg.types import Limits

BAND_BYTES = 96 * 1024**2  # bytes of the finest missing level filled at a time
DAMAGE = (OSError, ValueError, KeyError, RuntimeError)  # what a damaged entry raises


def fill_levels(
    image: Image, cache_dir: Path | None = None, limits: Limits = Limits()
) -> Iterator[float]:
    """Compute the missing levels of an image, or load them from the cache.

    The generator is meant for a background thread. Closing it stops the computation;
    the next call, in any process, resumes it. If another process fills the same
    levels, the generator waits for it. Pixels that cannot be decoded count as 0.

    The memory is about 200 MB beside the cache of decoded chunks for any image size,
    or twice the largest strip of an untiled file.

    Parameters
    ----------
    image
        Image whose missing levels are filled in place.
    cache_dir
        Folder of the computed levels; default: the cache folder of the user (see
        `napari_uhrseg.io.image.pyramid_cache`).
    limits
        Its ``read_bytes`` are read at a time, and its ``reserved_disk_bytes`` stay
        free.

    Yields
    ------
    Progress from 0 to 1, at least twice per second if 8 MiB are read in that time.

    Raises
    ------
    ReadError
        If the disk is full or not writable.
    """
    builders = _builders(image, cache_dir, limits)
    if not builders:
        yield 1.0
    try:
        for number, builder in enumerate(builders):
            for share in builder.run():
                yield (number + share) / len(builders)
    except OSError as error:
        raise ReadError(
            f"The coarser levels of {image.name} cannot be kept in "
            f"{cache_dir or cache_folder()}: {error.strerror or error}.",
            "Free some space, or let the environment variable NAPARI_UHRSEG_CACHE "
            "name a folder you may write to.",
        ) from error


def attach_levels(image: Image, cache_dir: Path | None = None) -> bool:
    """Load the levels that earlier sessions computed, without computing others.

    Loading takes milliseconds.

    Returns
    -------
    True if all levels are complete.
    """
    missing = [f for f in _builders(image, cache_dir, Limits()) if not f.attach()]
    return not missing


def _builders(
    image: Image, cache_dir: Path | None, limits: Limits
) -> "list[PyramidBuilder]":
    """Return one builder per run of missing levels, that of the coarsest first."""
    numbered = enumerate(image.sources)
    runs = itertools.groupby(numbered, lambda pair: isinstance(pair[1], PendingLevel))
    return [
        PyramidBuilder(image, [number for number, _ in run], cache_dir, limits)
        for missing, run in runs
        if missing
    ][::-1]


@dataclass(frozen=True, slots=True)
class LevelJob:
    """Missing level, with the source of its pixels and the downsampling factor."""

    name: str
    level: PendingLevel
    parent: Any
    factor: int


class PyramidBuilder:
    """Builder of consecutive missing levels of one image.

    Parameters
    ----------
    image
        Image with pending levels. A pending level with an untiled source is a copy
        of it; others are the mean of the previous level.
    missing
        Indices of the levels to fill.
    cache_dir
        Folder of the computed levels; default: the cache folder of the user.
    limits
        Bounds of the memory and of the disk.
    """

    def __init__(
        self,
        image: Image,
        missing: Sequence[int],
        cache_dir: Path | None,
        limits: Limits,
    ) -> None:
        self.axes, self.limits = image.source_axes, limits
        nodata = {band.nodata for band in image.bands}
        self.nodata = next(iter(nodata)) if len(nodata) == 1 else None
        self.y, self.x = self.axes.index("y"), self.axes.index("x")
        self.steps = [self._level_job(image.sources, number) for number in missing]
        self.arrays: dict[str, zarr.Array] = {}
        self.height = self.steps[0].level.shape[self.y]
        layout = [
            (s.name, s.level.shape, s.level.dtype.str, s.level.chunks, s.factor)
            for s in self.steps
        ]
        content = content_key(image.fingerprint, image.path)
        text = f"{content}:{layout}:{self.nodata}:{self.axes}"
        folder = cache_folder() if cache_dir is None else cache_dir
        self.entry = CacheEntry(folder, hashlib.sha256(text.encode()).hexdigest()[:32])

    def attach(self) -> bool:
        """Load rows from the cache; return True if they are complete."""
        rows = self.entry.rows()
        if rows is None:
            return False
        try:
            self._open()
            self._publish_rows(rows, load=True)
        except DAMAGE:
            self._forget()
            return False  # run() recreates it
        self.entry.use()
        return rows >= self.height

    def run(self) -> Iterator[float]:
        """Fill the missing rows; yield the progress from 0 to 1."""
        yield 0.0
        while not self.attach():
            self.entry.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self.entry.lock:
                    yield from self._fill()
            except filelock.Timeout:
                yield self._fraction(self.entry.rows() or 0)
                time.sleep(0.2)
        yield 1.0

    def _fill(self) -> Iterator[float]:
        rows = self._open_or_create()
        while rows < self.height:
            stop = min(rows + self._band_rows(), self.height)
            for part in self._fill_band(rows, stop):
                yield self._fraction(rows + (stop - rows) * part)
            self.entry.save(stop)
            self._publish_rows(stop)
            rows = stop
            yield self._fraction(rows)

    def _open_or_create(self) -> int:
        """Open or create the cache entry; return the number of finished rows."""
        rows = self.entry.rows()
        if rows is not None:
            with suppress(*DAMAGE):
                self._open()
                self._publish_rows(rows, load=True)
                return rows
        self._forget()
        self.entry.clear()
        needed = sum(_bytes(s.level.shape, s.level.dtype) for s in self.steps)
        reserved = self.limits.reserved_disk_bytes
        make_room(self.entry.path.parent, needed, self.entry, reserved)
        self.entry.path.mkdir()
        for step in self.steps:
            zarr.create_array(
                self.entry.path / step.name,
                shape=step.level.shape,
                dtype=step.level.dtype,
                chunks=step.level.chunks,
                compressors=[CheckedBloscCodec(cname="lz4", clevel=5), Crc32cCodec()],
                fill_value=0,
            )
        self.entry.save(0)
        self.entry.use()
        self._open()
        self._publish_rows(0)
        return 0

    def _open(self) -> None:
        for step in self.steps:
            array = zarr.open_array(self.entry.path / step.name, mode="r+")
            if array.shape != step.level.shape or array.dtype != step.level.dtype:
                raise ValueError(f"{self.entry.path / step.name} is another array")
            self.arrays[step.name] = array
            step.level.discard = self.entry.invalidate

    def _forget(self) -> None:
        """Mark all rows as missing, after some of them were found to be damaged."""
        for step in self.steps:
            step.level.ready[...] = False

    def _publish_rows(self, rows: int, *, load: bool = False) -> None:
        """Mark rows as ready: ``rows`` of the finest level, and those that follow."""
        for step, stop in zip(self.steps, self._rows_per_level(rows), strict=True):
            level, array = step.level, self.arrays[step.name]
            if not level.in_memory:
                level.data = array
            elif load and stop:
                done = self._along_y(slice(0, stop))
                level.put(done, np.asarray(array[done]))
            chunk = level.chunks[self.y]
            ready = -(-stop // chunk) if stop == level.shape[self.y] else stop // chunk
            level.ready[self._along_y(slice(0, ready))] = True

    def _fill_band(self, start: int, stop: int) -> Iterator[float]:
        """Fill rows of the finest level and the dependent rows of coarser levels."""
        bands = zip(
            self.steps,
            self._rows_per_level(start),
            self._rows_per_level(stop),
            strict=True,
        )
        for step, first, last in bands:
            pieces = list(self._pieces(step, first, last))
            for number, key in enumerate(pieces, 1):
                block = self._read(step, key)
                self.arrays[step.name][key] = block
                if step.level.in_memory:
                    step.level.put(key, block)
                # the finest level takes nearly all of the time
                yield number / len(pieces) if step is self.steps[0] else 1.0

    def _read(self, step: LevelJob, key: Slices) -> Array:
        limits = step.parent.shape
        f = step.factor
        wanted = tuple(
            slice(s.start * f, min(s.stop * f, limits[i]))
            if i in (self.y, self.x)
            else s
            for i, s in enumerate(key)
        )
        if isinstance(step.parent, CachedSource):
            data = step.parent.read(wanted, on_error=lambda error: None)
        elif isinstance(step.parent, PendingLevel):
            index = self.steps.index(step) - 1
            data = self._computed(self.steps[index], wanted)
        else:
            data = _or_zeros(step.parent, wanted)
        return box_mean(data, f, self.axes, self.nodata)

    def _computed(self, step: LevelJob, key: Slices) -> Array:
        try:
            return np.asarray(self.arrays[step.name][key])
        except DAMAGE as error:
            self.entry.invalidate()
            raise ReadError(
                f"A computed level in {self.entry.path} is damaged: {error}.",
                "Open the image again: the level is then computed again.",
            ) from error

    def _pieces(self, step: LevelJob, first: int, last: int) -> Iterator[Slices]:
        """Yield boxes of whole chunks, or of whole rows if the source has strips."""
        level = step.level
        sizes = self._piece_sizes(step, max(1, last - first))
        ranges = [
            range(first, last, size) if i == self.y else range(0, n, size)
            for i, (n, size) in enumerate(zip(level.shape, sizes, strict=True))
        ]
        ends = [last if i == self.y else n for i, n in enumerate(level.shape)]
        for corner in itertools.product(*ranges):
            yield tuple(
                slice(a, min(a + size, end))
                for a, size, end in zip(corner, sizes, ends, strict=True)
            )

    def _piece_sizes(self, step: LevelJob, rows: int) -> list[int]:
        """Return the sizes of a piece of that many rows, or fewer, on each axis."""
        level, limit = step.level, self.limits.read_bytes
        sizes = list(level.chunks)
        sizes[self.y] = rows
        each = _bytes(tuple(sizes), level.dtype) * step.factor**2
        if level.untiled_source is not None and step.parent is level.untiled_source:
            sizes[self.x] = level.shape[self.x]
            each = _bytes(tuple(sizes), level.dtype)
            rows = max(1, rows * limit // max(each, limit))
            sizes[self.y] = max(rows, self._uncached_strip_rows(level))
        else:
            sizes[self.x] *= max(1, limit // max(each, 1))
        return sizes

    def _band_rows(self) -> int:
        """Return the rows of the finest missing level that are filled at a time."""
        level = self.steps[0].level
        rows = level.chunks[self.y]
        if level.untiled_source is None:
            return rows
        size = _bytes(level.shape, level.dtype) // self.height
        while rows % 2 == 0 and rows * size > BAND_BYTES:
            rows //= 2
        return max(rows, -(-self._uncached_strip_rows(level) // rows) * rows)

    def _uncached_strip_rows(self, level: PendingLevel) -> int:
        """Return the rows of a strip that is too large for the chunk cache, else 0."""
        rows = (
            level.untiled_source.chunks[self.y]
            if level.untiled_source is not None
            else 0
        )
        size = _bytes(level.shape, level.dtype) // level.shape[self.y]
        return rows if rows * size > CHUNK_CACHE.limit // 2 else 0

    def _rows_per_level(self, rows: int) -> list[int]:
        """Return the rows of each missing level that depend on rows of the finest."""
        done = [rows]
        for above, step in itertools.pairwise(self.steps):
            n = step.level.shape[self.y]
            whole = done[-1] >= above.level.shape[self.y]
            done.append(n if whole else min(n, done[-1] // step.factor))
        return done

    def _along_y(self, rows: slice) -> Slices:
        return (slice(None),) * self.y + (rows,)

    def _fraction(self, rows: float) -> float:
        return min(1.0, rows / self.height)

    def _level_job(
        self, levels: Sequence[LevelSource | PendingLevel], number: int
    ) -> LevelJob:
        level = levels[number]
        assert isinstance(level, PendingLevel)
        parent = level.untiled_source or levels[number - 1]
        long = max(self.y, self.x, key=lambda axis: level.shape[axis])
        factor = max(1, round(parent.shape[long] / level.shape[long]))
        return LevelJob(str(number), level, parent, factor)


def _or_zeros(source: LevelSource, key: Slices) -> Array:
    """Return the pixels of a source, or zeros if they cannot be decoded."""
    try:
        return np.asarray(source[key])
    except Exception:  # noqa: BLE001  codecs raise arbitrary errors
        return np.zeros([s.stop - s.start for s in key], source.dtype)


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
