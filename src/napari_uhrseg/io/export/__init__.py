"""Export of labels to the formats of other programs.

`registry` lists the formats, and there is one module for each family of formats.

Exports contain the displayed labels: corrections override predictions, and merged
classes appear under their target class. All writers stream. A target is written
completely or not at all: beside its final path first, then renamed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export.registry import (
    ExportLimits,
    WriteOptions,
    check_request,
    format_named,
)

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

URL = re.compile("[a-z][a-z0-9]+:")  # what is left of s3:// in a path


def export(
    store: "LabelStore",
    path: Path | str,
    format_name: str,
    *,
    simplify: float = 0.0,
    smooth: float = 0.0,
    overwrite: bool = False,
    limits: ExportLimits = ExportLimits(),
) -> Iterator[float]:
    """Write the displayed labels of a store to a file of another format.

    Parameters
    ----------
    store
        A label store. It may be read-only, and another process may write to it.
    path
        File or folder to create.
    format_name
        Name of one of `formats`.
    simplify
        Polygons only: tolerance of the simplification in pixels, 0 or more; see
        `io.vectorize.simplify`. 0 keeps the sides of pixels.
    smooth
        Polygons only: distance in pixels by which smoothing may move an outline, 0 or
        more; see `io.vectorize.smooth`.
    overwrite
        If True, an existing target is replaced once the new one is complete.
    limits
        Upper bounds of memory and sizes.

    Yields
    ------
    float
        Finished fraction, from 0 to 1. Closing the generator removes the partial
        file and leaves an existing target unchanged.

    Raises
    ------
    ExportError
        If the target exists or cannot be written, the disk is full, or the store
        lacks something that the format needs (a CRS), or its CRS is damaged.
    StoreError
        If part of the store is damaged.
    """
    target = Path(path).absolute()
    chosen = check_request(format_name, target, simplify, smooth)
    _check_not_own(store, target)
    if chosen.stores_crs:
        check_crs(store)
    with atomic_target(target, overwrite=overwrite) as building:
        chosen.check(store, target)
        options = WriteOptions(simplify, limits, smooth)
        yield from chosen.write(store, building, options)
    chosen.finish(target)
    with _write_errors(target):
        chosen.beside(store, target)
    yield 1.0


def check_target(store: "LabelStore", target: Path, *, overwrite: bool) -> None:
    """Raise ExportError if a target exists or is part of the store.

    Parameters
    ----------
    store
        The label store.
    target
        File or folder to create.
    overwrite
        If True, a target that exists may be replaced.
    """
    _check_not_own(store, target)
    _check_free(target, overwrite)


@contextmanager
def atomic_target(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path beside the target, and move it to the target at the end.

    Nothing remains if the block raises or is left early. Raises ExportError if the
    target exists and may not be replaced, and for errors of the file system.
    """
    if any(URL.fullmatch(part) for part in target.parts):
        raise ExportError(
            f"{target} looks like a URL; exports are written to files.",
            "Export to a local folder, and copy the file from there.",
        )
    _check_free(target, overwrite)
    with _write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, sync=False) as building:
            yield building


@contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    """Raise errors of the file system in the block as ExportError."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error.strerror or error}.",
            "Choose a folder with write permission, on a disk with free space. "
            "The partial file was removed.",
        ) from error


def warnings(store: "LabelStore", format_name: str) -> tuple[str, ...]:
    """Return what the user should know before an export."""
    from napari_uhrseg.io.labels.chunk_status import has_status

    notes = []
    states = store.chunk_status()
    if not store.runs and not store.coarsest_displayed().any():
        notes.append("The store has no labels yet: the export will be empty.")
    elif store.runs:
        waiting = int(np.count_nonzero(~has_status(states, "done", "empty")))
        if waiting:
            notes.append(
                f"{waiting} of {states.size} blocks are not segmented yet: the export "
                "has only the finished ones."
            )
    chosen = format_named(format_name)
    if store.crs is None and chosen.stores_crs:
        notes.append(
            "The image has no coordinate system: the export has pixel coordinates."
        )
    if store.pixel_size is None and chosen.stores_pixel_size:
        notes.append("The image has no pixel size: the export has none either.")
    return tuple(notes)


def check_crs(store: "LabelStore") -> None:
    """Raise ExportError if the CRS of a store cannot be read."""
    if store.crs is None:
        return
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        CRS.from_wkt(store.crs)
    except CRSError as error:
        raise ExportError(
            f"The coordinate system of {store.path.name} cannot be read: {error}",
            "Export polygons in pixels (qupath), or assign a CRS to the image (for "
            "example with gdal_edit -a_srs) and segment it again.",
        ) from error


def _check_not_own(store: "LabelStore", target: Path) -> None:
    own, there = store.path.resolve(), target.resolve()
    if there == own or there in own.parents or own in there.parents:
        raise ExportError(
            f"{target} is the label store itself, or inside it; nothing was written.",
            "Choose another path.",
        )


def _check_free(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise ExportError(
            f"{target} exists already; nothing was written.",
            "Choose another name, or allow overwriting (--overwrite).",
        )
    if target.is_dir() and not _is_label_image(target):
        raise ExportError(
            f"{target} is a folder that is not an exported label image.",
            "Choose another name, or delete the folder first.",
        )


def _is_label_image(folder: Path) -> bool:
    """Return whether a folder is an OME-Zarr label image, which may be replaced."""
    return any(
        b'"image-label"' in file.read_bytes()
        for file in (folder / "zarr.json", folder / ".zattrs")
        if file.is_file()
    )
