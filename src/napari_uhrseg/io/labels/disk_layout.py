"""A label store's folder: made whole, and checked before it is used."""

import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from upath import UPath

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels import chunk_status as runs
from napari_uhrseg.io.labels import ome_metadata
from napari_uhrseg.io.labels.write_lock import revoke_write_token
from napari_uhrseg.io.paths import Address, error_text, for_zarr, io_errors, is_url
from napari_uhrseg.types import Legend, Run

Levels = tuple[zarr.Array, ...]
CORRECTION = "labels/correction"


@dataclass(frozen=True, slots=True)
class Tree:
    """The arrays of a store, and what its root said when it was opened."""

    root: zarr.Group
    info: ome_metadata.StoreInfo
    legend: Legend
    aliases: dict[int, int]
    runs: tuple[Run, ...]
    confidence: Levels
    prediction: Levels
    correction: Levels
    states: zarr.Array

    def save(
        self, legend: Legend, records: tuple[Run, ...], aliases: dict[int, int]
    ) -> None:
        """Write runs and legend: one file, replaced whole."""
        dicts = tuple(r.to_dict() for r in records)
        own = ome_metadata.own_attributes(self.info, legend, dicts, aliases)
        self.root.update_attributes({ome_metadata.KEY: own})

    def save_legend(self, legend: Legend, aliases: dict[int, int]) -> None:
        """Bring the legend in the image-label metadata in step with our own."""
        for name in ome_metadata.LABELS:
            group = self.root[f"labels/{name}"]
            wanted = ome_metadata.label_attributes(name, self.info, legend, aliases)
            if group.attrs.get("ome") != wanted:
                group.update_attributes({"ome": wanted})


def create_tree(path: Address, info: ome_metadata.StoreInfo, legend: Legend) -> None:
    """Make an empty store, whole or not at all.

    Raises StoreError where there is something at the path, or it cannot be made.
    """
    try:
        if path.exists() or (isinstance(path, Path) and path.is_symlink()):
            raise _exists(path)
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _make(path, info, legend)
        else:
            _upload(path, info, legend)
    except StoreError:
        raise
    except io_errors(path) as error:
        raise StoreError(
            f"A label store cannot be made at {path}: {error_text(error)}.",
            "Choose a place that you may write to and that has free space.",
        ) from error


def _exists(path: Address) -> StoreError:
    return StoreError(
        f"{path} exists already; nothing was written.",
        "Open it to continue it, or choose another name.",
    )


def _make(path: Path, info: ome_metadata.StoreInfo, legend: Legend) -> None:
    building = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        ome_metadata.write_tree(building, info, legend)
        building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _upload(path: UPath, info: ome_metadata.StoreInfo, legend: Legend) -> None:
    """The root's metadata comes last, and only where there is none: it is the store."""
    with tempfile.TemporaryDirectory(prefix="napari-uhrseg-") as folder:
        made = Path(folder) / "store"
        ome_metadata.write_tree(made, info, legend)
        files = {str(f.relative_to(made)): f.read_bytes()
                 for f in made.rglob("*.json")}  # fmt: skip
    root = files.pop("zarr.json")
    path.fs.pipe({(path / name).path: data for name, data in files.items()})
    try:
        path.fs.pipe_file((path / "zarr.json").path, root, mode="create")
    except FileExistsError as error:  # another process was quicker
        raise _exists(path) from error


def check_there(path: Address) -> None:
    """Raise StoreError where there is nothing like a store at the path."""
    try:
        (path / "zarr.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        what = "is not a label store" if path.exists() else "does not exist"
        raise StoreError(
            f"{path} {what}.", "Choose the folder of a label store."
        ) from None
    except io_errors(path) as error:
        raise StoreError(
            f"{path} cannot be opened: {error_text(error)}.",
            "Ask for the right to read there, or copy the store.",
        ) from error


def load_tree(path: Address, *, write: bool) -> Tree:
    """Open what is there. Raises StoreError where it is not a whole label store."""
    try:
        root = zarr.open_group(
            for_zarr(path), mode="r+" if write else "r", zarr_format=3
        )
        own: Any = root.attrs.get(ome_metadata.KEY)
        if own is None:
            raise StoreError(
                f"{path} is not a label store of napari-uhrseg.",
                "Choose the folder of a label store.",
            )
        if own["format_version"] != ome_metadata.FORMAT_VERSION:
            raise StoreError(
                f"{path} has format version {own['format_version']}; this program "
                f"reads {ome_metadata.FORMAT_VERSION}.",
                "Update napari-uhrseg.",
            )
        tree = _checked(root, own)
        if write:  # take up after a writer that was killed
            revoke_write_token(path)  # its workers write no more
            # an object of an object store is there whole, or not at all
            for left in () if is_url(path) else path.rglob("*.partial"):
                # another process may be writing corrections at this moment
                if path / CORRECTION not in left.parents:
                    left.unlink(missing_ok=True)
            tree.save_legend(tree.legend, tree.aliases)
        return tree
    except StoreError:
        raise
    except io_errors(path, KeyError, TypeError, ValueError, AttributeError,
                    RuntimeError) as error:  # fmt: skip
        raise StoreError(
            f"The label store {path} is damaged: {error}.",
            "Copy it again from where it came from, or segment into a new one.",
        ) from error


def _checked(root: zarr.Group, own: dict[str, Any]) -> Tree:
    info = ome_metadata.StoreInfo.from_dict(own["image"])
    tree = Tree(
        root,
        info,
        ome_metadata.legend_of(own["legend"]),
        {int(k): int(v) for k, v in own.get("aliases", {}).items()},
        tuple(Run.from_dict(r) for r in own["runs"]),
        _levels(root, "", info),
        _levels(root, "labels/prediction/", info),
        _levels(root, "labels/correction/", info),
        _array(root, "states", runs.chunk_grid(info.shape), np.uint32),
    )
    if not {*tree.aliases, *tree.aliases.values()} <= {c.id for c in tree.legend}:
        raise ValueError("a merged class is not in the legend")
    if [r.id for r in tree.runs] != list(range(1, len(tree.runs) + 1)):
        raise ValueError("its runs are not numbered from 1")
    if runs.run_ids(np.asarray(tree.states[:])).max() > len(tree.runs):
        raise ValueError("chunks name a run that is not recorded")
    return tree


def _levels(root: zarr.Group, prefix: str, info: ome_metadata.StoreInfo) -> Levels:
    shapes = ome_metadata.level_shapes(info.shape)
    return tuple(
        _array(root, f"{prefix}{k}", shape, np.uint8) for k, shape in enumerate(shapes)
    )


def _array(
    root: zarr.Group, name: str, shape: tuple[int, int], dtype: type
) -> zarr.Array:
    try:
        array = root[name]
    except KeyError as error:
        raise ValueError(f"the array {name} is missing") from error
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is no array")
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype} of {array.shape}, not {shape}")
    return array


def open_corrections(path: Address, shape: tuple[int, int], *, write: bool) -> Levels:
    """The levels of the corrections, which have a writer of their own.

    Raises StoreError where they are damaged.
    """
    try:
        group = zarr.open_group(
            for_zarr(path / CORRECTION), mode="r+" if write else "r"
        )
        if write:  # take up after a writer that was killed
            for left in (path / CORRECTION).rglob("*.partial"):
                left.unlink(missing_ok=True)
        return tuple(
            _array(group, str(k), size, np.uint8)
            for k, size in enumerate(ome_metadata.level_shapes(shape))
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"The corrections in {path} are damaged: {error}.",
            "Copy the store again from where it came from.",
        ) from error
