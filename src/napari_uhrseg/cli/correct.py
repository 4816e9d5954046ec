"""``napari-uhrseg correct``: corrections from files, looked at, taken back."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from napari_uhrseg.cli.classes import there_are
from napari_uhrseg.cli.console import err, follow, json_line, out, stoppable
from napari_uhrseg.cli.corrected import change_regions, show_corrections, turn_back
from napari_uhrseg.cli.export import StoreArgument
from napari_uhrseg.cli.options import JsonOption
from napari_uhrseg.errors import OpenError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_uhrseg.io.corrections.corrections import Corrections

    Watched = Callable[[Iterator[Any]], Iterator[Any]]

WHERE = "Y,X,HEIGHT,WIDTH|FILE"  # a rectangle in pixels, or polygons


def correct(
    store: StoreArgument,
    file: Annotated[
        Path | None,
        typer.Argument(help="Polygons (GeoJSON) or a mask (any image format)."),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class", help="What polygons become that name no class of the store."
        ),
    ] = None,
    confirm: Annotated[
        str | None,
        typer.Option(
            help="Make the labels shown in a region corrections.", metavar=WHERE
        ),
    ] = None,
    revert: Annotated[
        str | None,
        typer.Option(
            help="Erase the corrections in a region, back to the prediction.",
            metavar=WHERE,
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take the last change back.")
    ] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Do again what was taken back last.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Correct a label store: from polygons or a mask, or by one of the options.

    With neither, say what is corrected: pixels by class, and the places.

    Polygons name their class as QuPath and GIS write it; a mask's values are class
    numbers, or the legend's colours. What is of no class of the store is left out, and
    said. Ctrl-C keeps what is done. Each polygon, mask or region is one change to undo,
    here or in the window.
    """
    asked = (file, confirm, revert, undo or None, redo or None)
    if sum(each is not None for each in asked) > 1:
        raise typer.BadParameter(
            "A file, --confirm, --revert, --undo and --redo are one at a time."
        )
    if class_name is not None and file is None:
        raise typer.BadParameter("--class is for a file of polygons.")
    if file is not None:
        _from_file(store, file, class_name, json)
    elif confirm is not None:
        change_regions(store, "confirm", confirm, json)
    elif revert is not None:
        change_regions(store, "revert", revert, json)
    elif undo or redo:
        turn_back(store, "undo" if undo else "redo", json)
    else:
        show_corrections(store, json)


def _from_file(store: str, file: Path, class_name: str | None, json: bool) -> None:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

    with (
        stoppable("What is corrected is kept; the same command goes on.") as watched,
        LabelStore.open(store) as opened,
        Corrections.open(opened) as corrections,
    ):
        if file.suffix.lower() in (".geojson", ".json"):
            left = _polygons(corrections, file, class_name, watched, json)
        else:
            left = _mask(corrections, file, watched, json)
    if json:
        json_line(event="corrected", store=store, file=file, left_out=left)
        return
    for what, amount in left.items():
        line = f"Left out, as no class of the store has that name: {what} ({amount})."
        err.print(Text(line, "yellow"), soft_wrap=True)
    out.print(f"Corrected: {store}", highlight=False, soft_wrap=True)


def _polygons(
    corrections: "Corrections",
    path: Path,
    class_name: str | None,
    watched: "Watched",
    json: bool,
) -> dict[str, int]:
    """Fill them; names that are of no class, and of how many polygons."""
    from napari_uhrseg.io.corrections.geojson_import import read_polygons

    legend = corrections.store.legend
    otherwise = None if class_name is None else legend.named(class_name)
    if class_name is not None and otherwise is None:
        raise StoreError(f"The store has no class {class_name!r}.", there_are(legend))
    pairs, left = [], dict[str, int]()
    for polygon, name in read_polygons(path, corrections.store):
        label = (legend.named(name) if name else None) or otherwise
        if label is not None:
            pairs.append((polygon, label.id))
        else:
            left[name or "(none)"] = left.get(name or "(none)", 0) + 1
    if not pairs:
        raise OpenError(
            f"No polygon of {path.name} names a class of the store.",
            f"Say what they are with --class. {there_are(legend)}",
        )
    with closing(corrections.fill_all(pairs)) as parts:
        follow(watched(parts), "Correcting", json)
    return left


def _mask(
    corrections: "Corrections", path: Path, watched: "Watched", json: bool
) -> dict[str, int]:
    """Import it; values that are of no class, and of how many pixels."""
    from napari_uhrseg.io.corrections.mask_import import MaskReader

    legend = corrections.store.legend
    mask = MaskReader.open(path, corrections.store)
    follow(watched(mask.scan()), f"Reading {path.name}", json)
    table: Mapping[int, int] = {}
    left = {}
    for found in mask.classes(legend):
        label = legend.named(found.name) if found.name else None
        if label is not None:
            table = {**table, found.value: label.id}
        elif found.name:  # else it is nodata, or background
            left[found.color or str(found.value)] = found.pixels
    if not table:
        raise OpenError(
            f"No value of {path.name} is a class of the store.",
            f"Import it in the window, which asks what each is. {there_are(legend)}",
        )
    with closing(corrections.import_labels(mask, table)) as parts:  # type: ignore[type-var] # likewise
        follow(watched(parts), "Correcting", json)
    return left
