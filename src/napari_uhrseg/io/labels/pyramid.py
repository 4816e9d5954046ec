"""Reading and writing pyramids of uint8, and what is shown of two of them."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import zarr

from napari_uhrseg.errors import StoreError
from napari_uhrseg.types import Labels, Roi


class DisplayedLevel:
    """One level of the shown labels, read from disk anew each time it is indexed.

    Enough of an array for napari: ``shape``, ``dtype``, ``ndim``, ``size``,
    ``chunks`` and indexing by integers, slices and an ellipsis. An index reads
    what it covers and no more; memory is three times that at most.

    Parameters
    ----------
    prediction
        ``None``: the corrections alone.
    correction
        What is shown where it is not 0.
    aliases
        Classes shown as another; may change later.
    """

    ndim = 2
    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        prediction: zarr.Array | None,
        correction: zarr.Array,
        aliases: Mapping[int, int],
    ) -> None:
        self._prediction = prediction
        self._correction = correction
        self._aliases = aliases
        self.shape: tuple[int, int] = (correction.shape[0], correction.shape[1])
        self.chunks: tuple[int, ...] = correction.chunks

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Labels:
        labels = read_array(self._correction, key)
        if self._prediction is not None:
            labels = overlay(read_array(self._prediction, key), labels)
        return apply_aliases(labels, self._aliases)

    def touched(self, roi: Roi, level: int) -> Labels:
        """The pixels that a level-0 rectangle touches, 0 outside; this is `level`."""
        wide = roi.at_scale(2**level)
        there = wide.intersect(Roi(0, 0, *self.shape))
        labels = np.zeros((wide.height, wide.width), np.uint8)
        if there.area:
            labels[there.shift(-wide.y, -wide.x).slices] = self[there.slices]
        return labels

    def __repr__(self) -> str:
        return f"DisplayedLevel({self.shape[0]} x {self.shape[1]})"


class CoarsestLevels:
    """Coarsest levels in memory once they are asked for, then updated in place.

    napari keeps that level for good, so the array it was given must change.
    """

    def __init__(self, **levels: zarr.Array | DisplayedLevel) -> None:
        self._levels = levels
        self._held: dict[str, Labels] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Labels:
        with self._lock:
            if name not in self._held:
                self._held[name] = np.array(_read(self._levels[name], ...))
            return self._held[name]

    def refresh(self, roi: Roi) -> None:
        """Read a rectangle of them again; whoever wrote last comes last here."""
        with self._lock:
            for name, held in self._held.items():
                held[roi.slices] = _read(self._levels[name], roi.slices)


def _read(level: zarr.Array | DisplayedLevel, key: Any) -> Labels:
    return level[key] if isinstance(level, DisplayedLevel) else read_array(level, key)


def apply_aliases(labels: Labels, aliases: Mapping[int, int]) -> Labels:
    """Labels with merged classes as what they are shown as."""
    if not aliases:
        return labels
    table = np.arange(256, dtype=np.uint8)
    for class_id, shown in list(aliases.items()):
        table[class_id] = shown
    return table[labels]


def overlay(prediction: Labels, correction: Labels) -> Labels:
    """The correction where it is not 0, else the prediction; may be the latter."""
    if not correction.any():
        return prediction
    return np.asarray(np.where(correction != 0, correction, prediction), np.uint8)


def read_array(level: zarr.Array, key: Any) -> Labels:
    """Part of an array as numpy. Raises StoreError where a chunk is damaged."""
    try:
        return np.asarray(level[key], np.uint8)
    except IndexError:
        raise
    # a codec, a disk and a server may raise anything
    except Exception as error:
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
                data = read_array(levels[k - 1], whole.slices)
            data = coarser(data)
            roi = Roi(whole.y // 2, whole.x // 2, *data.shape)
        # zeros over nothing would decode and encode chunks for no change
        if data.any() or read_array(level, roi.slices).any():
            level[roi.slices] = data
    return roi
