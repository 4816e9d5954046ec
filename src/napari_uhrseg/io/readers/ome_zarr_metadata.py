"""What the metadata of an OME-Zarr image say."""

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
    """One letter and one unit for each axis; 0.1 and 0.2 do not state them."""
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
            f"The axes {', '.join(names)} of {where} cannot be told apart.",
            "Name them t, c, z, y and x.",
        )
    units = [str(a.get("unit") or "") for a in described]
    return "".join(letters), [NAMES.get(u, u) for u in units]


def bands(
    omero: Mapping[str, Any], axes: str, array: zarr.Array
) -> tuple[tuple[Band, ...], bool]:
    """Names and ranges of the channels, and whether they are red, green and blue."""
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
    """Height and width of a pixel in µm or metres, where the metadata say so."""
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
    """The scale among the coordinate transformations; 1 without one."""
    for step in place.get("coordinateTransformations") or ():
        if isinstance(step, dict) and step.get("type") == "scale":
            scale = np.asarray(step.get("scale", ()))
            if scale.shape == (ndim,) and scale.dtype.kind in "iuf":
                return scale
    return np.ones(ndim)


def plane(omero: Mapping[str, Any], axes: str, array: zarr.Array) -> dict[str, int]:
    """The plane that the store says to show first."""
    told = omero.get("rdefs")
    told = told if isinstance(told, dict) else {}
    wanted = {a: told.get(f"default{a.upper()}") for a in "tz" if a in axes}
    return {
        a: i
        for a, i in wanted.items()
        if isinstance(i, int) and 0 <= i < array.shape[axes.index(a)]
    }


def filled_list(value: Any, what: str, path: Address) -> list[Any]:
    if isinstance(value, list) and value:
        return value
    raise OpenError(
        f"The metadata of {path} are wrong: {what} is missing or empty.",
        "Export the image again as OME-Zarr.",
    )
