"""Layout of a label store on disk: creating, checking, loading and saving it."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from upath import UPath

from napari_uhrseg.atomic import remove_abandoned, temporary_path
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels import chunk_status, ome_metadata
from napari_uhrseg.io.labels.store_files import check_array, check_links
from napari_uhrseg.io.labels.write_lock import revoke_write_token
from napari_uhrseg.io.paths import PathOrUrl, error_text, for_zarr, io_errors, is_url
from napari_uhrseg.main_memory import lacks_main_memory
from napari_uhrseg.types import Legend, Run

Levels = tuple[zarr.Array, ...]
CORRECTION = "labels/correction"
# keys of runs and classes in format version 1, and today's
_RENAMED_KEYS = {"skip_glass": "skip_background", "former": "former_names"}

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StoreContents:
    """Arrays and metadata of an open store.

    Attributes
    ----------
    root
        The Zarr group of the store.
    info
        Metadata of the source image.
    legend, runs
        All classes, including merged ones, and all runs, numbered from 1.
    aliases
        Merged or deleted class id to the id of the displayed class, 0 for none. The
        dict itself stays the same object, because displayed levels refer to it.
    confidence, prediction, correction
        Levels as uint8 arrays, level 0 first.
    states
        Status of the chunks on disk; see `chunk_status`.
    deleting
        0: no deletion to complete; 1: to be written; from 2: writing has begun.
    """

    root: zarr.Group
    info: ome_metadata.StoreInfo
    legend: Legend
    aliases: dict[int, int]
    runs: tuple[Run, ...]
    confidence: Levels
    prediction: Levels
    correction: Levels
    states: zarr.Array
    deleting: int = 0

    def save(
        self,
        *,
        legend: Legend | None = None,
        runs: tuple[Run, ...] | None = None,
        aliases: dict[int, int] | None = None,
        deleting: int | None = None,
    ) -> None:
        """Write the metadata with changes, then apply the changes to this object.

        One file is replaced atomically. The OME metadata of the label images follow.

        Parameters
        ----------
        legend, runs, aliases, deleting
            New values; None keeps the present values.
        """
        legend = self.legend if legend is None else legend
        runs = self.runs if runs is None else runs
        aliases = dict(self.aliases if aliases is None else aliases)
        deleting = self.deleting if deleting is None else deleting
        dicts = tuple(r.to_dict() for r in runs)
        own = ome_metadata.own_attributes(self.info, legend, dicts, aliases)
        own |= {"deleting": deleting} if deleting else {}
        self.root.update_attributes({ome_metadata.KEY: own})
        changed = (legend, aliases) != (self.legend, self.aliases)
        self.legend, self.runs, self.deleting = legend, runs, deleting
        self._set_aliases(aliases)
        if changed:
            self.save_label_metadata()

    def save_label_metadata(self) -> None:
        """Write the legend to the OME metadata of the label images if it differs."""
        for name in ome_metadata.LABELS:
            group = self.root[f"labels/{name}"]
            wanted = ome_metadata.label_attributes(
                name, self.info, self.legend, self.aliases, len(self.confidence)
            )
            if group.attrs.get("ome") != wanted:
                group.update_attributes({"ome": wanted})

    def reload(self, path: PathOrUrl, *, write: bool) -> None:
        """Load everything but the image's metadata again from disk."""
        new = load_store(path, write=write)
        self.root, self.legend, self.runs = new.root, new.legend, new.runs
        self.confidence, self.prediction = new.confidence, new.prediction
        self.correction, self.states = new.correction, new.states
        self.deleting = new.deleting
        self._set_aliases(new.aliases)

    def _set_aliases(self, aliases: dict[int, int]) -> None:
        self.aliases.update(aliases)  # no reader sees an empty mapping in between
        for class_id in self.aliases.keys() - aliases.keys():
            del self.aliases[class_id]


def create_store(
    path: PathOrUrl, info: ome_metadata.StoreInfo, legend: Legend, coarsest: int
) -> None:
    """Create an empty store, completely or not at all.

    Parameters
    ----------
    path
        A folder or URL that does not exist.
    info
        Metadata of the source image.
    legend
        The first classes.
    coarsest
        Largest side of the coarsest level, in pixels.

    Raises
    ------
    StoreError
        If the path exists or cannot be written.
    """
    try:
        if path.exists() or (isinstance(path, Path) and path.is_symlink()):
            raise _exists_error(path)
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _create_folder(path, info, legend, coarsest)
        else:
            _upload(path, info, legend, coarsest)
    except StoreError:
        raise
    except io_errors(path) as error:
        raise StoreError(
            f"A label store cannot be made at {path}: {error_text(error)}.",
            "Choose a folder with write permission and free space.",
        ) from error


def _exists_error(path: PathOrUrl, *, just_now: bool = False) -> StoreError:
    if just_now:
        return StoreError(
            f"Another run is making {path} at this moment; nothing was written.",
            "Wait until it has finished, or choose another name.",
        )
    return StoreError(
        f"{path} exists already; nothing was written.",
        "Open it to continue it, or choose another name.",
    )


def _create_folder(
    path: Path, info: ome_metadata.StoreInfo, legend: Legend, coarsest: int
) -> None:
    remove_abandoned(path)
    building = temporary_path(path)
    try:
        files = ome_metadata.empty_store_files(info, legend, coarsest)
        for name, data in files.items():
            file = building / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        building.rename(path)
    except OSError as error:
        if path.exists():
            raise _exists_error(path, just_now=True) from error
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _upload(
    path: UPath, info: ome_metadata.StoreInfo, legend: Legend, coarsest: int
) -> None:
    """Upload the root's metadata last, by a conditional put: it makes the store."""
    files = ome_metadata.empty_store_files(info, legend, coarsest)
    root = files.pop("zarr.json")
    path.fs.pipe({(path / name).path: data for name, data in files.items()})
    try:
        path.fs.pipe_file((path / "zarr.json").path, root, mode="create")
    except FileExistsError as error:
        raise _exists_error(path, just_now=True) from error


def check_exists(path: PathOrUrl) -> None:
    """Check that there is a Zarr folder at the path, and that no link leaves it.

    Raises
    ------
    StoreError
        If the path does not exist, or is not a Zarr folder, or cannot be read, or
        contains a link that leaves it.
    """
    try:
        (path / "zarr.json").stat()
        check_links(path)
    except (FileNotFoundError, NotADirectoryError):
        what = "is not a label store" if path.exists() else "does not exist"
        raise StoreError(
            f"{path} {what}.", "Choose the folder of a label store."
        ) from None
    except StoreError:
        raise
    except io_errors(path) as error:
        raise StoreError(
            f"{path} cannot be opened: {error_text(error)}.",
            "Ask for read permission, or copy the store.",
        ) from error


def load_store(path: PathOrUrl, *, write: bool) -> StoreContents:
    """Open an existing store.

    A store of format version 1 is translated in memory. Opened for writing, it is
    converted to the present version, which older versions of this program cannot open.

    Parameters
    ----------
    path
        Folder or URL of the store.
    write
        If True, remove what a killed writer left. The caller must have the lock.

    Raises
    ------
    StoreError
        If it is not a label store, is damaged, or has a newer format version.
    """
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
        version = own["format_version"]
        if version not in (1, ome_metadata.FORMAT_VERSION):
            raise StoreError(
                f"{path} has format version {version}; this program reads versions 1 "
                f"to {ome_metadata.FORMAT_VERSION}.",
                "Update napari-uhrseg.",
            )
        contents = _checked(root, _translated(own) if version == 1 else own)
        if write:
            _recover(path, contents)
            if version != ome_metadata.FORMAT_VERSION:
                contents.save()
                logger.warning(
                    "The label store %s was converted from format version %s to %s. "
                    "Older versions of napari-uhrseg cannot open it any more.",
                    path, version, ome_metadata.FORMAT_VERSION,
                )  # fmt: skip
        return contents
    except StoreError:
        raise
    except io_errors(path, LookupError, TypeError, ValueError, AttributeError,
                    RuntimeError, OverflowError) as error:  # fmt: skip
        if lacks_main_memory(error):
            raise
        raise StoreError(
            f"The label store {path} is damaged: {error}.",
            "Copy it again from its source, or segment into a new store.",
        ) from error


def _translated(own: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a store of format version 1 with today's keys."""
    renamed = {
        name: [
            {_RENAMED_KEYS.get(k, k): v for k, v in each.items()} for each in own[name]
        ]
        for name in ("runs", "legend")
    }
    return {**own, **renamed}


def _recover(path: PathOrUrl, contents: StoreContents) -> None:
    """Remove what a killed writer left, and complete what it had begun."""
    revoke_write_token(path)  # its workers stop writing
    # an object of an object store exists completely or not at all
    for left in () if is_url(path) else path.rglob("*.partial"):
        # another process may be writing corrections at this moment
        if path / CORRECTION not in left.parents:
            left.unlink(missing_ok=True)
    contents.save_label_metadata()


def _checked(root: zarr.Group, own: dict[str, Any]) -> StoreContents:
    info = ome_metadata.StoreInfo.from_dict(own["image"])
    count = ome_metadata.stored_level_count(root.attrs)
    grid = chunk_status.chunk_grid(info.shape)
    contents = StoreContents(
        root,
        info,
        ome_metadata.legend_of(own["legend"]),
        {int(k): int(v) for k, v in own.get("aliases", {}).items()},
        tuple(Run.from_dict(r) for r in own["runs"]),
        _levels(root, "", info.shape, count),
        _levels(root, "labels/prediction/", info.shape, count),
        _levels(root, "labels/correction/", info.shape, count),
        _array(root, "states", grid, ome_metadata.status_chunk(grid), np.uint32),
    )
    contents.deleting = int(own.get("deleting", 0))
    known = {c.id for c in contents.legend}
    for k, v in contents.aliases.items():
        if not 1 <= k <= 255 or (v not in known and (v or k in known)):
            raise ValueError("a merged class is not in the legend")
    if [r.id for r in contents.runs] != list(range(1, len(contents.runs) + 1)):
        raise ValueError("its runs are not numbered from 1")
    states = np.asarray(contents.states[:])
    if chunk_status.run_ids(states).max() > len(contents.runs):
        raise ValueError("chunks name a run that is not recorded")
    return contents


def _levels(
    root: zarr.Group, prefix: str, shape: tuple[int, int], count: int
) -> Levels:
    shapes = ome_metadata.level_shapes(shape, count)
    return tuple(
        _array(root, f"{prefix}{k}", shape, ome_metadata.LEVEL_CHUNK, np.uint8)
        for k, shape in enumerate(shapes)
    )


def _array(
    root: zarr.Group,
    name: str,
    shape: tuple[int, int],
    chunk: tuple[int, int],
    dtype: type,
) -> zarr.Array:
    try:
        array = root[name]
    except KeyError as error:
        raise ValueError(f"the array {name} is missing") from error
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is not an array")
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype} of {array.shape}, not {shape}")
    check_array(array, chunk)
    return array


def open_corrections(
    path: PathOrUrl, shape: tuple[int, int], count: int, *, write: bool
) -> Levels:
    """Return the levels of the corrections, which have a write lock of their own.

    Parameters
    ----------
    path
        Folder or URL of the store.
    shape
        Height and width of the image in pixels.
    count
        Number of levels.
    write
        If True, remove what a killed writer left. The caller must have the lock.

    Raises
    ------
    StoreError
        If the corrections are damaged.
    """
    try:
        group = zarr.open_group(
            for_zarr(path / CORRECTION), mode="r+" if write else "r"
        )
        if write:
            for left in (path / CORRECTION).rglob("*.partial"):
                left.unlink(missing_ok=True)
        return _levels(group, "", shape, count)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise StoreError(
            f"The corrections in {path} are damaged: {error}.",
            "Copy the store again from its source.",
        ) from error
