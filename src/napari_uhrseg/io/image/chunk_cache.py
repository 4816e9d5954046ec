"""Bounded cache of decoded chunks for the whole process, and sources that use it."""

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache

import numpy as np

from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.image.level_source import (
    Array,
    ArraySource,
    LevelSource,
    OnError,
    Slices,
)
from napari_uhrseg.io.image.pending_level import PendingLevel

CHUNK_CACHE_BYTES = 256 * 1024**2


class ChunkCache:
    """Cache of at most ``limit`` bytes of chunks that evicts the least recently used.

    It is thread-safe. A chunk that several threads request at once is decoded once.
    """

    def __init__(self, limit: int = CHUNK_CACHE_BYTES) -> None:
        self.limit = limit
        self.size = 0
        self._chunks: OrderedDict[object, Array] = OrderedDict()
        self._coming: dict[object, Future[Array]] = {}
        self._lock = threading.Lock()

    def get(self, key: object, decode: Callable[[], Array]) -> Array:
        """Return a chunk, read-only; decode it if it is not in the cache.

        Errors of ``decode`` are raised in each thread that requests the chunk.
        """
        with self._lock:
            if (found := self._chunks.get(key)) is not None:
                self._chunks.move_to_end(key)
                return found
            future = self._coming.get(key)
            mine = future is None
            if future is None:
                future = self._coming[key] = Future()
        if mine:
            self._decode(key, decode, future)
        return future.result()

    def _decode(
        self, key: object, decode: Callable[[], Array], future: "Future[Array]"
    ) -> None:
        """Decode a chunk for all threads that wait for it."""
        try:
            chunk = decode()
            chunk.flags.writeable = False
            self._keep(key, chunk)
            future.set_result(chunk)
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._coming[key]

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._chunks

    @contextmanager
    def limited(self, limit: int) -> Iterator[None]:
        """Lower the limit temporarily; a higher limit has no effect."""
        before = self.limit
        self.limit = min(before, limit)
        try:
            yield
        finally:
            self.limit = before

    def clear(self) -> None:
        """Remove all chunks."""
        with self._lock:
            self._chunks.clear()
            self.size = 0

    def _keep(self, key: object, chunk: Array) -> None:
        if chunk.nbytes > self.limit // 2:
            return
        with self._lock:
            self._chunks[key] = chunk
            self.size += chunk.nbytes
            while self.size > self.limit:
                self.size -= self._chunks.popitem(last=False)[1].nbytes


CHUNK_CACHE = ChunkCache()
_numbers = itertools.count()


_THREAD = threading.local()  # ``decodes`` is True while a thread decodes a chunk


def decode_in_this_thread() -> None:
    """Let this thread decode all chunks that it reads, one after another.

    For threads that already read several regions at the same time.
    """
    _THREAD.decodes = True


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), "uhrseg-decode")


class CachedSource:
    """Source that keeps its decoded chunks in the cache of the process.

    Parameters
    ----------
    source
        Source of the chunks.
    parallel
        True if several threads may decode at once.
    """

    def __init__(self, source: LevelSource, *, parallel: bool = True) -> None:
        self.source = source
        self.shape = tuple(int(n) for n in source.shape)
        self.dtype = np.dtype(source.dtype)
        self.chunks = tuple(
            max(1, min(int(c), n))
            for c, n in zip(source.chunks, self.shape, strict=True)
        )
        self._lock = None if parallel else threading.Lock()
        self._number = next(_numbers)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Slices) -> Array:
        return self.read(key)

    def read(self, key: Slices, on_error: OnError | None = None) -> Array:
        """Return the pixels of ``key``: a new array, or a read-only view of one chunk.

        With ``on_error``, a chunk that cannot be decoded is 0 and its error is passed
        to ``on_error``. The memory is that of the result and of the cache.

        Raises
        ------
        ReadError
            If a chunk cannot be decoded and ``on_error`` is None.
        """
        key = tuple(
            slice(*s.indices(n)[:2]) for s, n in zip(key, self.shape, strict=True)
        )
        indices = list(self._indices(key))
        if len(indices) == 1:
            box = self._box(indices[0])
            return self._chunk(indices[0], box, on_error)[_inside(key, box)]
        out = np.zeros([max(0, s.stop - s.start) for s in key], self.dtype)

        def place(index: tuple[int, ...]) -> None:
            box = self._box(index)
            chunk = self._chunk(index, box, on_error)
            out[_inside(box, key)] = chunk[_inside(key, box)]

        missing = sum((self._number, i) not in CHUNK_CACHE for i in indices)
        # within a decode, the pool may be waiting for this thread
        alone = self._lock is not None or getattr(_THREAD, "decodes", False)
        if missing > 1 and not alone:
            for _ in _pool().map(place, indices):
                pass
        else:
            for index in indices:
                place(index)
        return out

    def _indices(self, key: Slices) -> Iterator[tuple[int, ...]]:
        return itertools.product(
            *(
                range(s.start // c, -(-s.stop // c)) if s.stop > s.start else range(0)
                for s, c in zip(key, self.chunks, strict=True)
            )
        )

    def _box(self, index: tuple[int, ...]) -> Slices:
        """Return the box of a chunk, clipped to the image."""
        return tuple(
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(index, self.chunks, self.shape, strict=True)
        )

    def _chunk(
        self, index: tuple[int, ...], box: Slices, on_error: OnError | None
    ) -> Array:
        try:
            return CHUNK_CACHE.get((self._number, index), lambda: self._decode(box))
        except Exception as error:  # codecs raise arbitrary errors
            if on_error is None:
                where = ", ".join(f"{s.start}:{s.stop}" for s in box)
                reason = str(error) or type(error).__name__
                raise ReadError(
                    f"Pixels at {where} cannot be decoded: {reason}.",
                    "The file may be damaged or incomplete: copy it again.",
                ) from error
            on_error(error)
            return np.zeros([s.stop - s.start for s in box], self.dtype)

    def _decode(self, box: Slices) -> Array:
        before, _THREAD.decodes = getattr(_THREAD, "decodes", False), True
        try:
            with self._lock or nullcontext():
                chunk = self.source[box]
                expected = tuple(s.stop - s.start for s in box)
                if chunk.shape != expected:
                    raise ValueError(f"{chunk.shape} came instead of {expected}")
                # a view is copied, so that the size of the cache is correct
                return np.array(chunk, self.dtype, copy=chunk.base is not None or None)
        finally:
            _THREAD.decodes = before


def _inside(part: Slices, box: Slices) -> Slices:
    """Return the common part of two boxes, counted from the second one."""
    return tuple(
        slice(max(p.start - b.start, 0), min(p.stop, b.stop) - b.start)
        for p, b in zip(part, box, strict=True)
    )


def wrapped(source: LevelSource, parallel: bool = True) -> LevelSource:
    """Return a source with the cache, or unchanged if it does not need the cache."""
    known = isinstance(source, CachedSource | PendingLevel)
    array = source.array if isinstance(source, ArraySource) else None
    if known or isinstance(array, np.ndarray):
        return source
    return CachedSource(source, parallel=parallel)
