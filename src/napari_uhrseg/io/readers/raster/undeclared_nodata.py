"""Search for values of missing pixels that a raster does not declare as nodata."""

from typing import Any

import numpy as np

from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import Array
from napari_uhrseg.io.image.nodata import MAX_MEASURED
from napari_uhrseg.types import Roi
from napari_uhrseg.units import formatted

# values that programs write for missing pixels, if the type of the pixels has them
FILL_VALUES = (-9999, -99999, -999999, -32768, -32767, -999, -9999.9, 1e20)
SIDE = 64  # px of each sampled window
MIN_SHARE = 0.01  # of the sampled pixels, from which a fill value is reported


def undeclared_nodata(image: Image) -> tuple[str, ...]:
    """Return a warning if pixels look missing, and nothing marks them as invalid.

    The corners and the middle of the image are sampled. Missing pixels have a usual
    fill value, or are black in all bands of a whole corner of a colour image.
    """
    if image.masks or image.alpha is not None or image.colormap is not None:
        return ()
    if any(band.nodata is not None for band in image.bands):
        return ()
    windows = _windows(image)
    if not windows:
        return ()
    if image.dtype.kind == "f" or image.dtype.kind == "i":
        return _fill_value(np.concatenate([w.ravel() for w in windows]))
    black = sum(not corner.any() for corner in windows[:4])
    if not black or len(image.bands) < 3:
        return ()
    return (
        f"{black} of the 4 corners of this image {'is' if black == 1 else 'are'} black "
        f"(0 in all bands over {SIDE} x {SIDE} pixels), and the file does not mark "
        "missing pixels: they are read as pixels of the image. If they are missing, "
        "declare it with gdal_edit -a_nodata 0.",
    )


def _fill_value(values: Array) -> tuple[str, ...]:
    real = values.dtype.kind == "f"
    known = [v for v in FILL_VALUES if real or _is_in(v, values.dtype)]
    shares = {f"{v:g}": np.mean(values == values.dtype.type(v)) for v in known}
    if real:
        with np.errstate(invalid="ignore"):
            shares["beyond ±1e15"] = np.mean(np.abs(values) >= MAX_MEASURED)
    name = max(shares, key=lambda key: shares[key], default="")
    if not name or shares[name] < MIN_SHARE:
        return ()
    return (
        f"{formatted(shares[name], '.0%')} of {formatted(values.size)} sampled values "
        "of this image are "
        f"{name}, and the file does not declare nodata: they are read as values. If "
        "they are missing pixels, declare it with gdal_edit -a_nodata VALUE.",
    )


def _is_in(value: float, dtype: np.dtype[Any]) -> bool:
    info = np.iinfo(dtype)
    return value == int(value) and info.min <= value <= info.max


def _windows(image: Image) -> list[Array]:
    """Return the pixels of the four corners and the middle; none if unreadable."""
    height, width = image.shape
    down, across = max(0, height - SIDE), max(0, width - SIDE)
    corners = [(y, x) for y in (0, down) for x in (0, across)]
    try:
        return [
            image.read(Roi(y, x, min(SIDE, height), min(SIDE, width))).data
            for y, x in (*corners, (down // 2, across // 2))
        ]
    except ReadError:  # the first display reports it
        return []
