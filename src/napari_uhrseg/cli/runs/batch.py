"""Several images in one command: their paths, their stores and a report."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from napari_uhrseg.cli.console import err, json_line, out, warn
from napari_uhrseg.errors import OpenError, StoreError
from napari_uhrseg.io.paths import (
    PathOrUrl,
    error_text,
    exists,
    io_errors,
    remove_folder,
    to_path,
)
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore


@dataclass(frozen=True, slots=True)
class Failure:
    """Image that is not or not completely labelled, with the reason."""

    image: PathOrUrl | str
    reason: str
    hint: str = ""


@dataclass(slots=True)
class Report:
    """Result of a command for each of its images; ``verb`` names what was done."""

    verb: str = "labelled"
    done: list[PathOrUrl | str] = field(default_factory=list)
    skipped: list[PathOrUrl | str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    untried: list[PathOrUrl | str] = field(default_factory=list)

    def print(self, json: bool) -> None:
        """Print one JSON object, or a summary with the reason of each failure."""
        if json:
            json_line(
                event="report",
                done=self.done,
                skipped=self.skipped,
                failed=self.failed,
                untried=self.untried,
            )
            return
        counts = {
            self.verb: len(self.done),
            "already done": len(self.skipped),
            "failed": len(self.failed),
            "not tried": len(self.untried),
        }
        summary = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        out.print(f"Images: {summary}", highlight=False)
        for failure in self.failed:
            line = Text(f"{failure.image}: {failure.reason} ", "yellow")
            err.print(line + Text(failure.hint, "none"), soft_wrap=True)


def find_images(names: Sequence[str]) -> tuple[list[PathOrUrl], bool]:
    """Return the images without repetition, and whether they are a batch.

    A name with ``*``, ``?`` or ``[`` is a pattern unless a file has that name. ``**``
    matches nested folders. A pattern makes a batch even if it matches one image. It
    does not match label stores, which are often beside the images.

    Raises
    ------
    OpenError
        If a pattern matches no image.
    """
    found: dict[PathOrUrl, None] = {}
    patterns = False
    for name in names:
        path = to_path(name)
        matches = _matches(path)
        if matches is None:
            found[path] = None
            continue
        patterns = True
        found.update(dict.fromkeys(_without_stores(matches, name)))
    return list(found), patterns or len(found) > 1


def _without_stores(matches: Sequence[PathOrUrl], pattern: str) -> list[PathOrUrl]:
    """Return the images among the matches of a pattern; at least one."""
    from napari_uhrseg.io.labels.ome_metadata import is_store

    images = [m for m in matches if not is_store(m)]
    if not images:
        what = "Only label stores match" if matches else "No file matches"
        raise OpenError(f"{what} {pattern}.", "Check the folder and the pattern.")
    return images


def check_image(path: PathOrUrl) -> None:
    """Check that a path is not a label store.

    Raises
    ------
    OpenError
        If the path is a label store.
    """
    from napari_uhrseg.io.labels.ome_metadata import is_store
    from napari_uhrseg.io.labels.store import LabelStore

    if is_store(path):
        with LabelStore.open(path) as store:
            raise OpenError(
                f"{path} is not an image: it contains the labels of {store.name}.",
                f"Segment {store.image_path or store.name} with this store as output.",
            )


def _matches(path: PathOrUrl) -> list[PathOrUrl] | None:
    """Return the matches of a pattern; None for a name, as a URL with only ``?``."""
    if isinstance(path, Path):
        if path.exists() or not glob.has_magic(str(path)):
            return None
        return [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
    if "*" not in str(path):
        return None
    try:
        names = path.fs.glob(path.path)
    # packages that read URLs raise any exception
    except Exception as error:
        raise OpenError(
            f"{path} cannot be reached: {error_text(error)}.",
            "Check the address, the network and the credentials of fsspec.",
        ) from error
    return [to_path(path.fs.unstrip_protocol(name)) for name in sorted(names)]


def store_paths(
    images: Iterable[PathOrUrl], folder: PathOrUrl
) -> dict[PathOrUrl, PathOrUrl]:
    """Return the store of each image in a folder: IMAGE.labels.zarr.

    Raises
    ------
    StoreError
        If two images have the same name, or the folder is a store or a file.
    """
    _check_plain_folder(folder)
    owners: dict[PathOrUrl, PathOrUrl] = {}
    for image in images:
        path = folder / f"{image.name}.labels.zarr"
        if path in owners:
            raise StoreError(
                f"{owners[path]} and {image} have the same name: both labels would be "
                f"written to {path}.",
                "Segment them with two commands into two folders.",
            )
        owners[path] = image
    return {image: path for path, image in owners.items()}


def _check_plain_folder(folder: PathOrUrl) -> None:
    if (folder / "zarr.json").exists() or folder.is_file():
        raise StoreError(
            f"{folder} is not a plain folder.",
            "Choose a folder for the label stores of the images.",
        )


@contextmanager
def open_store(
    path: PathOrUrl, image: "Image", legend: Legend
) -> "Iterator[LabelStore]":
    """Open the image's store for writing; create it if it does not exist.

    A new store is removed if no run began in it, so that a corrected command does not
    meet the classes of a wrong checkpoint.

    Parameters
    ----------
    path
        Path of the store.
    image
        The image that is segmented.
    legend
        Classes of a new store.

    Yields
    ------
    LabelStore
        The open store.

    Raises
    ------
    StoreError
        If the path is not a label store of this image, or the store is in use.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    created = not exists(path)
    store = (
        LabelStore.create(path, image, legend)
        if created
        else LabelStore.open(path, write=True)
    )
    with store:
        if store.shape != image.shape:
            raise StoreError(
                f"{path} contains labels of an image of {_size(store.shape)} pixels; "
                f"this image has {_size(image.shape)}.",
                "Choose another output.",
            )
        try:
            yield store
        finally:
            if created and not store.runs:
                store.close()
                _remove(path)


def _remove(path: PathOrUrl) -> None:
    """Remove a store without labels; print a warning if that fails."""
    try:
        remove_folder(path)
    except io_errors(path) as error:
        warn(f"{path} has no labels and cannot be removed: {error_text(error)}.")


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
