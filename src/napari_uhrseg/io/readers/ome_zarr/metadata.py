"""Functions that parse the metadata of OME-Zarr images."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Band
from napari_uhrseg.io.paths import PathOrUrl

MICROMETRES = {
    "yoctometer": 1e-18,
    "zeptometer": 1e-15,
    "attometer": 1e-12,
    "femtometer": 1e-9,
    "picometer": 1e-6,
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "inch": 25_400.0,
}
METRES = {
    "decimeter": 0.1,
    "foot": 0.3048,
    "yard": 0.9144,
    "meter": 1.0,
    "decameter": 10.0,
    "hectometer": 100.0,
    "kilometer": 1e3,
    "mile": 1609.344,
    "megameter": 1e6,
    "gigameter": 1e9,
    "terameter": 1e12,
    "petameter": 1e15,
    "parsec": 3.0856775814913673e16,
    "exameter": 1e18,
    "zettameter": 1e21,
    "yottameter": 1e24,
}
SYMBOLS = {
    "pm": "picometer", "Å": "angstrom", "nm": "nanometer", "µm": "micrometer",
    "μm": "micrometer", "um": "micrometer", "mm": "millimeter", "cm": "centimeter",
    "dm": "decimeter", "m": "meter", "km": "kilometer", "in": "inch", "ft": "foot",
}  # fmt: skip
NAMES = {
    "micron": "micrometer", "inches": "inch", "feet": "foot", "ångström": "angstrom",
    "ångstrom": "angstrom",
}  # fmt: skip
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
    units = [_unit(str(a.get("unit") or "").strip()) for a in described]
    return "".join(letters), units


def _unit(text: str) -> str:
    """Return the name of a unit in the specification, or the text if it has none."""
    if text in SYMBOLS:
        return SYMBOLS[text]
    name = text.lower().replace("metre", "meter")
    for one in (name, name.removesuffix("s")):
        found = NAMES.get(one, one)
        if found in MICROMETRES or found in METRES:
            return found
    return text


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
    is_rgb = [n.lower()[:1] for n in names] == ["r", "g", "b"] and count == 3
    rgb = array.dtype == np.uint8 and (colours == RGB or is_rgb)
    ranges = (_window(c.get("window")) for c in channels)
    waves = (_number(c.get("emission_wavelength")) for c in channels)
    each = zip(names, ranges, waves, strict=True)
    return tuple(Band(n, found, wavelength=wave) for n, found, wave in each), rgb


def _number(value: Any) -> float | None:
    """Return a positive finite number; None for anything else."""
    usable = isinstance(value, int | float) and 0 < value < math.inf
    return float(value) if usable else None


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
    size is None if it is invalid, has no known unit of length, or is 1 without a unit.
    """
    lengths = [_length(units[axes.index(a)]) for a in "yx"]
    try:
        scales = _scales(meta, len(axes))
    except ValueError as error:
        said.append(f"The pixel size of {where} is not known: {error}.")
        return None, "pixel"
    y, x = (float(scales[axes.index(a)]) for a in "yx")
    stated = [units[axes.index(a)] for a in "yx"]
    if not (np.isfinite([y, x]).all() and y > 0 and x > 0):
        said.append(f"The pixel size of {where} ({y}, {x}) makes no sense: left out.")
        return None, "pixel"
    if not any(stated):
        return (None, "pixel") if (y, x) == (1, 1) else ((y, x), "pixel")
    (down, unit), (across, other) = lengths
    if not unit or not other:
        said.append(
            f"The pixel size of {where} is not known: it is ({y:g}, {x:g}), and its "
            f"units {stated} are no known lengths."
        )
        return None, "pixel"
    if unit != other:
        across *= 1e6 if unit == "micrometer" else 1e-6
    return (y * down, x * across), unit


def _length(unit: str) -> tuple[float, str]:
    """Return a unit as a multiple of ``micrometer`` or ``metre``; else 0 and empty."""
    if unit in MICROMETRES:
        return MICROMETRES[unit], "micrometer"
    return (METRES[unit], "metre") if unit in METRES else (0.0, "")


def _scales(meta: Any, ndim: int) -> np.ndarray:
    """Return the scale of level 0 along each axis.

    Raises ValueError if a scale is not a number for each axis, or if there is none
    although the axes are described (since OME-Zarr 0.4).
    """
    described = any(isinstance(a, dict) for a in meta.get("axes") or ())
    own = _scale(meta["datasets"][0], ndim)
    if own is None and described:
        raise ValueError("its level 0 has no scale")
    whole = _scale(meta, ndim)
    ones = np.ones(ndim)
    return (ones if own is None else own) * (ones if whole is None else whole)


def _scale(place: Any, ndim: int) -> np.ndarray | None:
    """Return the scale of the coordinate transformations; None without one."""
    for step in place.get("coordinateTransformations") or ():
        if isinstance(step, dict) and step.get("type") == "scale":
            stated = step.get("scale")
            try:
                scale = np.asarray(() if stated is None else stated)
            except ValueError:  # lists of different lengths
                scale = np.zeros(0)
            if scale.shape != (ndim,) or scale.dtype.kind not in "iuf":
                raise ValueError(f"its scale is {stated}, not {ndim} numbers")
            return scale
    return None


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
    found = omero.get("rdefs")
    defaults = found if isinstance(found, dict) else {}
    wanted = {a: defaults.get(f"default{a.upper()}") for a in "tz" if a in axes}
    return {
        a: i
        for a, i in wanted.items()
        if isinstance(i, int) and 0 <= i < array.shape[axes.index(a)]
    }


def filled_list(value: Any, what: str, path: PathOrUrl) -> list[Any]:
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
