"""Levels that are missing in a file until they are computed in the background."""

import itertools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.image.level_source import Array, LevelSource, Slices

if TYPE_CHECKING:
    from collections.abc import Callable


class PendingLevel:
    """Level that is grey until it is filled, chunk by chunk.

    `PyramidBuilder` sets ``data`` to an array of this shape (zarr, memmap), writes a
    chunk into it, and then sets the entry of the chunk in ``ready``. Levels of at most
    64 MiB have a numpy array as ``data`` from the start, which `put` changes: napari
    keeps the coarsest level permanently, and so displays its changes.

    Parameters
    ----------
    shape
        Size of each axis.
    dtype
        Data type of the pixels.
    chunks
        Size of a chunk along each axis.
    untiled_source
        Source of the same pixels that is slow to read by window (an untiled file).
        `read_exact` reads it until the level is complete. Without it, the level is
        for display only.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        chunks: tuple[int, ...],
        *,
        untiled_source: LevelSource | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.chunks = tuple(min(c, n) for c, n in zip(chunks, shape, strict=True))
        grid = [-(-n // c) for n, c in zip(shape, self.chunks, strict=True)]
        self.ready: npt.NDArray[np.bool_] = np.zeros(grid, bool)
        self.fill_value = 0.0
        self.untiled_source = untiled_source
        self.discard: Callable[[], None] = lambda: None  # forgets a damaged copy
        self.data: Any = None
        self._begun = False  # True from the first pixels in ``data`` on
        self._lock = threading.Lock()
        if (
            untiled_source is None
            and np.prod(shape) * self.dtype.itemsize <= 64 * 1024**2
        ):
            self.data = np.zeros(shape, self.dtype)

    def set_fill_value(self, value: float) -> None:
        """Set the value of chunks that are not filled yet.

        In memory, the value does not change any more once filling has begun.
        """
        self.fill_value = value
        with self._lock:
            if self.in_memory and not self._begun:
                self.data[...] = value

    @property
    def in_memory(self) -> bool:
        """True if the pixels are a numpy array."""
        return type(self.data) is np.ndarray

    def put(self, key: Slices, pixels: Array) -> None:
        """Write pixels into the level in memory."""
        with self._lock:
            self._begun = True
            self.data[key] = pixels

    @property
    def complete(self) -> bool:
        """True if all chunks are filled."""
        return self.data is not None and bool(self.ready.all())

    def __getitem__(self, key: Slices) -> Array:
        """Return the pixels of ``key``, grey in chunks that are not filled."""
        key = tuple(
            slice(*s.indices(n)[:2]) for s, n in zip(key, self.shape, strict=True)
        )
        if self.in_memory:
            found: Array = self.data[key]
            return found
        touched = self.ready[
            tuple(
                slice(s.start // c, -(-s.stop // c))
                for s, c in zip(key, self.chunks, strict=True)
            )
        ]
        if self.data is not None and touched.all():
            stored = self._stored(key)
            if stored is not None:
                return stored
        out = np.full([s.stop - s.start for s in key], self.fill_value, self.dtype)
        if self.data is not None and touched.any():
            self._copy_ready(key, out)
        return out

    def read_exact(self, key: Slices) -> Array:
        """Return pixels of the complete level, else of the untiled source.

        Raises
        ------
        ReadError
            If the level is not complete and has no untiled source.
        """
        if self.complete:
            found = self._stored(key)
            if found is not None:
                return found
        if self.untiled_source is None:
            raise ReadError("This level of the image has not been computed yet.")
        return self.untiled_source[key]

    def _stored(self, key: Slices) -> Array | None:
        """Return filled pixels; None if they are damaged on disk.

        The level then counts as not filled, and the next opening computes it again.
        """
        try:
            return np.asarray(self.data[key])
        # codecs and disks raise arbitrary errors
        except Exception:  # noqa: BLE001
            self.ready[...] = False
            self.discard()
            return None

    def _copy_ready(self, key: Slices, out: Array) -> None:
        first = [s.start // c for s, c in zip(key, self.chunks, strict=True)]
        last = [-(-s.stop // c) for s, c in zip(key, self.chunks, strict=True)]
        for index in itertools.product(*map(range, first, last)):
            if self.ready[index]:
                part = tuple(
                    slice(max(i * c, s.start), min((i + 1) * c, s.stop))
                    for i, c, s in zip(index, self.chunks, key, strict=True)
                )
                at = tuple(
                    slice(p.start - s.start, p.stop - s.start)
                    for p, s in zip(part, key, strict=True)
                )
                found = self._stored(part)
                if found is not None:
                    out[at] = found
