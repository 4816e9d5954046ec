"""The label store on disk as OME-Zarr 0.5: its arrays and what is said of them.

The root is the multiscale image ``confidence``, so that the store is an image
that other programs open; ``labels/prediction`` and ``labels/correction`` are its
labels. What OME-Zarr has no word for stands in the root's attribute
``napari-uhrseg``, the chunk states in the array ``states``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import zarr
from zarr.codecs import BloscCodec

from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK, chunk_grid
from napari_uhrseg.io.paths import Address, io_errors
from napari_uhrseg.types import LabelClass, Legend

COARSEST = 2048
FORMAT_VERSION = 1
KEY = "napari-uhrseg"
LABELS = ("prediction", "correction")

# OME-Zarr wants the names of UDUNITS-2; a length in pixels has none
_UNITS = {"metre": "meter", "pixel": None}


def is_store(where: Address) -> bool:
    """Whether a label store begins there, whole or not; False if unreadable."""
    try:
        root = json.loads((where / "zarr.json").read_bytes())
    except io_errors(where, ValueError):
        return False
    attributes = root.get("attributes") if isinstance(root, dict) else None
    return isinstance(attributes, dict) and KEY in attributes


class ImageLike(Protocol):
    """What a store wants to know of the image it belongs to."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Address | None: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def pixel_size(self) -> tuple[float, float] | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def crs(self) -> str | None: ...
    @property
    def affine(self) -> tuple[float, ...] | None: ...


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The image a store belongs to; never changed once written."""

    name: str
    path: str
    fingerprint: str
    shape: tuple[int, int]
    pixel_size: tuple[float, float] | None
    unit: str
    crs: str | None
    affine: tuple[float, ...] | None

    @classmethod
    def of(cls, image: ImageLike) -> Self:
        height, width = image.shape
        size, path = image.pixel_size, image.path
        if isinstance(path, Path):  # good from any folder
            path = path.absolute()
        return cls(
            image.name,
            str(path or ""),
            image.fingerprint,
            (int(height), int(width)),
            None if size is None else (float(size[0]), float(size[1])),
            image.unit,
            image.crs,
            None if image.affine is None else tuple(map(float, image.affine)),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        for key in ("shape", "pixel_size", "affine"):
            values[key] = None if values[key] is None else tuple(values[key])
        info = cls(**values)
        level_shapes(info.shape)
        return info


def level_shapes(shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Level 0 and its halves (rounded up), until both sides are at most 2048."""
    height, width = shape
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height} x {width} pixels has no labels")
    shapes = [(height, width)]
    while max(shapes[-1]) > COARSEST:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return tuple(shapes)


def write_tree(path: Path, info: StoreInfo, legend: Legend) -> None:
    """Write an empty store into a new folder. No chunk of it exists yet."""
    root = zarr.open_group(path, mode="w-", zarr_format=3)
    labels = root.create_group("labels")
    groups = {"confidence": root, **{n: labels.create_group(n) for n in LABELS}}
    for group in groups.values():
        for level, shape in enumerate(level_shapes(info.shape)):
            group.create_array(
                str(level),
                shape=shape,
                chunks=(STORE_CHUNK, STORE_CHUNK),
                dtype="uint8",
                fill_value=0,
                compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle")],
                dimension_names=("y", "x"),
            )
    # one chunk up to a million pixels a side: a new state is a single file
    root.create_array(
        "states",
        shape=chunk_grid(info.shape),
        chunks=tuple(min(1024, n) for n in chunk_grid(info.shape)),
        dtype="uint32",
        fill_value=0,
    )
    labels.update_attributes({"ome": {"version": "0.5", "labels": list(LABELS)}})
    for name in LABELS:
        groups[name].update_attributes(
            {"ome": label_attributes(name, info, legend, {})}
        )
    ome = {
        "version": "0.5",
        "multiscales": [_multiscale("confidence", info, "mean of the non-zero")],
    }
    root.update_attributes({"ome": ome, KEY: own_attributes(info, legend, (), {})})


def own_attributes(
    info: StoreInfo,
    legend: Legend,
    runs: tuple[dict[str, Any], ...],
    aliases: Mapping[int, int],
) -> dict[str, Any]:
    """What the root says in our own words; of merged classes where there are."""
    merged = {"aliases": {str(k): v for k, v in aliases.items()}} if aliases else {}
    return {
        "format_version": FORMAT_VERSION,
        "image": asdict(info),
        "legend": [c.to_dict() for c in legend],
        "runs": list(runs),
        **merged,
    }


def legend_of(classes: list[Mapping[str, Any]]) -> Legend:
    return Legend(tuple(LabelClass.from_dict(c) for c in classes))


def label_attributes(
    name: str, info: StoreInfo, legend: Legend, aliases: Mapping[int, int]
) -> dict[str, Any]:
    """The ``ome`` attribute of a label image: its levels and its legend.

    The values of merged classes have the name and colour they are shown in.
    """
    by_id = {c.id: c for c in legend}
    shown = {c.id: by_id[aliases.get(c.id, c.id)] for c in legend}
    colors = [{"label-value": i, "rgba": [*c.rgb, 255]} for i, c in shown.items()]
    properties = [{"label-value": i, "class": c.name} for i, c in shown.items()]
    return {
        "version": "0.5",
        "multiscales": [_multiscale(name, info, "majority of the non-zero")],
        "image-label": {
            "colors": colors,
            "properties": properties,
            "source": {"image": "../../"},
        },
    }


def _multiscale(name: str, info: StoreInfo, method: str) -> dict[str, Any]:
    unit = _UNITS.get(info.unit, info.unit) if info.pixel_size else None
    size = info.pixel_size or (1.0, 1.0)
    axis = {"type": "space"} | ({"unit": unit} if unit else {})
    return {
        "name": name,
        "type": method,
        "axes": [{"name": "y", **axis}, {"name": "x", **axis}],
        "datasets": [
            {"path": str(k), "coordinateTransformations": _transform(size, 2**k)}
            for k in range(len(level_shapes(info.shape)))
        ],
    }


def _transform(size: tuple[float, float], factor: int) -> list[dict[str, Any]]:
    """Where a level's pixels lie; its first centre is between its children's."""
    scale = {"type": "scale", "scale": [s * factor for s in size]}
    shift = [s * (factor - 1) / 2 for s in size]
    return [scale, {"type": "translation", "translation": shift}]
