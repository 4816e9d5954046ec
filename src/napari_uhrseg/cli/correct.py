"""``napari-uhrseg correct``: import, list, confirm, revert and undo corrections."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import (
    err,
    interruptible,
    json_line,
    out,
    run_steps,
    swatch,
    warn,
)
from napari_uhrseg.cli.correct_import import (
    import_mask,
    import_polygons,
    is_polygon_file,
)
from napari_uhrseg.cli.correction_output import (
    RESUMABLE,
    changed_pixels,
    check_changed,
    open_corrections,
    pixel_text,
    pixels_by_name,
)
from napari_uhrseg.cli.shared_options import (
    RECTANGLE,
    REGION,
    JsonOption,
    StoreArgument,
    expand_options,
    format_rectangle,
    parse_region_option,
)
from napari_uhrseg.types import Legend, Numbering, Roi

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.corrections.polygon_features import ClassField
    from napari_uhrseg.io.corrections.undo import Direction
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.types import CorrectedRegion, Region

Action = Literal["confirm", "revert"]
LISTED = 20  # regions in a table


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """Classes of an imported file."""

    class_name: Annotated[
        str | None,
        typer.Option(
            "--class", help="Class of polygons that have no class of the label store."
        ),
    ] = None
    class_field: Annotated[
        str | None,
        typer.Option(
            help="Field of the polygons that contains the class. Default: the fields "
            "of QuPath and GIS programs."
        ),
    ] = None
    class_value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VALUE=CLASS",
            help="Class of polygons with this value in the field. May be repeated.",
        ),
    ] = None
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Mask: text file with one line for each class: VALUE NAME #rrggbb."
        ),
    ] = None
    values: Annotated[
        Numbering | None,
        typer.Option(
            help="Mask without class names: its values are ids of the label store's "
            "classes, or values of the masks of the training."
        ),
    ] = None

    def check(self, file: Path | None) -> None:
        """Raise BadParameter if the options do not fit the kind of the file."""
        is_polygons = file is not None and is_polygon_file(file)
        is_mask = file is not None and not is_polygons
        given = self.class_name, self.class_field, self.class_value
        if any(given) and not is_polygons:
            raise typer.BadParameter(
                "Each of --class, --class-field and --class-value needs a file of "
                "polygons."
            )
        if (self.classes is not None or self.values is not None) and not is_mask:
            raise typer.BadParameter("--classes and --values need a mask.")
        if self.classes is not None and self.values is not None:
            raise typer.BadParameter("Give only one of --classes and --values.")

    def field(self) -> "ClassField":
        """Return the field of polygons with the classes, and the classes of values."""
        from napari_uhrseg.io.corrections.polygon_features import ClassField

        values = {}
        for text in self.class_value or []:
            value, equals, name = (part.strip() for part in text.rpartition("="))
            if not value or not equals or not name:
                raise typer.BadParameter(
                    f"{text!r} is not of the form VALUE=CLASS, such as 3=lake."
                )
            values[value] = name
        return ClassField(self.class_field, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOptions:
    """Change of corrections without a file to import."""

    confirm: Annotated[
        str | None,
        typer.Option(
            help="Accept the displayed labels in a region as correct.", metavar=REGION
        ),
    ] = None
    revert: Annotated[
        str | None,
        typer.Option(
            help="Remove the corrections in a region; predictions are displayed again.",
            metavar=REGION,
        ),
    ] = None
    undo: Annotated[bool, typer.Option("--undo", help="Undo the last change.")] = False
    redo: Annotated[
        bool, typer.Option("--redo", help="Redo the change that was undone last.")
    ] = False

    def check(self, file: Path | None) -> None:
        """Raise BadParameter if more than one change is given."""
        given = (file, self.confirm, self.revert, self.undo or None, self.redo or None)
        if sum(each is not None for each in given) > 1:
            raise typer.BadParameter(
                "Give only one of a file, --confirm, --revert, --undo and --redo."
            )


@expand_options
def correct(
    store: StoreArgument,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Polygons (GeoJSON, GeoPackage, shapefile) or a mask (any image "
            "format)."
        ),
    ] = None,
    *,
    options: ImportOptions,
    change: ChangeOptions,
    json: JsonOption = False,
) -> None:
    """Correct a label store with polygons, a mask, or one of the options.

    Without a file and an option, list the corrected pixels by class and region.

    Polygons contain the name of their class as QuPath and GIS programs write it. The
    classes of a mask are those of --classes, or of the file's own table (exports of
    this program have one), or colours or values of the legend. What matches no class in
    the label store is skipped and reported. If no pixel changes, the exit code is 1.
    Ctrl-C keeps finished corrections. Each polygon, mask or region is one change that
    can be undone, here or in the window.
    """
    change.check(file)
    options.check(file)
    if file is not None and is_polygon_file(file):
        import_polygons(store, file, options.class_name, options.field(), json=json)
    elif file is not None:
        import_mask(store, file, options.classes, options.values, json=json)
    elif change.confirm is not None:
        _change_regions(store, "confirm", change.confirm, json)
    elif change.revert is not None:
        _change_regions(store, "revert", change.revert, json)
    elif change.undo or change.redo:
        _undo_or_redo(store, "undo" if change.undo else "redo", json)
    else:
        _list_corrections(store, json)


# -- list -----------------------------------------------------------------------------


def _list_corrections(store: str, json: bool) -> None:
    """Print the corrected pixels by class, and the corrected regions."""
    with open_corrections(store, write=False) as corrections:
        legend, counts = corrections.store.legend, corrections.counts()
        regions = corrections.corrected_regions()
    if json:
        found = [
            {"roi": r.roi, "pixels": pixels_by_name(r.pixels, legend)} for r in regions
        ]
        total = pixels_by_name(counts, legend)
        json_line(event="corrections", store=store, counts=total, regions=found)
        return
    if not counts:
        out.print("There are no corrections.")
        return
    out.print(_class_table(counts, legend))
    out.print(_region_table(regions[:LISTED], legend))
    if len(regions) > LISTED:
        out.print(f"And {len(regions) - LISTED} smaller ones; --json lists all.")


def _class_table(counts: Mapping[int, int], legend: Legend) -> Table:
    table = Table(title="Corrected pixels", title_justify="left")
    table.add_column("Class")
    table.add_column("Pixels", justify="right")
    for label in legend:
        if counts.get(label.id):
            table.add_row(swatch(label), f"{counts[label.id]:,}")
    return table


def _region_table(regions: "Sequence[CorrectedRegion]", legend: Legend) -> Table:
    table = Table(title=f"Corrected regions ({RECTANGLE})", title_justify="left")
    table.add_column("Region", no_wrap=True)
    table.add_column("Pixels")
    for region in regions:
        pixels = pixel_text(pixels_by_name(region.pixels, legend))
        table.add_row(format_rectangle(region.roi), Text(pixels))
    return table


# -- confirm, revert, undo, redo ------------------------------------------------------


def _change_regions(store: str, action: Action, where: str, json: bool) -> None:
    """Confirm or revert a rectangle, or the polygons of a file."""
    with interruptible(RESUMABLE) as watch, open_corrections(store) as corrections:
        regions, notes = _regions(where, corrections.store)
        before, version = corrections.counts(), corrections.version
        title = "Confirming" if action == "confirm" else "Reverting"
        run_steps(watch(_each(corrections, action, regions)), title, json)
        changed = changed_pixels(before, corrections.counts(), corrections.store.legend)
        is_changed = corrections.version != version
    if json:
        json_line(event=f"{action}ed", store=store, regions=len(regions),
                  notes=notes, changed=changed)  # fmt: skip
    else:
        for note in notes:
            warn(note)
        done = "Confirmed" if action == "confirm" else "Reverted"
        out.print(Text(f"{done}: {pixel_text(changed, sign=True)}."), soft_wrap=True)
    why = {
        "confirm": "The region has no labels, or all are corrected already.",
        "revert": "The region has no corrections.",
    }
    check_changed(is_changed, why[action])


def _undo_or_redo(store: str, direction: "Direction", json: bool) -> None:
    """Undo or redo the last change of any session, completely or not at all."""
    with (
        interruptible(
            f"The {direction} is complete or had no effect. Run the command without "
            "options to list the corrections.",
            between_events=True,
        ) as watch,
        open_corrections(store) as corrections,
    ):
        roi, before = corrections.next_bounds(direction), corrections.counts()
        with closing(corrections.undo_or_redo(direction)) as steps:  # type: ignore[type-var] # a generator, annotated as an iterator
            run_steps(watch(steps), direction.title(), json)
        changed = changed_pixels(before, corrections.counts(), corrections.store.legend)
        more = corrections.can_undo if direction == "undo" else corrections.can_redo
    if json:
        json_line(event=direction, store=store, roi=roi, changed=changed, more=more)
    elif roi is None:
        err.print(f"There is nothing to {direction}.")
    else:
        _print_undone(direction, roi, changed, more=more)
    if roi is None:
        raise typer.Exit(1)


def _print_undone(
    direction: "Direction", roi: Roi, changed: Mapping[str, int], *, more: bool
) -> None:
    done = "Undone" if direction == "undo" else "Redone"
    line = f"{done} at {format_rectangle(roi)}: {pixel_text(changed, sign=True)}."
    out.print(Text(line), soft_wrap=True)
    if not more:
        out.print(f"There is no more to {direction}.")


def _regions(where: str, store: "LabelStore") -> "tuple[list[Region], list[str]]":
    """Return the regions of an option, and notes about the file that it names."""
    from napari_uhrseg.io.corrections.region_text import regions_of

    return regions_of(parse_region_option(where), store)


def _each(
    corrections: "Corrections", action: Action, regions: "list[Region]"
) -> Iterator[float]:
    """Change one region after the other; yield the finished fraction of all."""
    change = corrections.confirm if action == "confirm" else corrections.revert
    for number, region in enumerate(regions):
        for share in change(region):
            yield (number + share) / len(regions)
