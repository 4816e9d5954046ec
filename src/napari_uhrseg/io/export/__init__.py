"""Labels in other programs' formats: each file here registers its own.

What is shown is what leaves: corrections over predictions, merged classes as what
they are shown as. Everything is streamed, and written whole or not at all: beside
the target first, then renamed.
"""

import importlib
import os
import pkgutil
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import ExportError
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

URL = re.compile("[a-z][a-z0-9]+:")  # what is left of s3:// in a path
Write = Callable[["LabelStore", Path, float], Iterator[float]]
Check = Callable[["LabelStore", Path], None]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that labels can be written in.

    Attributes
    ----------
    name, title, suffix
        What it is called on the command line, in the window, and in file names.
    write
        ``write(store, path, simplify)`` writes all of it to a path that is free,
        and yields what is done of it, from 0 to 1.
    outlines
        Whether it holds polygons, which can be simplified.
    check
        Raises ExportError where this store cannot be written to that target so.
    finish
        Called with the target once it is in its place.
    """

    name: str
    title: str
    suffix: str
    write: Write
    outlines: bool
    check: Check
    finish: Callable[[Path], None]


_formats: dict[str, Format] = {}


def exporter(
    name: str,
    *,
    title: str,
    suffix: str,
    outlines: bool = False,
    check: Check = lambda _store, _path: None,
    finish: Callable[[Path], None] = lambda _path: None,
) -> Callable[[Write], Write]:
    """Register a function as the writer of a format; see `Format`."""

    def register(write: Write) -> Write:
        _formats[name] = Format(name, title, suffix, write, outlines, check, finish)
        return write

    return register


@cache
def formats() -> tuple[Format, ...]:
    """All formats there are; importing them imports no format library."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(_formats[name] for name in sorted(_formats))


def format_named(name: str) -> Format:
    """Raises ExportError where there is none of that name."""
    found = next((f for f in formats() if f.name == name), None)
    if found is None:
        raise ExportError(
            f"There is no format {name!r} to export to.",
            f"There are: {', '.join(f.name for f in formats())}.",
        )
    return found


def export(
    store: "LabelStore",
    path: Path | str,
    format_name: str,
    *,
    simplify: float = 0.0,
    overwrite: bool = False,
) -> Iterator[float]:
    """Write what a store shows, in another program's format.

    Parameters
    ----------
    store
        May be open for reading only, and written by another process meanwhile.
    path
        The file or folder to make.
    format_name
        Of one of `formats`.
    simplify
        Polygons only: how far, in pixels, outlines may be moved to have fewer
        corners. 0 keeps the sides of pixels.
    overwrite
        Whether a target that exists is replaced, once the new one is whole.

    Yields
    ------
    What is done, from 0 to 1. Closing the generator leaves nothing behind, and
    the target as it was.

    Raises
    ------
    ExportError
        The target exists or cannot be written, the disk is full, or the format
        needs what the store has not (a CRS).
    StoreError
        Part of the store is damaged.
    """
    chosen, target = format_named(format_name), Path(path).absolute()
    if simplify and not chosen.outlines:
        raise ExportError(
            f"Only outlines can be simplified; {chosen.title} has none.",
            "Leave the simplification out, or choose polygons.",
        )
    _check_not_own(store, target)
    with whole(target, overwrite=overwrite) as building:
        chosen.check(store, target)
        yield from chosen.write(store, building, simplify)
    chosen.finish(target)
    yield 1.0


@contextmanager
def whole(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A path beside the target to write to, put in its place at the end.

    Raises ExportError where the target exists and may not be replaced, and for the
    system's errors; then, and when the block is left early, nothing is left behind.
    """
    if any(URL.fullmatch(part) for part in target.parts):
        raise ExportError(
            f"{target} looks like a URL; exports are written to files.",
            "Write it to a folder, and copy it from there.",
        )
    _check_free(target, overwrite)
    name = f".{target.stem}.{uuid.uuid4().hex[:8]}.partial{target.suffix}"
    building = target.with_name(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, building, sync=False):
            yield building
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written: {error.strerror or error}.",
            "Choose a folder that you may write to, on a disk with free space. "
            "Nothing was left behind.",
        ) from error


def warnings(store: "LabelStore", format_name: str) -> tuple[str, ...]:
    """What to know before taking labels away."""
    from napari_uhrseg.io.labels.chunk_status import has_status

    said = []
    states = store.chunk_status()
    if not store.runs and not store.coarsest_displayed().any():
        said.append("There are no labels in the store yet: the export will be empty.")
    elif store.runs:
        waiting = int(np.count_nonzero(~has_status(states, "done", "empty")))
        if waiting:
            said.append(
                f"{waiting} of {states.size} blocks are not segmented yet: what is "
                "there now is exported."
            )
    if store.crs is None and format_name in ("cog", "confidence", "geopackage"):
        said.append(
            "The image has no coordinate system: the export lies in pixels, not on "
            "the map."
        )
    if store.pixel_size is None and format_name in ("ome-tiff", "ome-zarr"):
        said.append("The image has no pixel size: the export has none either.")
    return tuple(said)


def shown_legend(store: "LabelStore") -> Legend:
    """The classes that can be seen: without those that were merged into others."""
    return Legend(tuple(c for c in store.legend if c.id not in store.aliases))


def _check_not_own(store: "LabelStore", target: Path) -> None:
    own, there = store.path.resolve(), target.resolve()
    if there == own or there in own.parents or own in there.parents:
        raise ExportError(
            f"{target} is the label store itself, or in it; nothing was written.",
            "Choose another place.",
        )


def _check_free(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise ExportError(
            f"{target} exists already; nothing was written.",
            "Choose another name, or allow overwriting it (--overwrite).",
        )
    if target.is_dir() and not _is_label_image(target):
        raise ExportError(
            f"{target} is a folder, and not one that was exported here.",
            "Choose another name, or remove it yourself.",
        )


def _is_label_image(folder: Path) -> bool:
    """Whether a folder is an OME-Zarr label image, and so safe to replace."""
    return any(
        b'"image-label"' in file.read_bytes()
        for file in (folder / "zarr.json", folder / ".zattrs")
        if file.is_file()
    )
