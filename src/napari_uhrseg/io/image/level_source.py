"""Sources of the chunks of a level: the protocol, and a source that wraps an array.

A *source* is one level of an image as a reader provides it: ``shape``, ``dtype``,
``chunks`` (the smallest unit of decoding) and ``source[slices]``.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Slices = tuple[slice, ...]
OnError = Callable[[Exception], None]


class LevelSource(Protocol):
    """One level of an image, indexed by one slice of step 1 per axis."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def chunks(self) -> tuple[int, ...]: ...
    def __getitem__(self, key: Slices, /) -> Array: ...


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
