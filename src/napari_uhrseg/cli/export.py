"""``napari-uhrseg export`` and ``areas``: write labels to files, measure classes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table

from napari_uhrseg.cli.console import (
    bad_parameter,
    interruptible,
    json_line,
    out,
    run_steps,
    swatch,
    warn,
)
from napari_uhrseg.cli.measure.clean_up import CleanUpOptions, cleaned_labels
from napari_uhrseg.cli.shared_options import (
    JsonOption,
    OverwriteOption,
    StoreArgument,
    expand_options,
)
from napari_uhrseg.types import CleanUp
from napari_uhrseg.units import format_area, quoted

if TYPE_CHECKING:
    from napari_uhrseg.io.export.class_areas import AreaTable
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.paths import PathOrUrl
    from napari_uhrseg.types import Region

FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="cog, confidence, ome-tiff, ome-zarr, geojson (longitude and "
        "latitude), geojson-projected, qupath (GeoJSON in pixels), geopackage.",
    ),
]
SimplifyOption = Annotated[
    float,
    typer.Option(
        min=0,
        help="Polygons: remove corners whose triangle with their neighbours is "
        "smaller than the square of this number of pixels.",
    ),
]
SmoothOption = Annotated[
    float,
    typer.Option(
        min=0,
        help="Polygons: cut corners so that outlines become smooth. An outline moves "
        "by at most this number of pixels, after the simplification.",
    ),
]
REGION_SUFFIXES = (".geojson", ".json", ".gpkg")
LEAST_OUTSIDE = 0.0005  # share of a region beside the image that is reported


@expand_options
def export(
    store: StoreArgument,
    output: Annotated[Path, typer.Option(help="File or folder to write.")],
    format_name: FormatOption,
    clean: CleanUpOptions,
    simplify: SimplifyOption = 0.0,
    smooth: SmoothOption = 0.0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Export the displayed labels, with corrections, for other programs.

    The output is written completely or not at all, also after Ctrl-C. Polygons with
    more than a million corners are divided along straight lines. A clean-up changes the
    output and not the labels: first the majority filter, then objects and holes.
    """
    from napari_uhrseg.io.export.registry import check_request

    with bad_parameter("--format"):
        check_request(format_name, output, simplify, smooth)
    check_clean_up(format_name, clean.clean_up())
    with interruptible("Nothing was written.") as watch:
        options = ExportChoices(
            format_name, simplify, smooth, overwrite, clean.clean_up()
        )
        export_store(store, output, options, watch, json=json)


def check_clean_up(format_name: str, clean_up: CleanUp) -> None:
    """Raise BadParameter if a format has no labels that can be cleaned up."""
    if clean_up and format_name == "confidence":
        raise typer.BadParameter("The confidence cannot be cleaned up, only labels.")


class ExportChoices(NamedTuple):
    """Format of an export, changes of outlines in pixels, overwriting, clean-up."""

    format_name: str
    simplify: float
    smooth: float
    overwrite: bool
    clean_up: CleanUp = CleanUp()


def export_store(
    store: "str | PathOrUrl",
    output: Path,
    options: ExportChoices,
    watch: Callable[[Iterator[Any]], Iterator[Any]],
    *,
    json: bool,
) -> None:
    """Export a label store with a progress bar, and print the warnings.

    Parameters
    ----------
    store
        The label store.
    output
        File or folder to write.
    options
        Format and options, which fit together.
    watch
        Function that passes steps through and raises interrupts.
    json
        Print JSON.
    """
    from napari_uhrseg.io.export import check_target, export, warnings
    from napari_uhrseg.io.labels.store import LabelStore

    name, simplify, smooth, overwrite, clean_up = options
    with ExitStack() as stack:
        opened = stack.enter_context(LabelStore.open(store))
        check_target(opened, output.absolute(), overwrite=overwrite)
        cleaned = stack.enter_context(
            cleaned_labels(opened, clean_up, watch, json=json)
        )
        steps = export(
            cleaned,
            output,
            name,
            simplify=simplify,
            smooth=smooth,
            overwrite=overwrite,
        )
        stack.enter_context(closing(steps))  # type: ignore[type-var] # a generator, annotated as an iterator
        found = warnings(opened, name)
        if not json:
            for warning in found:
                warn(warning)
        run_steps(watch(steps), "Exporting", json)
    if json:
        json_line(event="exported", path=output, format=name, warnings=found)
    else:
        out.print(f"Exported: {output}", highlight=False, soft_wrap=True)


@expand_options
def areas(
    store: StoreArgument,
    clean: CleanUpOptions,
    regions: Annotated[
        Path | None,
        typer.Option(
            help="Polygons (GeoJSON, GeoPackage, shapefile): one table for each "
            "feature instead of the whole image."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="CSV file to write; or with --regions a GeoJSON or GeoPackage: the "
            "regions' file with the values of each region as columns."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Measure the area, the share and the objects of each class.

    Areas are in m² and ha, or µm² and mm², from the image's pixel size. If coordinates
    are degrees, areas are computed on the ellipsoid. A region is a feature of the file
    with all its polygons. Its name is the feature's name, identifier or number. A
    clean-up changes the output and not the labels.
    """
    if output is not None and output.suffix.lower() in REGION_SUFFIXES:
        if regions is None:
            raise typer.BadParameter(
                f"{output.name} is a file of regions. Give --regions, or a CSV file.",
                param_hint="--output",
            )
        clean_up = clean.clean_up()
        _write_region_shares(store, regions, output, clean_up, overwrite, json)
        return
    from napari_uhrseg.io.export import atomic_target
    from napari_uhrseg.io.export.class_areas import areas, to_csv
    from napari_uhrseg.io.labels.store import LabelStore

    tables: list[AreaTable] = []
    with (
        interruptible("Nothing was written.") as watch,
        LabelStore.open(store) as opened,
        # checks the output before the count starts
        nullcontext()
        if output is None
        else atomic_target(output.absolute(), overwrite=overwrite) as building,
        cleaned_labels(opened, clean.clean_up(), watch, json=json) as cleaned,
    ):
        named, notes = _regions(opened, regions)
        for region, name in named:
            title = f"Counting {name}"
            table = run_steps(watch(areas(cleaned, region, name)), title, json)
            tables.append(table)
            if table.outside >= LEAST_OUTSIDE:
                notes.append(f"{table.outside:.1%} of {name!r} lies beside the image.")
            if json:
                json_line(event="areas", **_fields(table))
            elif output is None:
                _show(table)
        if building is not None:
            building.write_text(to_csv(tables), encoding="utf-8")
    if json:
        json_line(event="measured", regions=len(tables), notes=notes)
        return
    for note in notes:
        warn(note)
    if output is not None:
        out.print(f"Areas: {output}", highlight=False, soft_wrap=True)


def _write_region_shares(
    store: str,
    regions: Path,
    output: Path,
    clean_up: CleanUp,
    overwrite: bool,
    json: bool,
) -> None:
    """Write the values of regions as columns of their file.

    Parameters
    ----------
    store
        Path of the label store.
    regions
        File of the regions.
    output
        File to write.
    clean_up
        Clean-up of the labels before they are counted.
    overwrite
        Replace an existing file.
    json
        Print JSON.
    """
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.measure.region_shares import check_target, write_region_shares

    with bad_parameter("--output"):
        check_target(regions, output)
    with (
        interruptible("Nothing was written.") as watch,
        LabelStore.open(store) as opened,
        cleaned_labels(opened, clean_up, watch, json=json) as cleaned,
        closing(
            write_region_shares(cleaned, regions, output, overwrite=overwrite)  # type: ignore[type-var] # a generator, annotated as an iterator
        ) as steps,
    ):
        notes = run_steps(watch(steps), "Counting", json)
    if json:
        json_line(event="written", path=output, notes=notes)
        return
    for note in notes:
        warn(note)
    out.print(f"Regions: {output}", highlight=False, soft_wrap=True)


def _regions(
    store: "LabelStore", path: Path | None
) -> "tuple[list[tuple[Region | None, str]], list[str]]":
    """Return the regions to measure with their names, and notes about the file."""
    if path is None:
        return [(None, "image")], []
    from napari_uhrseg.io.corrections.polygon_import import read_polygon_file

    found = read_polygon_file(path, store)
    notes = found.notes(store.name)
    if found.outside:
        notes.append(f"Without a table: {quoted(found.outside)}.")
    return [(f.region, f.title) for f in found.features], notes


def _fields(table: "AreaTable") -> dict[str, object]:
    return {name: getattr(table, name) for name in table.__slots__}


def _show(table: "AreaTable") -> None:
    shown = Table(title=f"{table.region} ({table.basis})", title_justify="left")
    for name in ("Class", "Area", "Share", "Objects", "Median"):
        shown.add_column(name, justify="left" if name == "Class" else "right")
    for row in table.rows:
        objects = row.objects
        shown.add_row(
            swatch(row.label),
            format_area(row.area, table.unit),
            f"{row.share:.1%}",
            "" if objects is None else str(objects.count),
            "" if not objects else format_area(objects.median, table.unit),
        )
    out.print(shown)
