"""Reading and writing pyramids of uint8, and what is shown of two of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import zarr

from napari_uhrseg.errors import StoreError
from napari_uhrseg.types import Labels, Roi


class ShownLevel:
    """One level of the shown labels, read from disk anew each time it is indexed.

    Enough of an array for napari: ``shape``, ``dtype``, ``ndim``, ``size``,
    ``chunks`` and indexing by integers, slices and an ellipsis. An index reads
    what it covers and no more; memory is three times that at most.
    """

    ndim = 2
    dtype = np.dtype(np.uint8)

    def __init__(self, prediction: zarr.Array, correction: zarr.Array) -> None:
        self._prediction = prediction
        self._correction = correction
        self.shape: tuple[int, int] = (prediction.shape[0], prediction.shape[1])
        self.chunks: tuple[int, ...] = prediction.chunks

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Labels:
        return merge(read(self._prediction, key), read(self._correction, key))

    def __repr__(self) -> str:
        return f"ShownLevel({self.shape[0]} x {self.shape[1]})"


def merge(prediction: Labels, correction: Labels) -> Labels:
    """The correction where it is not 0, else the prediction; may be the latter."""
    if not correction.any():
        return prediction
    return np.asarray(np.where(correction != 0, correction, prediction), np.uint8)


def read(level: zarr.Array, key: Any) -> Labels:
    """Part of an array as numpy. Raises StoreError where a chunk is damaged."""
    try:
        return np.asarray(level[key], np.uint8)
    except IndexError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise StoreError(
            f"Labels cannot be read from {level.store_path}: {error}.",
            "Part of the store was damaged from outside; copy it again from where it "
            "came from, or segment into a new store.",
        ) from error


def write_levels(
    levels: Sequence[zarr.Array],
    roi: Roi,
    data: Labels,
    coarser: Callable[[Labels], Labels],
) -> Roi:
    """Write data into level 0 of a pyramid and what follows into the others.

    Parameters
    ----------
    levels
        Level 0 first, each further one half the size (rounded up).
    roi, data
        Any rectangle inside level 0, and uint8 of its shape.
    coarser
        Makes the pixels of the next level; see `io.downsample`.

    Returns
    -------
    The part of the coarsest level that was written. Memory is bounded by the data.
    """
    for k, level in enumerate(levels):
        if k:
            shape = levels[k - 1].shape
            whole = roi.align(2).intersect(Roi(0, 0, shape[0], shape[1]))
            if whole != roi:
                data = read(levels[k - 1], whole.slices)
            data = coarser(data)
            roi = Roi(whole.y // 2, whole.x // 2, *data.shape)
        # zeros over nothing would decode and encode chunks for no change
        if data.any() or read(level, roi.slices).any():
            level[roi.slices] = data
    return roi
