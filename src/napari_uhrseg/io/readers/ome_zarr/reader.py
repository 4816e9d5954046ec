"""Reader of OME-Zarr 0.1 to 0.5 (zarr v2 and v3) and of bare zarr arrays.

It opens single images, collections, plates and wells.
"""

import itertools
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import ArraySource
from napari_uhrseg.io.paths import PathOrUrl, for_zarr
from napari_uhrseg.io.readers.common import is_zarr
from napari_uhrseg.io.readers.ome_zarr import metadata
from napari_uhrseg.io.readers.ome_zarr.fingerprint import fingerprint_array, has_chunks
from napari_uhrseg.io.readers.ome_zarr.separator import with_separator
from napari_uhrseg.io.readers.registry import DIRECTORY, register_reader
from napari_uhrseg.types import Limits


@dataclass(frozen=True, slots=True)
class _Series:
    """Image in a store: path of its group and index of its multiscale."""

    path: str
    number: int = 0


def _priority(path: PathOrUrl) -> float:
    return 10.0 if is_zarr(path) else 0.0


@register_reader(".zarr", DIRECTORY, title="OME-Zarr", priority=_priority, urls=True)
def open_ome_zarr(
    path: PathOrUrl,
    series: int | None,
    limits: Limits = Limits(),
) -> Image:
    """Open the image of an OME-Zarr folder: number ``series``, else the first.

    Parameters
    ----------
    path
        Folder or URL.
    series
        Index of the image.
    limits
        Ignored.

    Raises
    ------
    OpenError
        If the store cannot be read or has no such image.
    """
    node = _open(path)
    if isinstance(node, zarr.Array):
        return _bare(path, node)
    found, said = _find(path, node, series)
    number = 0 if series is None else series
    if not 0 <= number < len(found):
        raise OpenError(
            f"{path.name} has no image number {number}: it holds {len(found)}.",
            f"Choose one from 0 to {len(found) - 1}.",
        )
    image = _image(path, node, found[number], said)
    image.series = tuple(s.path or f"image {s.number}" for s in found)
    image.series_number = number
    return image


def _open(path: PathOrUrl) -> zarr.Array | zarr.Group:
    try:
        return zarr.open(for_zarr(path), mode="r")
    # zarr and its codecs raise many kinds of error for damaged files
    except Exception as error:
        raise OpenError(
            f"{path.name} is not a zarr folder that can be read: {error}.",
            "Choose the folder that holds zarr.json, .zgroup or .zarray; "
            "it may be incomplete: copy it again.",
        ) from error


def _attributes(group: zarr.Group) -> Mapping[str, Any]:
    """Return the OME metadata; since 0.5 they are under the key ``ome``."""
    every = dict(group.attrs)
    own = every.get("ome")
    return own if isinstance(own, dict) else every


def _group(parent: zarr.Group, name: str) -> zarr.Group | None:
    try:
        found = parent[name] if name else parent
    except (KeyError, OSError, ValueError):
        return None
    return found if isinstance(found, zarr.Group) else None


# images of a store


def _find(
    path: PathOrUrl, root: zarr.Group, series: int | None
) -> tuple[list[_Series], list[str]]:
    """Return the images of a store, and warnings about the choice."""
    attributes = _attributes(root)
    if "multiscales" in attributes:
        count = len(
            metadata.filled_list(attributes["multiscales"], "multiscales", path)
        )
        found, what = [_Series("", i) for i in range(count)], "images"
    elif "plate" in attributes:
        found, what = _of_plate(path, root, attributes["plate"]), "fields"
    elif "well" in attributes:
        fields = metadata.filled_list(
            attributes["well"].get("images"), "well/images", path
        )
        found, what = [_Series(str(f["path"])) for f in fields], "fields"
    else:
        found, what = _of_collection(root), "images"
    if not found:
        raise OpenError(
            f"{path.name} is a zarr folder without an image in it: its metadata names "
            "no multiscales.",
            _inside(path, root),
        )
    if len(found) > 1 and series is None:
        first = found[0].path or "the first"
        return found, [
            f"{path.name} holds {len(found)} {what}; {first} is shown. "
            "The others are chosen as its series."
        ]
    return found, []


def _of_collection(root: zarr.Group) -> list[_Series]:
    """Return the images of a bioformats2raw collection, which are named by number."""
    ome = _group(root, "OME")
    listed = _attributes(ome).get("series") if ome is not None else None
    names = listed if isinstance(listed, list) else list(root.group_keys())
    order = sorted(map(str, names), key=lambda n: (not n.isdigit(), n.zfill(9)))
    groups = ((name, _group(root, name)) for name in order)
    return [_Series(n) for n, g in groups if g and "multiscales" in _attributes(g)]


def _of_plate(path: PathOrUrl, root: zarr.Group, plate: Any) -> list[_Series]:
    """Return the fields of all wells of a plate."""
    wells = metadata.filled_list(
        plate.get("wells") if isinstance(plate, dict) else None, "plate/wells", path
    )
    groups = ((str(w.get("path")), _group(root, str(w.get("path")))) for w in wells)
    return [
        _Series(f"{name}/{field['path']}")
        for name, well in groups
        if well is not None
        for field in _attributes(well).get("well", {}).get("images", [])
    ]


def _inside(path: PathOrUrl, root: zarr.Group) -> str:
    names = sorted(map(str, root.keys()))[:8]
    if not names:
        return "The folder is empty; it may be incomplete: copy it again."
    return f"It holds {', '.join(names)}: open one of these, as {path.name}/{names[0]}."


# one image


def _image(
    path: PathOrUrl, root: zarr.Group, series: _Series, said: list[str]
) -> Image:
    group = _group(root, series.path)
    where = f"{path.name}/{series.path}".rstrip("/")
    if group is None:
        raise OpenError(
            f"{where} is named in the metadata but is not there.",
            "The folder may be incomplete: copy it again.",
        )
    attributes = _attributes(group)
    every = metadata.filled_list(attributes.get("multiscales"), "multiscales", path)
    meta = every[series.number]
    levels = _levels(where, group, meta, said)
    axes, units = metadata.axes(where, meta, levels[0].ndim)
    _check(where, levels[0])
    levels = with_separator(path, _fitting(where, levels, axes, said), said)
    levels = _not_empty(path, levels, said)
    omero = attributes.get("omero")
    omero = omero if isinstance(omero, dict) else {}
    bands, rgb = metadata.bands(omero, axes, levels[0])
    pixel_size, unit = metadata.pixel_size(where, meta, axes, units, said)
    labels = _group(group, "labels")
    if labels is not None and _attributes(labels).get("labels"):
        names = ", ".join(map(str, _attributes(labels)["labels"]))
        said.append(f"{where} also holds labels ({names}), which are not shown.")
    return Image(
        name=_name(path, series),
        sources=[ArraySource(level) for level in levels],
        source_axes=axes,
        path=path,
        fingerprint=fingerprint_array(
            path, [series.path, series.number, meta], levels[0], said
        ),
        bands=bands,
        rgb_bands=(0, 1, 2) if rgb else (),
        pixel_size=pixel_size,
        unit=unit,
        plane=metadata.plane(omero, axes, levels[0]),
        warnings=tuple(said),
    )


def _bare(path: PathOrUrl, array: zarr.Array) -> Image:
    """Return the image of an array without metadata."""
    axes = _bare_axes(array)
    colour = axes == "yxs"
    if not 2 <= array.ndim <= 5:
        raise OpenError(
            f"{path.name} has {array.ndim} axes; an image has 2 to 5.",
            "Choose an array of an image.",
        )
    _check(path.name, array)
    said = [f"{path.name} is a bare zarr array: its pixel size is not known."]
    (array,) = with_separator(path, [array], said)
    return Image(
        name=path.name.removesuffix(".zarr"),
        sources=[ArraySource(array)],
        source_axes=axes,
        path=path,
        fingerprint=fingerprint_array(path, ["", 0, None], array, said),
        rgb_bands=(0, 1, 2) if colour else (),
        alpha=3 if colour and array.shape[-1] == 4 else None,
        warnings=tuple(said),
    )


def _bare_axes(array: zarr.Array) -> str:
    """Return the axes (…, y, x), or (y, x, 3 or 4) for 8-bit colour."""
    if array.ndim != 3:
        return "tczyx"[-array.ndim :]
    if array.shape[-1] in (3, 4) and array.dtype == np.uint8:
        return "yxs"
    return "cyx" if array.shape[0] <= 16 else "zyx"


def _levels(
    where: str, group: zarr.Group, meta: Any, said: list[str]
) -> list[zarr.Array]:
    """Return the arrays of a multiscale, from fine to coarse."""
    datasets = metadata.filled_list(
        meta.get("datasets") if isinstance(meta, dict) else None,
        "multiscales/datasets",
        Path(where),
    )
    found: list[zarr.Array] = []
    for dataset in datasets:
        name = str(dataset.get("path")) if isinstance(dataset, dict) else "?"
        try:
            array = group[posixpath.normpath(name).lstrip("/")]
        # the metadata of an array may be missing, truncated or name an unknown codec
        except Exception as error:
            if not found:
                raise OpenError(
                    f"The full image of {where}, its array {name}, cannot be opened: "
                    f"{error}.",
                    "The folder may be incomplete, or compressed by a codec that is "
                    "not installed: copy or export it again.",
                ) from error
            said.append(
                f"Level {name} of {where} is missing or damaged; it is left out."
            )
            continue
        if isinstance(array, zarr.Array):
            found.append(array)
    if not found:
        raise OpenError(f"{where} names no arrays.", "Export the image again.")
    return found


def _check(where: str, first: zarr.Array) -> None:
    """Raise OpenError if level 0 cannot be displayed."""
    if first.dtype.kind not in "buif":
        raise OpenError(
            f"{where} holds {first.dtype} values, which cannot be shown.",
            "Convert it to integers or real numbers.",
        )
    if 0 in first.shape:
        raise OpenError(f"{where} has no pixels: {first.shape}.", "Export it again.")


def _fitting(
    where: str, levels: Sequence[zarr.Array], axes: str, said: list[str]
) -> list[zarr.Array]:
    """Return level 0 and the levels that differ from it only in height and width.

    A warning is added for the others.

    Raises
    ------
    OpenError
        If the levels are not sorted from fine to coarse.
    """
    kept: list[zarr.Array] = []
    others = [i for i, a in enumerate(axes) if a not in "yx"]
    for level in levels:
        same = len(level.shape) == len(axes) and level.dtype == levels[0].dtype
        if same and all(level.shape[i] == levels[0].shape[i] for i in others):
            kept.append(level)
            continue
        said.append(
            f"Level {level.path} of {where} is left out: its shape {level.shape} and "
            f"type {level.dtype} do not fit those of level 0, {levels[0].shape} "
            f"{levels[0].dtype}."
        )
    y, x = axes.index("y"), axes.index("x")
    sizes = [(level.shape[y], level.shape[x]) for level in kept]
    if any(b[0] > a[0] or b[1] > a[1] for a, b in itertools.pairwise(sizes)):
        raise OpenError(
            f"The levels of {where} are not sorted from fine to coarse.",
            "Export the image again.",
        )
    return kept


def _not_empty(
    path: PathOrUrl, levels: list[zarr.Array], said: list[str]
) -> list[zarr.Array]:
    """Return the levels without coarser ones of which no chunk is found.

    A warning is added for each of them. All are returned if level 0 has no chunk.
    """
    if len(levels) == 1 or not has_chunks(path, levels[0]):
        return levels
    kept = levels[:1]
    for level in levels[1:]:
        if has_chunks(path, level):
            kept.append(level)
        else:
            said.append(f"Level {level.path} is left out: no chunk of it was found.")
    return kept


def _name(path: PathOrUrl, series: _Series) -> str:
    name = path.name
    for suffix in (".zarr", ".ome"):
        name = name.removesuffix(suffix)
    inner = series.path or (str(series.number) if series.number else "")
    return f"{name} {inner}".strip()
