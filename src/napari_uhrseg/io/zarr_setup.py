"""Settings of zarr for the whole process, which importing this module makes.

zarr uses `CheckedBloscCodec` (format 3) and `CheckedBlosc` (format 2) for every array
that it opens afterwards: the C library takes the size of its input from the input's own
header, and would read beyond a chunk that was cut short.

At the end of the process, zarr waits 0.2 s for its thread and then closes the event
loop, which fails if the thread is still busy. The hook here waits longer, before that.
"""

import atexit
import struct
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.core import sync
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.registry import register_codec

# version, version of the compressor, flags, type size; sizes: data, block, chunk
_HEADER = struct.Struct("<4B3I")
HEADER_BYTES = _HEADER.size
EXIT_S = 10.0  # seconds that the end of the process waits for zarr's thread
MAX_ADDED = 4096  # bytes that codecs before this one may add to the data


def chunk_size_in(header: bytes) -> int:
    """Return the size in bytes of a chunk, by its header; 0 if it has no header."""
    if len(header) < HEADER_BYTES:
        return 0
    return int(_HEADER.unpack_from(header)[6])


class CheckedBloscCodec(BloscCodec):
    """Blosc codec that raises ValueError for a chunk with a wrong size."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        _check(chunk_bytes, chunk_spec)
        return super()._decode_sync(chunk_bytes, chunk_spec)

    async def _decode_single(
        self, chunk_bytes: Buffer, chunk_spec: ArraySpec
    ) -> Buffer:
        _check(chunk_bytes, chunk_spec)
        return await super()._decode_single(chunk_bytes, chunk_spec)


class CheckedBlosc(numcodecs.Blosc):  # type: ignore[misc]
    """Blosc codec of format 2 that raises ValueError for a chunk with a wrong size."""

    codec_id = "blosc"

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Return the decompressed bytes of a chunk."""
        data = memoryview(buf).cast("B")
        _check_size(bytes(data[:HEADER_BYTES]), len(data))
        return super().decode(buf, out)


def _check(data: Buffer, spec: ArraySpec) -> None:
    header = bytes(data.as_numpy_array()[:HEADER_BYTES])
    _check_size(header, len(data))
    size = int(np.prod(spec.shape)) * np.dtype(spec.dtype.to_native_dtype()).itemsize
    if _HEADER.unpack(header)[4] > size + MAX_ADDED:
        raise ValueError(f"a chunk is larger than its {size} bytes")


def _check_size(header: bytes, there: int) -> None:
    """Raise ValueError if a chunk has not the number of bytes in its header."""
    expected = chunk_size_in(header)
    if there < HEADER_BYTES:
        raise ValueError(
            f"a chunk is cut off after {there} bytes" if there else "a chunk is empty"
        )
    if there != expected:
        raise ValueError(f"a chunk has {there} bytes instead of {expected}")


numcodecs.register_codec(CheckedBlosc)
register_codec("blosc", CheckedBloscCodec)
zarr.config.set(
    {"codecs.blosc": f"{CheckedBloscCodec.__module__}.{CheckedBloscCodec.__qualname__}"}
)


@atexit.register
def _stop_zarr() -> None:
    loop, thread = sync.loop[0], sync.iothread[0]
    if loop is None or thread is None:
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join(EXIT_S)
    if not thread.is_alive():
        loop.close()
        sync.loop[0] = sync.iothread[0] = None
