"""Options of the clean-up of labels, and the cleaned labels for a command."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_uhrseg.cli.console import run_steps
from napari_uhrseg.cli.shared_options import check_area
from napari_uhrseg.types import AreaSize, CleanUp
from napari_uhrseg.types.clean_up import MAX_RADIUS

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

AREA = "AREA"


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanUpOptions:
    """Clean-up of the labels that a command exports or measures."""

    majority: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_RADIUS,
            help="Give each pixel the most frequent label within this number of "
            "pixels up, down, left and right.",
        ),
    ] = 0
    min_object: Annotated[
        str,
        typer.Option(
            metavar=AREA,
            callback=check_area,
            help="Merge smaller objects into their largest neighbour, for example "
            "'50 um2', '20 m2' or 200 (pixels).",
        ),
    ] = "0"
    fill_holes: Annotated[
        str,
        typer.Option(
            metavar=AREA,
            callback=check_area,
            help="Fill smaller holes without a label by their largest neighbour.",
        ),
    ] = "0"

    def clean_up(self) -> CleanUp:
        """Return the settings of these options."""
        return CleanUp(
            self.majority,
            AreaSize.parse(self.min_object),
            AreaSize.parse(self.fill_holes),
        )


@contextmanager
def cleaned_labels(
    store: "LabelStore",
    clean_up: CleanUp,
    watch: Callable[[Iterator[Any]], Iterator[Any]],
    *,
    json: bool,
) -> Iterator["LabelStore"]:
    """Yield the store itself, or a temporary store of its labels after a clean-up.

    Parameters
    ----------
    store
        An open label store.
    clean_up
        Settings of the clean-up.
    watch
        Function that passes steps through and raises interrupts.
    json
        Print JSON.
    """
    if not clean_up:
        yield store
        return
    from napari_uhrseg.io.cleanup.clean_labels import clean_labels
    from napari_uhrseg.io.labels.store import LabelStore

    with TemporaryDirectory(prefix="napari-uhrseg-") as folder:
        steps = clean_labels(store, clean_up, Path(folder))
        with closing(steps):  # type: ignore[type-var] # a generator, annotated as an iterator
            path = run_steps(watch(steps), "Cleaning up", json)
        with LabelStore.open(path) as cleaned:
            yield cleaned
