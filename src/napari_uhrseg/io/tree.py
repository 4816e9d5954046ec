"""A label store's folder: made whole, locked, and checked before it is used."""

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import zarr

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io import ome, runs
from napari_uhrseg.io.owned import revoke
from napari_uhrseg.types import Legend, Run

Levels = tuple[zarr.Array, ...]
CORRECTION = "labels/correction"


@dataclass(frozen=True, slots=True)
class Tree:
    """The arrays of a store, and what its root said when it was opened."""

    root: zarr.Group
    info: ome.StoreInfo
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
        own = ome.own_attributes(self.info, legend, dicts, aliases)
        self.root.update_attributes({ome.KEY: own})

    def save_legend(self, legend: Legend, aliases: dict[int, int]) -> None:
        """Bring the legend in the image-label metadata in step with our own."""
        for name in ome.LABELS:
            group = self.root[f"labels/{name}"]
            wanted = ome.label_attributes(name, self.info, legend, aliases)
            if group.attrs.get("ome") != wanted:
                group.update_attributes({"ome": wanted})


def create_tree(path: Path, info: ome.StoreInfo, legend: Legend) -> None:
    """Make an empty store, whole or not at all.

    Raises StoreError where there is something at the path, or it cannot be made.
    """
    if os.path.lexists(path):
        raise StoreError(
            f"{path} exists already; nothing was written.",
            "Open it to continue it, or choose another name.",
        )
    building = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ome.write_tree(building, info, legend)
        building.rename(path)
    except OSError as error:
        raise StoreError(
            f"A label store cannot be made at {path}: {error.strerror or error}.",
            "Choose a folder that you may write to, on a disk with free space.",
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def check_there(path: Path) -> None:
    """Raise StoreError where there is nothing like a store at the path."""
    try:
        (path / "zarr.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        what = "is not a label store" if os.path.lexists(path) else "does not exist"
        raise StoreError(
            f"{path} {what}.", "Choose the folder of a label store."
        ) from None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened: {error.strerror or error}.",
            "Ask for the right to read there, or copy the store.",
        ) from error


def load_tree(path: Path, *, write: bool) -> Tree:
    """Open what is there. Raises StoreError where it is not a whole label store."""
    try:
        root = zarr.open_group(path, mode="r+" if write else "r", zarr_format=3)
        own: Any = root.attrs.get(ome.KEY)
        if own is None:
            raise StoreError(
                f"{path} is not a label store of napari-uhrseg.",
                "Choose the folder of a label store.",
            )
        if own["format_version"] != ome.FORMAT_VERSION:
            raise StoreError(
                f"{path} has format version {own['format_version']}; this program "
                f"reads {ome.FORMAT_VERSION}.",
                "Update napari-uhrseg.",
            )
        tree = _checked(root, own)
        if write:  # take up after a writer that was killed
            for left in path.rglob("*.partial"):
                # another process may be writing corrections at this moment
                if path / CORRECTION not in left.parents:
                    left.unlink(missing_ok=True)
            tree.save_legend(tree.legend, tree.aliases)
        return tree
    except StoreError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OSError,
            RuntimeError) as error:  # fmt: skip
        raise StoreError(
            f"The label store {path} is damaged: {error}.",
            "Copy it again from where it came from, or segment into a new one.",
        ) from error


def _checked(root: zarr.Group, own: dict[str, Any]) -> Tree:
    info = ome.StoreInfo.from_dict(own["image"])
    tree = Tree(
        root,
        info,
        ome.legend_of(own["legend"]),
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


def _levels(root: zarr.Group, prefix: str, info: ome.StoreInfo) -> Levels:
    shapes = ome.level_shapes(info.shape)
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


def open_corrections(path: Path, shape: tuple[int, int], *, write: bool) -> Levels:
    """The levels of the corrections, which have a writer of their own.

    Raises StoreError where they are damaged.
    """
    try:
        group = zarr.open_group(path / CORRECTION, mode="r+" if write else "r")
        if write:  # take up after a writer that was killed
            for left in (path / CORRECTION).rglob("*.partial"):
                left.unlink(missing_ok=True)
        return tuple(
            _array(group, str(k), size, np.uint8)
            for k, size in enumerate(ome.level_shapes(shape))
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(
            f"The corrections in {path} are damaged: {error}.",
            "Copy the store again from where it came from.",
        ) from error


def lock(path: Path, name: str = ".lock", what: str = "{} is") -> filelock.BaseFileLock:
    """A writer's lock in a store; the system frees it when its process dies."""
    held = filelock.FileLock(path / name, timeout=0, thread_local=False)
    who = what.format(path)
    try:
        held.acquire()
        revoke(path)  # workers of a client that died write no more
    except filelock.Timeout as error:
        raise StoreError(
            f"{who} being written by another window or process.",
            "Wait until it is done, or close it there.",
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened for writing: {error.strerror or error}.",
            "Ask for the right to write there, or copy the store.",
        ) from error
    return held
