"""Functions that parse the metadata of OME-Zarr images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Band
from napari_uhrseg.io.paths import Address

MICROMETRES = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
}
METRES = {"meter": 1.0, "decimeter": 0.1, "kilometer": 1e3, "foot": 0.3048}
NAMES = {"micron": "micrometer", "µm": "micrometer", "um": "micrometer"}
NAMES |= {"nm": "nanometer", "mm": "millimeter", "m": "meter", "metre": "meter"}
RGB = ("FF0000", "00FF00", "0000FF")


def axes(where: str, meta: Any, ndim: int) -> tuple[str, list[str]]:
    """Return the letter and the unit of each axis.

    OME-Zarr 0.1 and 0.2 do not state axes; their order is t, c, z, y, x.

    Parameters
    ----------
    where
        Name of the image in messages.
    meta
        Entry of ``multiscales`` in the metadata.
    ndim
        Number of axes of the arrays.

    Returns
    -------
    One letter per axis, and the name of each unit (empty if not stated).

    Raises
    ------
    OpenError
        If the axes do not match the arrays, or if two axes have the same letter.
    """
    given = meta.get("axes") or list("tczyx"[-ndim:])
    described = [a if isinstance(a, dict) else {"name": a} for a in given]
    names = [str(a.get("name", "?")).lower() for a in described]
    if len(names) != ndim or not {"y", "x"} <= {*names}:
        raise OpenError(
            f"The metadata of {where} states the axes {', '.join(names)}, "
            f"its array has {ndim}.",
            "Export the image again, with an axis y and an axis x.",
        )
    channels = [i for i, a in enumerate(described) if a.get("type") == "channel"]
    letters = ["c" if channels == [i] else n[0] for i, n in enumerate(names)]
    if len(set(letters)) != len(letters):
        raise OpenError(
            f"The axes {', '.join(names)} of {where} cannot be distinguished.",
            "Name them t, c, z, y and x.",
        )
    units = [str(a.get("unit") or "") for a in described]
    return "".join(letters), [NAMES.get(u, u) for u in units]


def bands(
    omero: Mapping[str, Any], axes: str, array: zarr.Array
) -> tuple[tuple[Band, ...], bool]:
    """Return the channels, and whether they are red, green and blue.

    Parameters
    ----------
    omero
        Rendering metadata (``omero``) of the image; may be empty.
    axes
        One letter per axis of the array.
    array
        Array of level 0.

    Returns
    -------
    The name and contrast range of each channel, and True for a colour image. The
    tuple is empty if the metadata do not describe each channel.
    """
    count = array.shape[axes.index("c")] if "c" in axes else 1
    channels = [c if isinstance(c, dict) else {} for c in omero.get("channels") or ()]
    if len(channels) != count:
        return (), False
    colours = tuple(str(c.get("color", "")).upper().lstrip("#") for c in channels)
    names = [str(c.get("label", i)) for i, c in enumerate(channels)]
    told = [n.lower()[:1] for n in names] == ["r", "g", "b"] and count == 3
    rgb = array.dtype == np.uint8 and (colours == RGB or told)
    ranges = (_window(c.get("window")) for c in channels)
    pairs = zip(names, ranges, strict=True)
    return tuple(Band(name, found) for name, found in pairs), rgb


def _window(window: Any) -> tuple[float, float] | None:
    if not isinstance(window, dict):
        return None
    try:
        low, high = float(window["start"]), float(window["end"])
    except (KeyError, TypeError, ValueError):
        return None
    return (low, high) if np.isfinite([low, high]).all() and low < high else None


def pixel_size(
    where: str, meta: Any, axes: str, units: list[str], said: list[str]
) -> tuple[tuple[float, float] | None, str]:
    """Return the size of a level-0 pixel and its unit.

    Parameters
    ----------
    where
        Name of the image in messages.
    meta
        Entry of ``multiscales`` in the metadata.
    axes
        One letter per axis.
    units
        One unit per axis, as `axes` returns them.
    said
        List of warnings; a warning is appended if the pixel size is invalid.

    Returns
    -------
    (height, width), and the unit of both: ``micrometer``, ``metre`` or ``pixel``. The
    size is None if it is invalid, or if it is 1 without a unit.
    """
    first = meta["datasets"][0]
    scales = [_scale(place, len(axes)) for place in (first, meta)]
    at = [axes.index("y"), axes.index("x")]
    y, x = (float(scales[0][i] * scales[1][i]) for i in at)
    unit = units[at[0]]
    if not (np.isfinite([y, x]).all() and y > 0 and x > 0) or unit != units[at[1]]:
        said.append(f"The pixel size of {where} ({y}, {x}) makes no sense: left out.")
        return None, "pixel"
    if unit in MICROMETRES:
        return (y * MICROMETRES[unit], x * MICROMETRES[unit]), "micrometer"
    if unit in METRES:
        return (y * METRES[unit], x * METRES[unit]), "metre"
    return (None, "pixel") if (y, x) == (1, 1) else ((y, x), "pixel")


def _scale(place: Any, ndim: int) -> np.ndarray:
    """Return the scale of the coordinate transformations, or 1 for each axis."""
    for step in place.get("coordinateTransformations") or ():
        if isinstance(step, dict) and step.get("type") == "scale":
            scale = np.asarray(step.get("scale", ()))
            if scale.shape == (ndim,) and scale.dtype.kind in "iuf":
                return scale
    return np.ones(ndim)


def plane(omero: Mapping[str, Any], axes: str, array: zarr.Array) -> dict[str, int]:
    """Return the plane that the metadata select for display.

    Parameters
    ----------
    omero
        Rendering metadata (``omero``) of the image; may be empty.
    axes
        One letter per axis of the array.
    array
        Array of level 0.

    Returns
    -------
    Index of the plane along t and z; an axis without a valid default is left out.
    """
    told = omero.get("rdefs")
    told = told if isinstance(told, dict) else {}
    wanted = {a: told.get(f"default{a.upper()}") for a in "tz" if a in axes}
    return {
        a: i
        for a, i in wanted.items()
        if isinstance(i, int) and 0 <= i < array.shape[axes.index(a)]
    }


def filled_list(value: Any, what: str, path: Address) -> list[Any]:
    """Return a metadata value if it is a non-empty list.

    Parameters
    ----------
    value
        Value from the metadata.
    what
        Name of the value in the message.
    path
        Path of the image in the message.

    Returns
    -------
    The value.

    Raises
    ------
    OpenError
        If the value is not a list, or if the list is empty.
    """
    if isinstance(value, list) and value:
        return value
    raise OpenError(
        f"The metadata of {path} are wrong: {what} is missing or empty.",
        "Export the image again as OME-Zarr.",
    )
