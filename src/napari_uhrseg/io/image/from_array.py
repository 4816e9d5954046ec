"""Functions that make images of arrays and napari layers."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.box_mean import box_mean
from napari_uhrseg.io.image.geometry import MAX_COARSEST_SIDE, UNIT_METRES
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import Array, ArraySource

IN_MEMORY_PYRAMID_BYTES = 512 * 1024**2  # larger arrays get no levels in memory


def image_from_array(
    array: Any,
    *,
    name: str,
    rgb: bool = False,
    pixel_size: tuple[float, float] | None = None,
    unit: str = "pixel",
    axes: str | None = None,
    nodata: float | None = None,
    is_slide: bool = False,
) -> Image:
    """Return the image of an array or of a list of levels.

    Parameters
    ----------
    array
        Array (numpy, dask, zarr, …) with axes ``(…, y, x)``, or ``(…, y, x, 3 or
        4)`` with rgb. A list or tuple contains the levels, finest first.
    name
        Name of the image.
    rgb
        True if the last axis contains the three or four samples of a colour image.
    pixel_size, unit
        (height, width) of a level-0 pixel in the unit; see `Image`.
    axes
        One letter per axis; by default, planes come before y and x.
    nodata
        Value of invalid pixels in all bands.
    is_slide
        True if the image is a slide with a bright background.

    Returns
    -------
    Image without a path.

    Raises
    ------
    OpenError
        If the pixels are no real numbers, the size of an array is unknown, or its
        pixels cannot be read.
    """
    levels = list(array) if isinstance(array, list | tuple) else [array]
    image = image_of_arrays(levels, name=name, rgb=rgb, axes=axes, nodata=nodata)
    image.pixel_size, image.unit = pixel_size, unit
    image.is_slide = is_slide
    return image


def image_of_arrays(
    levels: Sequence[Any],
    *,
    name: str,
    rgb: bool = False,
    axes: str | None = None,
    nodata: float | None = None,
    fill: bool = True,
) -> Image:
    """Return the image of levels; a single numpy array gets coarser levels.

    Parameters
    ----------
    levels
        Arrays with axes ``(…, y, x)``, or ``(…, y, x, 3 or 4)`` with rgb, finest
        first.
    name
        Name of the image.
    rgb
        True if the last axis contains the three or four samples of a colour image.
    axes
        One letter per axis; by default, planes come before y and x.
    nodata
        Value of invalid pixels in all bands.
    fill
        True if missing coarser levels are added as pending levels.

    Returns
    -------
    Image without a path and without a pixel size.

    Raises
    ------
    OpenError
        If the pixels are no real numbers, the size of an array is unknown, or its
        pixels cannot be read.
    """
    for level in levels:
        _check_array(level, name)
    axes = axes or _axes(len(levels[0].shape), rgb)
    samples = levels[0].shape[-1] if rgb else 0
    if len(levels) == 1 and isinstance(levels[0], np.ndarray):
        levels = [levels[0], *coarser(levels[0], axes, nodata)]
    image = Image(
        name=name,
        sources=[ArraySource(level) for level in levels],
        source_axes=axes,
        rgb_bands=(0, 1, 2) if rgb else (),
        alpha=3 if samples == 4 else None,
        fingerprint=_fingerprint(levels[0], name),
        fill=fill,
    )
    image.bands = tuple(replace(band, nodata=nodata) for band in image.bands)
    return image


def coarser(array: Array, axes: str, nodata: float | None = None) -> list[Array]:
    """Return copies at 1/2, 1/4, … of the size, down to at most 2048 px per side.

    The memory is a third of that of the array. Arrays of more than 512 MiB get no
    copies.

    Parameters
    ----------
    array
        Pixels of any real dtype.
    axes
        One letter per axis of the array.
    nodata
        Value of invalid pixels, which the means ignore.

    Returns
    -------
    Arrays of the same dtype, from fine to coarse; empty if the array is small.
    """
    y, x = axes.index("y"), axes.index("x")
    out: list[Array] = []
    while max(array.shape[y], array.shape[x]) > MAX_COARSEST_SIDE:
        if array.nbytes > IN_MEMORY_PYRAMID_BYTES:
            break
        array = box_mean(array, 2, axes, nodata)
        out.append(array)
    return out


def image_from_layer(layer: Any) -> Image:
    """Return the image of any napari image layer.

    Raises
    ------
    OpenError
        If the layer has no two-dimensional image.
    """
    known = (getattr(layer, "metadata", None) or {}).get("uhrseg_image")
    if isinstance(known, Image):
        return known
    data: Any = getattr(layer, "data", None)
    rgb = bool(getattr(layer, "rgb", False))
    levels = list(data) if getattr(layer, "multiscale", False) else [data]
    if not levels or len(getattr(levels[0], "shape", ())) < 2 + rgb:
        raise OpenError(
            f"The layer {getattr(layer, 'name', layer)} holds no image.",
            "Choose an image layer.",
        )
    image = image_of_arrays(levels, name=str(layer.name), rgb=rgb, fill=False)
    image.pixel_size, image.unit = _layer_pixels(layer)
    return image


def _layer_pixels(layer: Any) -> tuple[tuple[float, float] | None, str]:
    """Return the pixel size and unit of a layer; short lengths are converted to µm."""
    scale = [abs(float(s)) for s in getattr(layer, "scale", (1.0, 1.0))[-2:]]
    units = [str(u) for u in (getattr(layer, "units", None) or ("pixel",))]
    unit, metres = units[-1], {"nanometer": 1e-9, "millimeter": 1e-3, "meter": 1.0}
    metres |= {"centimeter": 1e-2, "kilometer": 1e3, **UNIT_METRES}
    if unit == "degree":
        return (scale[0], scale[1]), "degree"
    if unit not in metres or not all(s > 0 for s in scale):
        return None, "pixel"
    if unit in ("meter", "metre", "kilometer"):
        return (scale[0] * metres[unit], scale[1] * metres[unit]), "metre"
    factor = metres[unit] * 1e6
    return (scale[0] * factor, scale[1] * factor), "micrometer"


def _axes(ndim: int, rgb: bool) -> str:
    planes = "tz" if ndim - rgb <= 4 else "abcdefgtz".replace("c", "")
    count = ndim - 2 - rgb
    return (planes[-count:] if count else "") + "yx" + "s" * rgb


def _check_array(array: Any, name: str) -> None:
    """Raise OpenError if an array has no real numbers, or an unknown size."""
    if np.dtype(array.dtype).kind not in "buif":
        raise OpenError(
            f"{name} has pixels of type {array.dtype}, which cannot be shown.",
            "Convert it to whole or real numbers.",
        )
    if not all(math.isfinite(n) for n in array.shape):  # dask's unknown sizes are NaN
        raise OpenError(
            f"The size of {name} is unknown: {array.shape}.",
            "Call compute_chunk_sizes() on the dask array first.",
        )


def _fingerprint(array: Any, name: str) -> str:
    """Return a hash of the shape, dtype and name, and of a central 64 px square."""
    middle = tuple(
        slice(max(0, n // 2 - 32), n // 2 + 32) if n > 64 else slice(0, n)
        for n in array.shape
    )
    if math.prod(s.stop - s.start for s in middle) > 10**7:
        middle = tuple(slice(s.start, s.start + 8) for s in middle)
    digest = hashlib.sha256(f"{array.shape} {array.dtype} {name}".encode())
    try:
        pixels = np.asarray(array[middle])
    except Exception as error:  # a lazy array may raise any error
        raise OpenError(
            f"The pixels of {name} cannot be read: {error}.",
            "Check the array, for example by computing a part of it.",
        ) from error
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:32]
