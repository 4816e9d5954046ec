"""Writing of the chunks of local zarr arrays, in several threads.

zarr-python takes about five times as long as the codec and the disk: it compares each
chunk with the fill value in copies, and passes it through an event loop and a thread.
Here a chunk is compressed by the same codec and its file is replaced atomically. Arrays
of other codecs or in an object store are written by zarr.
"""

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numcodecs
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec
from zarr.storage import LocalStore

from napari_uhrseg.atomic import replacing
from napari_uhrseg.io.zarr_setup import CheckedBlosc

Array = npt.NDArray[Any]
Slices = tuple[slice, ...]
SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


class Encoder(Protocol):
    """Compressor of a chunk."""

    def encode(self, buf: Array) -> bytes: ...
    def decode(self, buf: bytes, out: Array) -> Any: ...


class _Chunk(NamedTuple):
    """Part of an array that one chunk stores, clipped at the array's border."""

    file: Path
    rows: slice
    columns: slice


def write_chunks(array: zarr.Array, key: Slices, data: Array) -> None:
    """Write a rectangle of a 2-D array whose fill value is 0.

    A chunk without a value other than 0 has no file. Chunks of several threads of a
    process must not overlap.

    Parameters
    ----------
    array
        The array.
    key
        Rows and columns inside the array, with a start and a stop.
    data
        Values of the rectangle, of the array's dtype.

    Raises
    ------
    OSError
        If a file cannot be written. Each chunk then has its previous or its new values.
    """
    encoder = _encoder(array)
    if encoder is None:
        # zeros over zeros would be encoded without a change
        if data.any() or np.any(array[key]):
            array[key] = data
        return
    chunks = list(_touched(array, key))
    futures = [_pool().submit(_write, array, encoder, key, data, c) for c in chunks[1:]]
    try:
        _write(array, encoder, key, data, chunks[0])
    finally:
        wait(futures)
    for future in futures:
        future.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), "uhrseg-encode")


if hasattr(os, "register_at_fork"):  # a fork has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _encoder(array: zarr.Array) -> Encoder | None:
    """Return the compressor of an array of a local store; None for other arrays."""
    if (
        not isinstance(array.store_path.store, LocalStore)
        or array.metadata.zarr_format != 3
    ):
        return None
    match array.metadata.codecs:
        case (BytesCodec(), BloscCodec() | ZstdCodec() as codec):
            return _compressor(codec)
    return None


def _compressor(codec: BloscCodec | ZstdCodec) -> Encoder:
    if isinstance(codec, ZstdCodec):
        found: Encoder = numcodecs.Zstd(codec.level, codec.checksum)
        return found
    # the attributes are enumerations in zarr 3.1, and texts in zarr 3.4
    stated: Any = codec.to_dict()["configuration"]
    return CheckedBlosc(
        stated["cname"],
        stated["clevel"],
        SHUFFLES[stated["shuffle"]],
        stated["blocksize"],
        stated["typesize"],
    )


def _touched(array: zarr.Array, key: Slices) -> Iterator[_Chunk]:
    """Yield the chunks that a rectangle touches."""
    store = array.store_path.store
    assert isinstance(store, LocalStore)
    folder = store.root / array.store_path.path
    ranges = (
        range(s.start // n, -(-s.stop // n))
        for s, n in zip(key, array.chunks, strict=True)
    )
    for index in product(*ranges):
        rows, columns = (
            slice(i * n, min((i + 1) * n, size))
            for i, n, size in zip(index, array.chunks, array.shape, strict=True)
        )
        file = folder / array.metadata.encode_chunk_key(index)
        yield _Chunk(file, rows, columns)


def _write(
    array: zarr.Array,
    encoder: Encoder,
    key: Slices,
    data: Array,
    chunk: _Chunk,
) -> None:
    """Write the part of a rectangle that one chunk stores."""
    here, there = _common(chunk, key)
    values = data[there]
    if values.shape != array.chunks:
        covered = values.shape == _size((chunk.rows, chunk.columns))
        whole = np.zeros(array.chunks, array.dtype)
        if not covered:
            _decode(encoder, chunk.file, whole)
        whole[here] = values
        values = whole
    if not values.any():
        chunk.file.unlink(missing_ok=True)
        return
    encoded = encoder.encode(np.ascontiguousarray(values))
    part = chunk.file.with_suffix(f".{uuid.uuid4().hex}.partial")
    try:
        _replace(chunk.file, part, encoded)
    except FileNotFoundError:
        chunk.file.parent.mkdir(parents=True, exist_ok=True)
        _replace(chunk.file, part, encoded)


def _common(chunk: _Chunk, key: Slices) -> tuple[Slices, Slices]:
    """Return the common part of a chunk and a rectangle, counted from each."""
    here, there = [], []
    for own, asked in zip((chunk.rows, chunk.columns), key, strict=True):
        start, stop = max(own.start, asked.start), min(own.stop, asked.stop)
        here.append(slice(start - own.start, stop - own.start))
        there.append(slice(start - asked.start, stop - asked.start))
    return tuple(here), tuple(there)


def _size(box: Slices) -> tuple[int, ...]:
    return tuple(s.stop - s.start for s in box)


def _decode(encoder: Encoder, file: Path, out: Array) -> None:
    """Read a chunk into ``out``, which is not changed if there is no file."""
    with suppress(FileNotFoundError):
        encoder.decode(file.read_bytes(), out)


def _replace(file: Path, part: Path, content: bytes) -> None:
    with replacing(file, part, sync=False):
        part.write_bytes(content)
