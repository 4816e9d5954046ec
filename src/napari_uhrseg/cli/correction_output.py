"""Opening of corrections, and output of changed pixels, for ``correct``."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from napari_uhrseg.cli.console import warn
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections

Watch = Callable[[Iterator[Any]], Iterator[Any]]
RESUMABLE = "Finished corrections are kept. The same command continues."


@contextmanager
def open_corrections(store: str, *, write: bool = True) -> "Iterator[Corrections]":
    """Open the corrections of a label store, and close both at the end."""
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

    with (
        LabelStore.open(store) as opened,
        Corrections.open(opened, write=write) as corrections,
    ):
        yield corrections


def check_changed(is_changed: bool, why: str) -> None:
    """Exit with 1 if nothing was changed."""
    if not is_changed:
        warn(f"No pixel was changed. {why}")
        raise typer.Exit(1)


def pixels_by_name(pixels: Mapping[int, int], legend: Legend) -> dict[str, int]:
    """Return the numbers of pixels that are not 0, by the name of the class."""
    return {c.name: pixels[c.id] for c in legend if pixels.get(c.id)}


def changed_pixels(
    before: Mapping[int, int], after: Mapping[int, int], legend: Legend
) -> dict[str, int]:
    """Return the change of the number of corrected pixels of each class.

    Parameters
    ----------
    before
        Number of pixels by class id before the change.
    after
        Number of pixels by class id after it.
    legend
        Classes of the label store.

    Returns
    -------
    Difference by class name, without classes that did not change.
    """
    ids = before.keys() | after.keys()
    return pixels_by_name({i: after.get(i, 0) - before.get(i, 0) for i in ids}, legend)


def pixel_text(pixels: Mapping[str, int], *, sign: bool = False) -> str:
    """Return numbers of pixels as a text, with a plus sign if ``sign`` is True."""
    form = "+," if sign else ","
    parts = (f"{name!r} {count:{form}} px" for name, count in pixels.items())
    return ", ".join(parts) or "no pixel changed"
