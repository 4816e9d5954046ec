"""``napari-uhrseg areas``: measure classes in an image or in regions."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeGuard

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
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.units import format_area, quoted

if TYPE_CHECKING:
    from napari_uhrseg.io.export.class_areas import AreaTable
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.types import AnnotationRegion, Region

REGION_SUFFIXES = (".geojson", ".json", ".gpkg")
LEAST_OUTSIDE = 0.0005  # share of a region beside the image that is reported


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOptions:
    """Regions that are measured; without them the whole image."""

    regions: Annotated[
        Path | None,
        typer.Option(
            help="Polygons (GeoJSON, GeoPackage, shapefile): one table for each "
            "feature instead of the whole image."
        ),
    ] = None
    annotations: Annotated[
        bool,
        typer.Option(
            "--annotations",
            help="Measure the annotation regions of the label store, which the tab "
            "Correct keeps.",
        ),
    ] = False

    def check(self, output: Path | None) -> None:
        """Raise BadParameter if the options and the output do not fit together."""
        if self.regions is not None and self.annotations:
            raise typer.BadParameter("Give only one of --regions and --annotations.")
        if not _is_region_file(output) or self.annotations:
            return
        if self.regions is None:
            raise typer.BadParameter(
                f"{output.name} is a file of regions. Give --regions, --annotations, "
                "or a CSV file.",
                param_hint="--output",
            )
        from napari_uhrseg.io.measure.region_shares import check_target

        with bad_parameter("--output"):
            check_target(self.regions, output)


@expand_options
def areas(
    store: StoreArgument,
    clean: CleanUpOptions,
    regions: RegionOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            help="CSV file to write; or a GeoJSON or GeoPackage with the values of "
            "each region as columns: with --regions a copy of their file, with "
            "--annotations a new file."
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
    from napari_uhrseg.io.export.class_areas import areas, to_csv
    from napari_uhrseg.io.labels.store import LabelStore

    regions.check(output)
    with (
        interruptible("Nothing was written.") as watch,
        LabelStore.open(store) as opened,
        # checks the output before the count starts
        _csv_target(output, overwrite=overwrite) as building,
        cleaned_labels(opened, clean.clean_up(), watch, json=json) as cleaned,
    ):
        if _is_region_file(output):
            steps = _shares(opened, cleaned, regions, output, overwrite=overwrite)
            with closing(steps):
                notes = run_steps(watch(steps), "Counting", json)
            event: dict[str, object] = {"event": "written", "path": output}
        else:
            named, notes = _named_regions(opened, regions)
            tables = []
            for region, name in named:
                counted = watch(areas(cleaned, region, name))
                tables.append(run_steps(counted, f"Counting {name}", json))
                _show(tables[-1], output, json=json)
            notes += _outside(tables)
            if building is not None:
                building.write_text(to_csv(tables), encoding="utf-8")
            event = {"event": "measured", "regions": len(tables)}
    if json:
        json_line(**event, notes=notes)
        return
    for note in notes:
        warn(note)
    if output is not None:
        title = "Regions" if _is_region_file(output) else "Areas"
        out.print(f"{title}: {output}", highlight=False, soft_wrap=True)


def _is_region_file(output: Path | None) -> TypeGuard[Path]:
    return output is not None and output.suffix.lower() in REGION_SUFFIXES


@contextmanager
def _csv_target(output: Path | None, *, overwrite: bool) -> Iterator[Path | None]:
    """Yield the temporary path of a table; None without one."""
    from napari_uhrseg.io.export import atomic_target

    if output is None or _is_region_file(output):
        yield None
        return
    with atomic_target(output.absolute(), overwrite=overwrite) as building:
        yield building


def _shares(
    store: "LabelStore",
    cleaned: "LabelStore",
    regions: RegionOptions,
    output: Path,
    *,
    overwrite: bool,
) -> Generator[float | tuple[str, ...], None, None]:
    """Write the values of regions as columns; yield as `write_region_shares` does.

    Parameters
    ----------
    store
        The label store.
    cleaned
        The labels that are counted.
    regions
        The chosen regions.
    output
        GeoJSON or GeoPackage to write.
    overwrite
        If True, an existing file is replaced.
    """
    from napari_uhrseg.io.measure.annotation_shares import write_annotation_shares
    from napari_uhrseg.io.measure.region_shares import write_region_shares

    if regions.regions is not None:
        yield from write_region_shares(
            cleaned, regions.regions, output, overwrite=overwrite
        )
        return
    yield from write_annotation_shares(
        store, _annotations(store), output, labels=cleaned, overwrite=overwrite
    )


def _annotations(store: "LabelStore") -> "tuple[AnnotationRegion, ...]":
    from napari_uhrseg.io.corrections.annotations.regions_file import read_regions

    found = read_regions(store.path)
    if not found:
        raise UhrSegError(
            f"{store.path.name} has no annotation regions.",
            "Draw shapes in the window, and press Keep shapes in the tab Correct.",
        )
    return found


def _named_regions(
    store: "LabelStore", regions: RegionOptions
) -> "tuple[list[tuple[Region | None, str]], list[str]]":
    """Return the regions to measure with their names, and notes about the file."""
    if regions.annotations:
        return [(found.region, found.name) for found in _annotations(store)], []
    if regions.regions is None:
        return [(None, "image")], []
    from napari_uhrseg.io.corrections.polygon_import import read_polygon_file

    found = read_polygon_file(regions.regions, store)
    notes = found.notes(store.name)
    if found.outside:
        notes.append(f"Without a table: {quoted(found.outside)}.")
    return [(f.region, f.title) for f in found.features], notes


def _outside(tables: "Sequence[AreaTable]") -> list[str]:
    return [
        f"{table.outside:.1%} of {table.region!r} lies beside the image."
        for table in tables
        if table.outside >= LEAST_OUTSIDE
    ]


def _fields(table: "AreaTable") -> dict[str, object]:
    return {name: getattr(table, name) for name in table.__slots__}


def _show(table: "AreaTable", output: Path | None, *, json: bool) -> None:
    """Print a table as JSON, or for the user if no file is written."""
    if json:
        json_line(event="areas", **_fields(table))
    if json or output is not None:
        return
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
