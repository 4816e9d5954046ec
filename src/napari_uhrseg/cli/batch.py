"""Many images by one command: which they are, where their labels go, how it went."""

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from napari_uhrseg.cli.console import err, json_line, out
from napari_uhrseg.errors import OpenError, StoreError
from napari_uhrseg.io.paths import Address, error_text, to_path


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that has no labels, or not all, and why."""

    image: Address
    reason: str
    hint: str = ""


@dataclass(slots=True)
class Report:
    """How the images of a command went."""

    done: list[Address] = field(default_factory=list)
    skipped: list[Address] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    untried: list[Address] = field(default_factory=list)

    def tell(self, json: bool) -> None:
        """Say it: one JSON object, or some lines with each failure's reason."""
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
            "labelled": len(self.done),
            "done before": len(self.skipped),
            "failed": len(self.failed),
            "not tried": len(self.untried),
        }
        words = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        out.print(f"Images: {words}", highlight=False)
        for failure in self.failed:
            line = Text(f"{failure.image}: {failure.reason} ", "yellow")
            err.print(line + Text(failure.hint, "none"), soft_wrap=True)


def find_images(names: Sequence[str]) -> tuple[list[Address], bool]:
    """The images named, each once, and whether they are one or a batch of them.

    A name with ``*``, ``?`` or ``[`` that is no file is a pattern; ``**`` goes
    through folders. A pattern makes a batch even where it finds one image. Label
    stores are no images: a pattern leaves them out, as they often lie beside those.

    Raises
    ------
    OpenError
        A pattern finds no image.
    """
    from napari_uhrseg.io.labels.ome_metadata import is_store

    found: dict[Address, None] = {}
    patterns = False
    for name in names:
        path = to_path(name)
        matches = _matches(path)
        if matches is None:
            found[path] = None
            continue
        patterns = True
        images = [m for m in matches if not is_store(m)]
        if not images:
            what = "Only label stores fit" if matches else "No file fits"
            raise OpenError(f"{what} {name}.", "Check the folder and pattern.")
        found.update(dict.fromkeys(images))
    return list(found), patterns or len(found) > 1


def check_image(path: Address) -> None:
    """Raises OpenError where it is a label store, whose image is meant."""
    from napari_uhrseg.io.labels.ome_metadata import is_store
    from napari_uhrseg.io.labels.store import LabelStore

    if is_store(path):
        with LabelStore.open(path) as store:
            raise OpenError(
                f"{path} is no image: it holds the labels of {store.name}.",
                f"Segment {store.image_path or store.name}, with this as the output.",
            )


def _matches(path: Address) -> list[Address] | None:
    """What fits a pattern; None where it is none. ``?`` in a URL is none."""
    if isinstance(path, Path):
        if path.exists() or not glob.has_magic(str(path)):
            return None
        return [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
    if "*" not in str(path):
        return None
    try:
        names = path.fs.glob(path.path)
    # the packages behind URLs raise whatever they like
    except Exception as error:
        raise OpenError(
            f"{path} cannot be reached: {error_text(error)}.",
            "Check the address, the network, and the credentials that fsspec uses.",
        ) from error
    return [to_path(path.fs.unstrip_protocol(name)) for name in sorted(names)]


def store_paths(images: Iterable[Address], folder: Address) -> dict[Address, Address]:
    """The store of each image in a folder: its name with ``.labels.zarr``.

    Raises
    ------
    StoreError
        Two images have the same name, or the folder is a store or a file.
    """
    if (folder / "zarr.json").exists() or folder.is_file():
        raise StoreError(
            f"{folder} is not a plain folder.",
            "Several images need a folder that takes a label store of each.",
        )
    owners: dict[Address, Address] = {}
    for image in images:
        path = folder / f"{image.name}.labels.zarr"
        if path in owners:
            raise StoreError(
                f"{owners[path]} and {image} have the same name: their labels would "
                f"both be {path}.",
                "Segment them by two commands, into two folders.",
            )
        owners[path] = image
    return {image: path for path, image in owners.items()}
