"""``napari-uhrseg correct``: import, list, confirm, revert and undo corrections."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.classes import list_classes
from napari_uhrseg.cli.console import (
    err,
    interruptible,
    json_line,
    out,
    run_steps,
    swatch,
    warn,
)
from napari_uhrseg.cli.options import (
    RECTANGLE,
    JsonOption,
    StoreArgument,
    format_rectangle,
    parse_rectangle,
)
from napari_uhrseg.errors import OpenError, StoreError
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections, Direction
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.types import Region

Action = Literal["confirm", "revert"]
Watch = Callable[[Iterator[Any]], Iterator[Any]]
REGION = f"{RECTANGLE}|FILE"
LISTED = 20  # regions in a table
RESUMABLE = "Finished corrections are kept. The same command continues."


def correct(
    store: StoreArgument,
    file: Annotated[
        Path | None,
        typer.Argument(help="Polygons (GeoJSON) or a mask (any image format)."),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class", help="Class of polygons that have no class of the label store."
        ),
    ] = None,
    confirm: Annotated[
        str | None,
        typer.Option(
            help="Accept the displayed labels in a region as correct.", metavar=REGION
        ),
    ] = None,
    revert: Annotated[
        str | None,
        typer.Option(
            help="Remove the corrections in a region; predictions are displayed again.",
            metavar=REGION,
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the last change.")] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Redo the change that was undone last.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Correct a label store with polygons, a mask, or one of the options.

    Without a file and an option, list the corrected pixels by class and region.

    Polygons contain the name of their class as QuPath and GIS programs write it. Values
    of a mask are class numbers or colours of the legend. What matches no class in the
    label store is skipped and reported. Ctrl-C keeps finished corrections. Each
    polygon, mask or region is one change that can be undone, here or in the window.
    """
    given = (file, confirm, revert, undo or None, redo or None)
    if sum(each is not None for each in given) > 1:
        raise typer.BadParameter(
            "Give only one of a file, --confirm, --revert, --undo and --redo."
        )
    if class_name is not None and file is None:
        raise typer.BadParameter("--class needs a file of polygons.")
    if file is not None:
        _import(store, file, class_name, json)
    elif confirm is not None:
        _change_regions(store, "confirm", confirm, json)
    elif revert is not None:
        _change_regions(store, "revert", revert, json)
    elif undo or redo:
        _undo_or_redo(store, "undo" if undo else "redo", json)
    else:
        _list_corrections(store, json)


@contextmanager
def _opened(store: str, *, write: bool = True) -> "Iterator[Corrections]":
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

    with (
        LabelStore.open(store) as opened,
        Corrections.open(opened, write=write) as corrections,
    ):
        yield corrections


# -- import ---------------------------------------------------------------------------


def _import(store: str, file: Path, class_name: str | None, json: bool) -> None:
    with interruptible(RESUMABLE) as watch, _opened(store) as corrections:
        if file.suffix.lower() in (".geojson", ".json"):
            skipped = _polygons(corrections, file, class_name, watch, json)
        else:
            skipped = _mask(corrections, file, watch, json)
    if json:
        json_line(event="corrected", store=store, file=file, skipped=skipped)
        return
    for name, amount in skipped.items():
        warn(f"Skipped, because no class has that name: {name} ({amount}).")
    out.print(f"Corrected: {store}", highlight=False, soft_wrap=True)


def _polygons(
    corrections: "Corrections",
    path: Path,
    class_name: str | None,
    watch: Watch,
    json: bool,
) -> dict[str, int]:
    """Fill the polygons; return the number of skipped ones for each unknown name."""
    from napari_uhrseg.io.corrections.geojson_import import read_polygons

    legend = corrections.store.legend
    default = None if class_name is None else legend.named(class_name)
    if class_name is not None and default is None:
        raise StoreError(
            f"The label store has no class {class_name!r}.", list_classes(legend)
        )
    pairs, skipped = [], dict[str, int]()
    for polygon, name in read_polygons(path, corrections.store):
        label = (legend.named(name) if name else None) or default
        if label is not None:
            pairs.append((polygon, label.id))
        else:
            skipped[name or "(none)"] = skipped.get(name or "(none)", 0) + 1
    if not pairs:
        raise OpenError(
            f"No polygon of {path.name} matches a class in the label store.",
            f"Give their class with --class. {list_classes(legend)}",
        )
    with closing(corrections.fill_all(pairs)) as steps:
        run_steps(watch(steps), "Correcting", json)
    return skipped


def _mask(
    corrections: "Corrections", path: Path, watch: Watch, json: bool
) -> dict[str, int]:
    """Import the mask; return the number of pixels of each unknown value."""
    from napari_uhrseg.io.corrections.mask_import import MaskReader

    legend = corrections.store.legend
    mask = MaskReader.open(path, corrections.store)
    run_steps(watch(mask.scan()), f"Reading {path.name}", json)
    table, skipped = dict[int, int](), dict[str, int]()
    for found in mask.classes(legend):
        label = legend.named(found.name) if found.name else None
        if label is not None:
            table[found.value] = label.id
        elif found.name:  # a value without a name is nodata or background
            skipped[found.color or str(found.value)] = found.pixels
    if not table:
        raise OpenError(
            f"No value of {path.name} matches a class in the label store.",
            f"Import it in the window and choose the classes. {list_classes(legend)}",
        )
    with closing(corrections.import_labels(mask, table)) as steps:  # type: ignore[type-var] # a generator, annotated as an iterator
        run_steps(watch(steps), "Correcting", json)
    return skipped


# -- list -----------------------------------------------------------------------------


def _list_corrections(store: str, json: bool) -> None:
    """Print the corrected pixels by class, and the corrected regions."""
    with _opened(store, write=False) as corrections:
        legend, counts = corrections.store.legend, corrections.counts()
        regions = corrections.corrected_regions()
    if json:
        found = [{"roi": r.roi, "pixels": _by_name(r.pixels, legend)} for r in regions]
        json_line(event="corrections", store=store, counts=_by_name(counts, legend),
                  regions=found)  # fmt: skip
        return
    if not counts:
        out.print("There are no corrections.")
        return
    classes = Table(title="Corrected pixels", title_justify="left")
    classes.add_column("Class")
    classes.add_column("Pixels", justify="right")
    for label in legend:
        if counts.get(label.id):
            classes.add_row(swatch(label), f"{counts[label.id]:,}")
    out.print(classes)
    table = Table(title=f"Corrected regions ({RECTANGLE})", title_justify="left")
    table.add_column("Region", no_wrap=True)
    table.add_column("Pixels")
    for region in regions[:LISTED]:
        pixels = _text(_by_name(region.pixels, legend))
        table.add_row(format_rectangle(region.roi), Text(pixels))
    out.print(table)
    if len(regions) > LISTED:
        out.print(f"And {len(regions) - LISTED} smaller ones; --json lists all.")


# -- confirm, revert, undo, redo ------------------------------------------------------


def _change_regions(store: str, action: Action, where: str, json: bool) -> None:
    """Confirm or revert a rectangle, or the polygons of a file."""
    with interruptible(RESUMABLE) as watch, _opened(store) as corrections:
        regions = _regions(where, corrections.store)
        before = corrections.counts()
        title = "Confirming" if action == "confirm" else "Reverting"
        run_steps(watch(_each(corrections, action, regions)), title, json)
        changed = _changed(before, corrections.counts(), corrections.store.legend)
    if json:
        json_line(event=f"{action}ed", store=store, regions=len(regions),
                  changed=changed)  # fmt: skip
        return
    done = "Confirmed" if action == "confirm" else "Reverted"
    out.print(Text(f"{done}: {_text(changed, sign=True)}."), soft_wrap=True)


def _undo_or_redo(store: str, direction: "Direction", json: bool) -> None:
    """Undo or redo the last change of any session, completely or not at all."""
    with (
        interruptible(
            f"The {direction} is complete or had no effect. Run the command without "
            "options to list the corrections.",
            between_events=True,
        ) as watch,
        _opened(store) as corrections,
    ):
        roi, before = corrections.next_bounds(direction), corrections.counts()
        with closing(corrections.undo_or_redo(direction)) as steps:  # type: ignore[type-var] # a generator, annotated as an iterator
            run_steps(watch(steps), direction.title(), json)
        changed = _changed(before, corrections.counts(), corrections.store.legend)
        more = corrections.can_undo if direction == "undo" else corrections.can_redo
    if json:
        json_line(event=direction, store=store, roi=roi, changed=changed, more=more)
    elif roi is None:
        err.print(f"There is nothing to {direction}.")
    else:
        done = "Undone" if direction == "undo" else "Redone"
        line = f"{done} at {format_rectangle(roi)}: {_text(changed, sign=True)}."
        out.print(Text(line), soft_wrap=True)
        if not more:
            out.print(f"There is no more to {direction}.")


def _regions(where: str, store: "LabelStore") -> "list[Region]":
    """Return a rectangle, or the polygons of a GeoJSON file."""
    if re.fullmatch(r"[-\d,\s]*", where):
        return [parse_rectangle(where)]
    from napari_uhrseg.io.corrections.geojson_import import read_polygons

    return [polygon for polygon, _ in read_polygons(Path(where), store)]


def _each(
    corrections: "Corrections", action: Action, regions: "list[Region]"
) -> Iterator[float]:
    """Change one region after the other; yield the finished fraction of all."""
    change = corrections.confirm if action == "confirm" else corrections.revert
    for number, region in enumerate(regions):
        for share in change(region):
            yield (number + share) / len(regions)


def _by_name(pixels: Mapping[int, int], legend: Legend) -> dict[str, int]:
    return {c.name: pixels[c.id] for c in legend if pixels.get(c.id)}


def _changed(
    before: Mapping[int, int], after: Mapping[int, int], legend: Legend
) -> dict[str, int]:
    """Return the change of the number of corrected pixels of each class."""
    ids = before.keys() | after.keys()
    return _by_name({i: after.get(i, 0) - before.get(i, 0) for i in ids}, legend)


def _text(pixels: Mapping[str, int], *, sign: bool = False) -> str:
    form = "+," if sign else ","
    parts = (f"{name} {count:{form}} px" for name, count in pixels.items())
    return ", ".join(parts) or "no pixel changed"
