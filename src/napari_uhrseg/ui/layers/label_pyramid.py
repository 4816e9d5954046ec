"""Label pyramid for napari, with the paint area masked."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types import Labels, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


class LabelPyramid:
    """Label levels of a store for one napari layer.

    Attributes
    ----------
    masked_region
        Rectangle of level-0 pixels that shows 0, on multiples of the coarsest level's
        pixel. Another layer lies there, and two translucent layers would mix.
    only_corrections
        True if the corrections are shown without predictions.
    levels
        Levels for napari, level 0 first. The coarsest level is a numpy array that
        napari keeps and `refresh` updates. The others are read when indexed.
    """

    def __init__(self, store: "LabelStore") -> None:
        """Read the coarsest levels if the store has not read them yet."""
        from napari_uhrseg.io.labels.layer_levels import (
            correction_levels,
            displayed_levels,
        )

        self.masked_region: Roi | None = None
        self.only_corrections = False
        self._shown = displayed_levels(store)
        self._corrected = correction_levels(store)
        self._top: Labels = np.zeros(self._shown[-1].shape, np.uint8)
        finer = [LabelLevel(self, k) for k in range(len(self._shown) - 1)]
        self.levels: list[LabelLevel | Labels] = [*finer, self._top]
        self.refresh()

    def refresh(self) -> None:
        """Update the coarsest level, which copies at most 2048 x 2048 pixels."""
        source = self.source(len(self._shown) - 1)
        np.copyto(self._top, source[:])
        if self.masked_region is not None:
            self._top[self.masked_slices(len(self._shown) - 1)] = 0

    def source(self, level: int) -> Any:
        """Return the source of a level, without the mask."""
        return (self._corrected if self.only_corrections else self._shown)[level]

    def masked_slices(self, level: int) -> tuple[slice, slice]:
        """Return the masked region in pixels of a level."""
        masked, step = self.masked_region or Roi(0, 0, 0, 0), 1 << level
        return (
            slice(masked.y >> level, -(-masked.bottom // step)),
            slice(masked.x >> level, -(-masked.right // step)),
        )


class LabelLevel:
    """Array interface of a level for napari that does not read the masked region."""

    ndim = 2
    dtype = np.dtype(np.uint8)

    def __init__(self, pyramid: LabelPyramid, level: int) -> None:
        self._pyramid, self._level = pyramid, level
        first = pyramid.source(level)
        self.shape: tuple[int, int] = first.shape
        self.chunks: tuple[int, int] = first.chunks
        self.size = self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Labels:
        source = self._pyramid.source(self._level)
        if self._pyramid.masked_region is None:
            return np.asarray(source[key])
        keys = _full(key, self.shape)
        if keys is None:  # napari does not use such keys when it draws
            return self._plain(source, key)
        (top, bottom), (left, right) = (k.indices(n)[:2] for k, n in
                                        zip(keys, self.shape, strict=True))  # fmt: skip
        rows, columns = self._pyramid.masked_slices(self._level)
        out = np.zeros((max(0, bottom - top), max(0, right - left)), np.uint8)
        upper, lower = max(top, rows.start), min(bottom, rows.stop)
        first, last = max(left, columns.start), min(right, columns.stop)
        if upper >= lower or first >= last:
            return np.asarray(source[key])
        for y0, y1, x0, x1 in (
            (top, upper, left, right), (lower, bottom, left, right),
            (upper, lower, left, first), (upper, lower, last, right),
        ):  # fmt: skip
            if y0 < y1 and x0 < x1:
                part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
                out[part] = source[y0:y1, x0:x1]
        return out

    def _plain(self, source: Any, key: Any) -> Labels:
        inside: npt.NDArray[np.bool_] = np.zeros(self.shape, bool)
        inside[self._pyramid.masked_slices(self._level)] = True
        return np.where(inside[key], np.uint8(0), source[key])


def _full(key: Any, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return the key as two slices of step 1, or None if it is another kind of key."""
    keys = key if isinstance(key, tuple) else (key,)
    keys = tuple(k for k in keys if k is not Ellipsis)
    keys = (*keys, *(slice(None),) * (len(shape) - len(keys)))
    if all(isinstance(k, slice) and k.step in (None, 1) for k in keys):
        return keys[0], keys[1]
    return None
