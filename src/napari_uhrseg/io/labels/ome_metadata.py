"""OME-Zarr 0.5 metadata of a label store, and its empty arrays.

The root is the multiscale image ``confidence``, so that other programs can open the
store as an image. ``labels/prediction`` and ``labels/correction`` are its label
images. The root's attribute ``napari-uhrseg`` contains what OME-Zarr cannot express;
the array ``states`` contains the status of the chunks.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import zarr
from zarr.storage import MemoryStore

from napari_uhrseg.errors import without_credentials
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK, chunk_grid
from napari_uhrseg.io.paths import PathOrUrl, io_errors, is_url, to_path
from napari_uhrseg.io.zarr_setup import CheckedBloscCodec
from napari_uhrseg.types import LabelClass, Legend

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer

FORMAT_VERSION = 2  # version 1 has other names of keys
KEY = "napari-uhrseg"
LABELS = ("prediction", "correction")
LEVEL_CHUNK = (STORE_CHUNK, STORE_CHUNK)
# smooth labels of eleven classes: zstd without shuffling is smaller than lz4; for their
# confidence, lz4 with shuffled bits is as small as zstd and takes a third of the time
LABEL_CODEC = CheckedBloscCodec(cname="zstd", clevel=1, shuffle="noshuffle")
CONFIDENCE_CODEC = CheckedBloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
MAX_SIDE = 2**24  # pixels; the status of the chunks is then 1 GB

# OME-Zarr uses the names of UDUNITS-2, which has none for pixels
_UNITS = {"metre": "meter", "pixel": None}


def is_store(where: PathOrUrl) -> bool:
    """Return True if there is a label store, complete or not; False if unreadable."""
    try:
        root = json.loads((where / "zarr.json").read_bytes())
    except io_errors(where, ValueError, RecursionError):
        return False
    attributes = root.get("attributes") if isinstance(root, dict) else None
    return isinstance(attributes, dict) and KEY in attributes


class ImageLike(Protocol):
    """Interface of an image that a store is created for."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> PathOrUrl | None: ...
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
    """Metadata of the source image of a store, which never change."""

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
        """Return the metadata of an image; its URL is stored without credentials."""
        height, width = image.shape
        size, path = image.pixel_size, image.path
        if isinstance(path, Path):  # valid in any working folder
            path = path.absolute()
        return cls(
            image.name,
            without_credentials(str(path or "")),
            image.fingerprint,
            (int(height), int(width)),
            None if size is None else (float(size[0]), float(size[1])),
            image.unit,
            image.crs,
            None if image.affine is None else tuple(map(float, image.affine)),
        )

    def find_image(self, store: PathOrUrl) -> PathOrUrl | None:
        """Return the image's path, or one beside the store; None if it has no path."""
        if not self.path:
            return None
        recorded = to_path(self.path)
        if is_url(recorded) or is_url(store):
            return recorded
        beside = (store.parent / recorded, store.parent / recorded.name)
        return next((p for p in (recorded, *beside) if p.exists()), recorded)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the metadata from the attributes of a store.

        Raises
        ------
        ValueError, TypeError, KeyError
            If a value is missing, or is not what this program writes.
        """
        values = dict(data)
        for key, count in (("shape", 2), ("pixel_size", 2), ("affine", 6)):
            if values[key] is not None:
                values[key] = _numbers(f"image.{key}", values[key], count)
        for key in ("name", "path", "fingerprint", "unit", "crs"):
            if not isinstance(values[key] or "", str):
                raise ValueError(f"image.{key} is {values[key]!r}, not a text")
        if not all(isinstance(n, int) and 0 < n <= MAX_SIDE for n in values["shape"]):
            raise ValueError(f"image.shape is {values['shape']}")
        if values["pixel_size"] is not None and min(values["pixel_size"]) <= 0:
            raise ValueError(f"image.pixel_size is {values['pixel_size']}")
        return cls(**values)


def _numbers(name: str, values: Any, count: int) -> tuple[Any, ...]:
    """Return finite numbers as a tuple. Raises ValueError for anything else."""
    if (
        not isinstance(values, list | tuple)
        or len(values) != count
        or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values)
        or not all(map(math.isfinite, values))
    ):
        raise ValueError(f"{name} is {values!r}, not {count} numbers")
    return tuple(values)


def level_shapes(shape: tuple[int, int], count: int) -> tuple[tuple[int, int], ...]:
    """Return the shapes of ``count`` levels, each half the one before, rounded up.

    Raises
    ------
    ValueError
        If the image has no pixels.
    """
    height, width = shape
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height} x {width} pixels has no labels")
    shapes = [(height, width)]
    while len(shapes) < count:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return tuple(shapes)


def count_levels(shape: tuple[int, int], coarsest: int) -> int:
    """Return the number of levels down to at most ``coarsest`` pixels per side."""
    count = 1
    while max(level_shapes(shape, count)[-1]) > coarsest:
        count += 1
    return count


def stored_level_count(attributes: Mapping[str, Any]) -> int:
    """Return the number of levels from the attributes of a store's root.

    Raises
    ------
    ValueError
        If the attributes list no levels.
    """
    try:
        return len(attributes["ome"]["multiscales"][0]["datasets"])
    except (LookupError, TypeError) as error:
        raise ValueError("its metadata list no levels") from error


def status_chunk(grid: tuple[int, int]) -> tuple[int, int]:
    """Return the chunks of the status of a grid of chunks.

    It is one chunk for up to a million pixels a side: a new status is a single file.
    """
    return min(1024, grid[0]), min(1024, grid[1])


def empty_store_files(
    info: StoreInfo, legend: Legend, coarsest: int
) -> dict[str, bytes]:
    """Return the files of an empty store, which has no chunks, by their paths.

    Zarr is not given the folder: where one of its parallel writes fails, it does not
    wait for the others.

    Parameters
    ----------
    info
        Metadata of the source image.
    legend
        The first classes.
    coarsest
        Largest side of the coarsest level, in pixels.
    """
    count = count_levels(info.shape, coarsest)
    files: dict[str, Buffer] = {}
    root = zarr.open_group(MemoryStore(files), mode="w-", zarr_format=3)
    labels = root.create_group("labels")
    groups = {"confidence": root, **{n: labels.create_group(n) for n in LABELS}}
    for name, group in groups.items():
        for level, shape in enumerate(level_shapes(info.shape, count)):
            group.create_array(
                str(level),
                shape=shape,
                chunks=LEVEL_CHUNK,
                dtype="uint8",
                fill_value=0,
                compressors=[CONFIDENCE_CODEC if name == "confidence" else LABEL_CODEC],
                dimension_names=("y", "x"),
            )
    grid = chunk_grid(info.shape)
    root.create_array(
        "states",
        shape=grid,
        chunks=status_chunk(grid),
        dtype="uint32",
        fill_value=0,
    )
    labels.update_attributes({"ome": {"version": "0.5", "labels": list(LABELS)}})
    for name in LABELS:
        groups[name].update_attributes(
            {"ome": label_attributes(name, info, legend, {}, count)}
        )
    ome = {
        "version": "0.5",
        "multiscales": [_multiscale("confidence", info, "mean of the non-zero", count)],
    }
    root.update_attributes({"ome": ome, KEY: own_attributes(info, legend, (), {})})
    return {name: data.to_bytes() for name, data in files.items()}


def own_attributes(
    info: StoreInfo,
    legend: Legend,
    runs: tuple[dict[str, Any], ...],
    aliases: Mapping[int, int],
) -> dict[str, Any]:
    """Return the root's attribute ``napari-uhrseg``.

    Parameters
    ----------
    info
        Metadata of the source image.
    legend
        All classes, including merged ones.
    runs
        Records of all runs, as dicts.
    aliases
        Merged class id to the id of the displayed class.

    Returns
    -------
    JSON object, whose version is `FORMAT_VERSION`.
    """
    merged = {"aliases": {str(k): v for k, v in aliases.items()}} if aliases else {}
    return {
        "format_version": FORMAT_VERSION,
        "image": asdict(info),
        "legend": [c.to_dict() for c in legend],
        "runs": list(runs),
        **merged,
    }


def legend_of(classes: list[Mapping[str, Any]]) -> Legend:
    """Return the legend from its stored form."""
    return Legend(tuple(LabelClass.from_dict(c) for c in classes))


def label_attributes(
    name: str,
    info: StoreInfo,
    legend: Legend,
    aliases: Mapping[int, int],
    count: int,
) -> dict[str, Any]:
    """Return the ``ome`` attribute of a label image: its levels and its legend.

    The values of merged classes have the name and colour of the displayed class.

    Parameters
    ----------
    name
        "prediction" or "correction".
    info
        Metadata of the source image.
    legend
        All classes, including merged ones.
    aliases
        Merged class id to the id of the displayed class.
    count
        Number of levels.

    Returns
    -------
    JSON object with the multiscale and the ``image-label`` metadata.
    """
    by_id = {c.id: c for c in legend}
    shown = {c.id: by_id[aliases.get(c.id, c.id)] for c in legend}
    colors = [{"label-value": i, "rgba": [*c.rgb, 255]} for i, c in shown.items()]
    properties = [{"label-value": i, "class": c.name} for i, c in shown.items()]
    return {
        "version": "0.5",
        "multiscales": [_multiscale(name, info, "majority of the non-zero", count)],
        "image-label": {
            "colors": colors,
            "properties": properties,
            "source": {"image": "../../"},
        },
    }


def _multiscale(name: str, info: StoreInfo, method: str, count: int) -> dict[str, Any]:
    unit = _UNITS.get(info.unit, info.unit) if info.pixel_size else None
    size = info.pixel_size or (1.0, 1.0)
    axis = {"type": "space"} | ({"unit": unit} if unit else {})
    return {
        "name": name,
        "type": method,
        "axes": [{"name": "y", **axis}, {"name": "x", **axis}],
        "datasets": [
            {"path": str(k), "coordinateTransformations": _transform(size, 2**k)}
            for k in range(count)
        ],
    }


def _transform(size: tuple[float, float], factor: int) -> list[dict[str, Any]]:
    """Return scale and translation of a level from the centres of its pixels."""
    scale = {"type": "scale", "scale": [s * factor for s in size]}
    shift = [s * (factor - 1) / 2 for s in size]
    return [scale, {"type": "translation", "translation": shift}]
