"""Downsampling by the mean of square boxes of pixels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.image.nodata import differs_from_nodata

Array = npt.NDArray[Any]


def box_mean(data: Array, factor: int, axes: str, nodata: float | None = None) -> Array:
    """Return the mean of each box of ``factor`` x ``factor`` pixels.

    The memory is about six times ``data`` for 8-bit data, and less for others.

    Parameters
    ----------
    data
        Pixels of any real dtype, with one axis for each letter of ``axes``.
    factor
        Side of a box in pixels. Boxes at the lower and right border may be smaller.
    axes
        One letter per axis: ``y``, ``x``, and ``c`` or ``s`` for the bands.
    nodata
        Value of invalid pixels. Pixels with this value in all bands are ignored, and
        so is NaN. A box with less than half of valid pixels becomes ``nodata`` (NaN
        without one).

    Returns
    -------
    Array of the same dtype, with y and x divided by ``factor`` and rounded up.
    Integers are rounded half up.
    """
    if factor == 1:
        return data
    y, x = axes.index("y"), axes.index("x")
    wide = _wide(data.dtype, factor)
    valid = _valid(data, axes, nodata)
    count = _counts(data, y, factor) * _counts(data, x, factor)
    if valid is None:
        total = _sum(_sum(data, y, factor, wide), x, factor, wide)
        return _divide(total, count, data.dtype)
    kept = np.where(valid, data, data.dtype.type(0))
    total = _sum(_sum(kept, y, factor, wide), x, factor, wide)
    taking = _sum(_sum(valid, y, factor, np.uint16), x, factor, np.uint16)
    mean = _divide(total, np.maximum(taking, 1), data.dtype)
    none = np.nan if nodata is None else nodata
    return np.where(2 * taking >= count, mean, np.asarray(none, data.dtype))


def _valid(data: Array, axes: str, nodata: float | None) -> Array | None:
    """Return the mask of valid samples, or None if all are valid."""
    valid: Array | None = None
    if nodata is not None and _holds(data.dtype, nodata):
        valid = differs_from_nodata(data, nodata)
        bands = [i for i, a in enumerate(axes) if a in "cs"]
        if bands:
            valid = np.broadcast_to(valid.any(tuple(bands), keepdims=True), data.shape)
    if data.dtype.kind == "f":
        real = ~np.isnan(data)
        valid = real if valid is None else valid & real
    return None if valid is None or valid.all() else valid


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Return whether a dtype contains a value; NaN, handled separately, is False."""
    if dtype.kind == "f" or np.isnan(value):
        return dtype.kind == "f" and not np.isnan(value)
    low, high = (0, 1) if dtype.kind == "b" else _limits(dtype)
    return value == round(value) and low <= value <= high


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _wide(dtype: np.dtype[Any], factor: int) -> Any:
    """Return a dtype for values up to twice the sum of a box."""
    if dtype.kind == "f":
        return np.promote_types(dtype, np.float32)
    if dtype.itemsize > 2:
        return np.float64
    if dtype.itemsize == 1 and factor <= 8:
        return np.int16 if dtype.kind == "i" else np.uint16
    return np.int32 if dtype.kind == "i" else np.uint32


def _sum(values: Array, axis: int, factor: int, dtype: Any = None) -> Array:
    """Return sums of ``factor`` neighbours along an axis; the last may have fewer."""
    values = np.moveaxis(values, axis, 0)
    out = values[::factor].astype(dtype or values.dtype)
    for offset in range(1, factor):
        part = values[offset::factor]
        out[: len(part)] += part
    return np.moveaxis(out, 0, axis)


def _counts(data: Array, axis: int, factor: int) -> Array:
    """Return the pixels per box along an axis, in a shape that broadcasts to data."""
    shape = [1] * data.ndim
    shape[axis] = -1
    ones = np.ones(data.shape[axis], np.int64)
    return _sum(ones, 0, factor).reshape(shape)


def _divide(total: Array, count: Array, dtype: np.dtype[Any]) -> Array:
    if total.dtype.kind == "f":
        return _cast(total / count, dtype)
    if (count == 4).all():  # shifting is several times faster
        return ((total + 2) >> 2).astype(dtype)
    divisor = count.astype(total.dtype)
    return np.asarray((2 * total + divisor) // (2 * divisor), dtype)


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return values.astype(dtype)
    if dtype.kind == "b":
        return np.asarray(values >= 0.5)
    return np.clip(np.floor(values + 0.5), *_limits(dtype)).astype(dtype)
