"""Resampling by area averages (downsampling) and linear interpolation (upsampling).

Plain numpy gives the same bytes on every machine and with any number of threads.
Invalid pixels are excluded from the averages.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.image.box_mean import box_mean

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ResampleAxis:
    """Range of output pixels ``first`` to ``first + count`` along one axis.

    Output pixel i covers the source from ``start + i * step`` to
    ``start + (i + 1) * step``, in source pixels.
    """

    start: float
    step: float
    first: int
    count: int

    @property
    def exact(self) -> bool:
        """True if output pixels are source pixels and need no resampling."""
        return abs(self.step - 1) < 1e-9 and abs(self.start - round(self.start)) < 1e-6

    def halves(self) -> tuple["ResampleAxis", "ResampleAxis"]:
        """Return the first and the second half of the output pixels."""
        half = self.count // 2
        return (
            ResampleAxis(self.start, self.step, self.first, half),
            ResampleAxis(self.start, self.step, self.first + half, self.count - half),
        )

    def weights(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return the source pixels of each output pixel and their weights.

        Both arrays have the shape (count, taps); the weights of a pixel sum to 1.
        """
        number = self.first + np.arange(self.count)
        begin = self.start + number * self.step
        if self.step > 1:
            end = self.start + (number + 1) * self.step
            taps = int(np.ceil(self.step)) + 1
            index = np.floor(begin + 1e-6).astype(np.int64)[:, None] + np.arange(taps)
            covered = np.minimum(index + 1, end[:, None]) - np.maximum(
                index, begin[:, None]
            )
            weight = np.where(covered > 1e-6, covered, 0)
        else:
            center = begin + self.step / 2 - 0.5
            low = np.floor(center + 1e-6).astype(np.int64)
            index = low[:, None] + np.arange(2)
            share = np.clip(center - low, 0, 1)
            weight = np.stack([1 - share, share], axis=1)
        weight = weight / weight.sum(axis=1, keepdims=True)
        return index, weight.astype(np.float32)

    def span(self) -> tuple[int, int]:
        """Return the first required source pixel and the one after the last."""
        if self.step > 1.5 and _box(self, self):
            begin = round(self.start) + self.first * round(self.step)
            return begin, begin + self.count * round(self.step)
        first = ResampleAxis(self.start, self.step, self.first, 1).weights()[0]
        last = ResampleAxis(
            self.start, self.step, self.first + self.count - 1, 1
        ).weights()[0]
        return int(first.min()), int(last.max()) + 1


def resample(
    data: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    rows: ResampleAxis,
    columns: ResampleAxis,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Resample the block of source pixels ``rows.span()`` x ``columns.span()``.

    The memory is about eight times the block in float32.

    Parameters
    ----------
    data
        Pixels (height, width, bands) of any real dtype.
    valid
        Mask (height, width) of valid pixels. An output pixel is valid if at least
        half of its area is.
    rows, columns
        Output pixels along y and x.

    Returns
    -------
    Pixels (rows.count, columns.count, bands) of the same dtype, and the mask of valid
    pixels. Integers are rounded half up.
    """
    factor = _box(rows, columns)
    if factor and valid.all():
        return box_mean(data, factor, "yxs"), np.ones((rows.count, columns.count), bool)
    weight = None if valid.all() else valid.astype(np.float32)
    values = data.astype(np.float32)
    if weight is not None:
        values = np.where(valid[..., None], values, np.float32(0))
    values = _along(_along(values, rows, 0), columns, 1)
    if weight is None:
        ok = np.ones(values.shape[:2], bool)
    else:
        share = _along(_along(weight[..., None], rows, 0), columns, 1)
        ok = share[..., 0] >= 0.5 - 1e-6
        values = np.where(ok[..., None], values / np.maximum(share, 1e-6), 0)
    return _cast(values, data.dtype), ok


def _box(rows: ResampleAxis, columns: ResampleAxis) -> int:
    """Return the side of the boxes to average if they are whole pixels, else 0."""
    whole = round(rows.step)
    aligned = all(
        abs(s.step - whole) < 1e-9 and abs(s.start - round(s.start)) < 1e-6
        for s in (rows, columns)
    )
    return whole if aligned and whole > 1 else 0


def _along(values: Floats, steps: ResampleAxis, axis: int) -> Floats:
    """Resample one axis by weighted sums of source pixels."""
    index, weight = steps.weights()
    index = np.clip(index - steps.span()[0], 0, values.shape[axis] - 1)
    shape = [1] * values.ndim
    shape[axis] = steps.count
    out = np.take(values, index[:, 0], axis) * weight[:, 0].reshape(shape)
    for tap in range(1, index.shape[1]):
        if weight[:, tap].any():
            part = np.take(values, index[:, tap], axis)
            part *= weight[:, tap].reshape(shape)
            out += part
    return out


def _cast(values: Floats, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind == "f":
        return values.astype(dtype)
    if dtype.kind == "b":
        return values >= 0.5
    info = np.iinfo(dtype)
    return np.clip(
        np.floor(values.astype(np.float64) + 0.5), info.min, info.max
    ).astype(dtype)
