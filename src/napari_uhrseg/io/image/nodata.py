"""Comparison of pixels with a nodata value."""

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types import BoolMask

NEAR_LIMIT = 0.99  # share of the largest value of a type
MAX_MEASURED = 1e15  # larger values of real numbers mark missing pixels


def differs_from_nodata(data: npt.NDArray[Any], nodata: float | None) -> BoolMask:
    """Return the mask of the pixels that are not nodata.

    Integers are compared exactly. The text of a nodata value in a file may be rounded:
    of floating-point pixels, those that differ from it by four units of the last place
    are nodata too. If it is close to the limit of the type (such as -3.4e38), all
    pixels that are as close to that limit are nodata.

    Parameters
    ----------
    data
        Pixels of any shape.
    nodata
        The value; None if all pixels are valid. A value that the type does not contain
        marks no pixel.

    Returns
    -------
    Mask of the shape of the data.
    """
    everywhere = np.ones(data.shape, bool)
    if nodata is None:
        return everywhere
    if data.dtype.kind == "f":
        return _differs_from_real(data, float(nodata))
    if data.dtype.kind == "b":
        everywhere &= data != bool(nodata) if nodata in (0, 1) else True
        return everywhere
    info = np.iinfo(data.dtype)
    if not np.isfinite(nodata) or nodata != int(nodata):
        return everywhere
    if not info.min <= int(nodata) <= info.max:
        return everywhere
    everywhere &= data != data.dtype.type(int(nodata))
    return everywhere


def _differs_from_real(data: npt.NDArray[Any], nodata: float) -> BoolMask:
    info = np.finfo(data.dtype)
    limit = NEAR_LIMIT * float(info.max)
    equal: BoolMask
    if np.isnan(nodata):
        equal = np.isnan(data)
        return ~equal
    margin = 4 * float(info.eps) * abs(nodata)
    low, high = nodata - margin, nodata + margin
    if nodata >= limit:
        low, high = limit, np.inf
    elif nodata <= -limit:
        low, high = -np.inf, -limit
    equal = (data >= low) & (data <= high)
    return ~equal
