"""Export of labels to the formats of other programs.

Each module here registers its formats with `register_exporter`. An entry is the only
place that names a format: its title, suffix, kind and place in napari's Save dialog.

Exports contain the displayed labels: corrections override predictions, and merged
classes appear under their target class. All writers stream. A target is written
completely or not at all: beside its final path first, then renamed.
"""

import importlib
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

URL = re.compile("[a-z][a-z0-9]+:")  # what is left of s3:// in a path
CheckFunction = Callable[["LabelStore", Path], None]


@dataclass(frozen=True, slots=True)
class ExportLimits(VectorLimits):
    """Upper bounds of an export, beside those of tracing.

    Attributes
    ----------
    batch_corners
        Corners of polygons that are written to a GeoPackage together.
    bigtiff_bytes
        Bytes of pixels above which a TIFF file is a BigTIFF.
    """

    batch_corners: int = 1_000_000
    bigtiff_bytes: int = 1 << 31


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of a writer.

    Attributes
    ----------
    simplify
        Tolerance of the simplification of outlines in pixels, 0 or more. Rasters
        ignore it.
    limits
        Upper bounds of memory and sizes.
    """

    simplify: float = 0.0
    limits: ExportLimits = field(default_factory=ExportLimits)


WriteFunction = Callable[["LabelStore", Path, WriteOptions], Iterator[float]]


@dataclass(frozen=True, slots=True)
class Format:
    """Export format.

    Attributes
    ----------
    name
        Name on the command line.
    title
        Name in the window and in messages.
    suffix
        Suffix of the target, with the dot.
    write
        ``write(store, path, options)`` writes everything to a new path and yields
        the finished fraction, from 0 to 1.
    is_folder
        True if the target is a folder, which needs no suffix.
    is_vector
        True for polygons, which can be simplified; False for rasters.
    stores_crs
        True if the file contains the coordinate system, when the image has one.
    stores_pixel_size
        True if the file contains the pixel size, when the image has one.
    save_suffix
        Suffix by which napari's Save dialog selects the format. Empty: the dialog
        does not offer it.
    without_crs
        Name of the format that napari's Save dialog writes instead if the image has
        no coordinate system. Empty: this one.
    check
        ``check(store, path)`` raises ExportError if the store cannot be written to
        the target in this format.
    other_suffixes
        Further suffixes of targets, with the dot.
    finish
        ``finish(path)`` is called after the target has been moved to its final path.
    """

    name: str
    title: str
    suffix: str
    write: WriteFunction
    is_folder: bool = False
    is_vector: bool = False
    stores_crs: bool = False
    stores_pixel_size: bool = False
    save_suffix: str = ""
    without_crs: str = ""
    check: CheckFunction = lambda _store, _path: None
    other_suffixes: tuple[str, ...] = ()
    finish: Callable[[Path], None] = lambda _path: None


_formats: dict[str, Format] = {}


def register_exporter(entry: Format) -> None:
    """Add a format to `formats`."""
    _formats[entry.name] = entry


@cache
def formats() -> tuple[Format, ...]:
    """Return all formats, sorted by name. This imports no format library."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(_formats[name] for name in sorted(_formats))


def format_named(name: str) -> Format:
    """Return the format of a name. Raises ExportError if there is none."""
    found = next((f for f in formats() if f.name == name), None)
    if found is None:
        raise ExportError(
            f"There is no format {name!r}.",
            f"Available formats: {', '.join(f.name for f in formats())}.",
        )
    return found


def check_request(format_name: str, target: Path, simplify: float) -> Format:
    """Return the format of an export, if the options fit together.

    Parameters
    ----------
    format_name
        Name of one of `formats`.
    target
        File or folder to create.
    simplify
        Tolerance of the simplification in pixels, 0 or more.

    Raises
    ------
    ExportError
        If there is no such format, the target has the suffix of another kind of file,
        or a raster is to be simplified.
    """
    chosen = format_named(format_name)
    if simplify and not chosen.is_vector:
        raise ExportError(
            f"Only outlines can be simplified; {chosen.title} is a raster.",
            "Omit the simplification, or choose a polygon format.",
        )
    suffix = target.suffix.lower()
    of = [f.name for f in formats() if suffix in _suffixes(f)]
    if suffix and chosen.name not in of and (of or not chosen.is_folder):
        fits = f", or the format {' or '.join(of)}" if of else ""
        raise ExportError(
            f"{target.name} does not have a suffix of {chosen.title}; nothing was "
            "written.",
            f"Choose a name that ends in {chosen.suffix}{fits}.",
        )
    return chosen


def _suffixes(entry: Format) -> set[str]:
    """Return the last suffixes of a format's targets."""
    return {Path(f"a{s}").suffix for s in (entry.suffix, *entry.other_suffixes)}


def export(
    store: "LabelStore",
    path: Path | str,
    format_name: str,
    *,
    simplify: float = 0.0,
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
    chosen = check_request(format_name, target, simplify)
    _check_not_own(store, target)
    if chosen.stores_crs:
        _check_crs(store)
    with atomic_target(target, overwrite=overwrite) as building:
        chosen.check(store, target)
        yield from chosen.write(store, building, WriteOptions(simplify, limits))
    chosen.finish(target)
    yield 1.0


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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, sync=False) as building:
            yield building
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


def shown_legend(store: "LabelStore") -> Legend:
    """Return the displayed classes, without those merged into others."""
    return Legend(tuple(c for c in store.legend if c.id not in store.aliases))


def _check_crs(store: "LabelStore") -> None:
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
