"""Reading and writing of uint8 pyramids, and the displayed labels of two of them."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import zarr

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.zarr_chunks import write_chunks
from napari_uhrseg.main_memory import lacks_main_memory
from napari_uhrseg.types import Labels, Roi


class DisplayedLevel:
    """Level of the displayed labels, which each indexing reads from disk.

    It has the part of the array interface that napari uses: ``shape``, ``dtype``,
    ``ndim``, ``size``, ``chunks`` and indexing by integers, slices and an ellipsis.
    An index reads only what it covers; memory is at most three times that.

    Parameters
    ----------
    prediction
        Level of the predictions. None: display the corrections only.
    correction
        Level of the corrections, which override predictions where they are not 0.
    aliases
        Merged class id to the id of the class that is displayed, 0 for none. Changes
        of the mapping take effect at the next indexing.
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
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Labels:
        aliases = self._aliases
        labels = apply_aliases(read_array(self._correction, key), aliases)
        if self._prediction is None:
            return labels
        prediction = read_array(self._prediction, key)
        return overlay(apply_aliases(prediction, aliases), labels)

    def read_roi(self, roi: Roi, level: int) -> Labels:
        """Return the pixels that a level-0 rectangle touches; 0 outside the image.

        ``level`` is the number of this level.
        """
        wide = roi.at_scale(2**level)
        there = wide.intersect(Roi(0, 0, *self.shape))
        labels = np.zeros((wide.height, wide.width), np.uint8)
        if there.area:
            labels[there.shift(-wide.y, -wide.x).slices] = self[there.slices]
        return labels

    def __repr__(self) -> str:
        return f"DisplayedLevel({self.shape[0]} x {self.shape[1]})"


class CoarsestLevels:
    """Coarsest levels in memory, read at the first use and then updated in place.

    napari keeps its coarsest level, so the array that it received must change.
    """

    def __init__(self, **levels: zarr.Array | DisplayedLevel) -> None:
        self._levels = levels
        self._loaded: dict[str, Labels] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Labels:
        """Return a level as an array that later writes update."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = np.array(_read(self._levels[name], ...))
            return self._loaded[name]

    def refresh(self, roi: Roi) -> None:
        """Read a rectangle of all loaded levels again, after it was written."""
        with self._lock:
            for name, data in self._loaded.items():
                data[roi.slices] = _read(self._levels[name], roi.slices)


def _read(level: zarr.Array | DisplayedLevel, key: Any) -> Labels:
    return level[key] if isinstance(level, DisplayedLevel) else read_array(level, key)


def apply_aliases(labels: Labels, aliases: Mapping[int, int]) -> Labels:
    """Return labels in which merged classes have the id of their displayed class."""
    if not aliases:
        return labels
    table = np.arange(256, dtype=np.uint8)
    for class_id, displayed in list(aliases.items()):
        table[class_id] = displayed
    return table[labels]


def overlay(prediction: Labels, correction: Labels) -> Labels:
    """Return the correction where it is not 0, otherwise the prediction.

    The result may be the prediction array itself.
    """
    if not correction.any():
        return prediction
    return np.asarray(np.where(correction != 0, correction, prediction), np.uint8)


def _way_to_repair(path: str) -> str:
    """Return what a user can do about damage of an array, by its path."""
    if "labels/correction" in path:
        return (
            "Correct the labels in the window, or run napari-uhrseg correct with "
            "--redo, which opens the corrections for writing: all undamaged "
            "corrections are kept, and what is lost is reported"
        )
    return "Segment the image into this store again: damaged parts are computed again"


def read_array(level: zarr.Array, key: Any) -> Labels:
    """Return a part of an array as numpy.

    Raises
    ------
    StoreError
        If a chunk is damaged or cannot be read.
    """
    try:
        return np.asarray(level[key], np.uint8)
    except IndexError:
        raise
    # a codec, a disk and a server may raise any exception
    except Exception as error:
        if lacks_main_memory(error):
            raise
        raise _damage(level, "read from", error) from error


def write_array(level: zarr.Array, key: tuple[slice, slice], data: Labels) -> None:
    """Write a rectangle of an array.

    Parameters
    ----------
    level
        The array.
    key
        Rows and columns inside it, with a start and a stop.
    data
        uint8 of the rectangle.

    Raises
    ------
    StoreError
        If a chunk that the rectangle covers in part is damaged.
    OSError
        If a file cannot be written.
    """
    try:
        write_chunks(level, key, data)
    except (ValueError, RuntimeError) as error:  # of codecs
        raise _damage(level, "written to", error) from error


def _damage(level: zarr.Array, how: str, error: Exception) -> StoreError:
    way = _way_to_repair(str(level.store_path))
    return StoreError(
        f"Labels cannot be {how} {level.store_path}: {error}.",
        f"A part of the store is damaged. {way}. Or copy the store again.",
    )


def write_levels(
    levels: Sequence[zarr.Array],
    roi: Roi,
    data: Labels,
    coarser: Callable[[Labels], Labels],
) -> Roi:
    """Write data to level 0 of a pyramid, and the resulting pixels to all others.

    Parameters
    ----------
    levels
        Level 0 first; each further level has half the size, rounded up.
    roi
        Any rectangle inside level 0.
    data
        uint8 of the roi's shape.
    coarser
        Function that returns the pixels of the next level; see `downsample`.

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
        write_array(level, roi.slices, data)
    return roi
