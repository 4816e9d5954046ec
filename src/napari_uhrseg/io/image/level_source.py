"""Source of chunks that wraps an array."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Slices = tuple[slice, ...]


class ArraySource:
    """Source that wraps any array with slicing, such as numpy, dask or zarr."""

    def __init__(self, array: Any, chunks: tuple[int, ...] | None = None) -> None:
        self.array = array
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.chunks = chunks or self._own_chunks()

    def __getitem__(self, key: Slices) -> Array:
        return np.asarray(self.array[key])

    def _own_chunks(self) -> tuple[int, ...]:
        """Return the largest chunk of the array; by default, 512 along each axis."""
        own = getattr(self.array, "chunks", None)
        if own is None or len(own) != len(self.shape):
            return tuple(min(n, 512) for n in self.shape)
        return tuple(int(c if isinstance(c, int | np.integer) else max(c)) for c in own)
