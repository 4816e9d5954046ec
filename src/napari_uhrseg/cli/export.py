"""``napari-uhrseg export`` and ``areas``: labels as files and as numbers."""

from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import (
    err,
    follow,
    json_line,
    out,
    stoppable,
)
from napari_uhrseg.cli.options import JsonOption
from napari_uhrseg.units import format_area

if TYPE_CHECKING:
    from napari_uhrseg.io.export.class_areas import AreaTable
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.types import Region

StoreArgument = Annotated[
    str,
    typer.Argument(
        metavar="STORE", help="A label store (an OME-Zarr folder, or its URL)."
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there.")
]


def export(
    store: StoreArgument,
    output: Annotated[Path, typer.Option(help="The file or folder to write.")],
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="cog, confidence, ome-tiff, ome-zarr, geojson (longitude and "
            "latitude), geojson-projected, qupath (GeoJSON in pixels), geopackage.",
        ),
    ],
    simplify: Annotated[
        float,
        typer.Option(min=0, help="Polygons: how far outlines may be moved, in pixels."),
    ] = 0.0,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Write what a label store shows, corrections included, for other programs.

    The target appears whole or not at all; Ctrl-C leaves nothing behind. Polygons with
    over a million corners are divided along straight lines.
    """
    from napari_uhrseg.io.export import export, warnings
    from napari_uhrseg.io.labels.store import LabelStore

    with (
        stoppable("Nothing was written.") as watched,
        LabelStore.open(store) as opened,
        closing(
            export(opened, output, format_name, simplify=simplify, overwrite=overwrite)  # type: ignore[type-var] # a generator, though only said to iterate
        ) as parts,
    ):
        said = warnings(opened, format_name)
        if not json:
            for warning in said:
                err.print(Text(warning, "yellow"), soft_wrap=True)
        follow(watched(parts), "Exporting", json)
    if json:
        json_line(event="exported", path=output, format=format_name, warnings=said)
    else:
        out.print(f"Exported: {output}", highlight=False, soft_wrap=True)


def areas(
    store: StoreArgument,
    regions: Annotated[
        Path | None,
        typer.Option(
            help="Polygons (GeoJSON): a table for each, instead of the whole image."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A CSV file to write the tables to.")
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Say the area, the share and the objects of each class.

    In m² and ha, or µm² and mm², by the image's pixel size; on the ellipsoid where
    its coordinates are degrees.
    """
    from napari_uhrseg.io.export import whole
    from napari_uhrseg.io.export.class_areas import areas, to_csv
    from napari_uhrseg.io.labels.store import LabelStore

    tables: list[AreaTable] = []
    with (
        stoppable("Nothing was written.") as watched,
        LabelStore.open(store) as opened,
        # before anything is counted: whether it may be written
        nullcontext()
        if output is None
        else whole(output.absolute(), overwrite=overwrite) as building,
    ):
        for region, name in _regions(opened, regions):
            title = f"Counting {name}"
            table = follow(watched(areas(opened, region, name)), title, json)
            tables.append(table)
            if json:
                json_line(event="areas", **_fields(table))
            elif output is None:
                _tell(table)
        if building is not None:
            building.write_text(to_csv(tables), encoding="utf-8")
    if output is not None and not json:
        out.print(f"Areas: {output}", highlight=False, soft_wrap=True)


def _regions(
    store: "LabelStore", path: Path | None
) -> "list[tuple[Region | None, str]]":
    """What to count and what to call it: numbered, with the class it names."""
    if path is None:
        return [(None, "image")]
    from napari_uhrseg.io.corrections.geojson_import import read_polygons

    found = read_polygons(path, store)
    return [
        (region, f"{i} {name}" if name else str(i))
        for i, (region, name) in enumerate(found, 1)
    ]


def _fields(table: "AreaTable") -> dict[str, object]:
    return {name: getattr(table, name) for name in table.__slots__}


def _tell(table: "AreaTable") -> None:
    shown = Table(title=f"{table.region} ({table.basis})", title_justify="left")
    for name in ("Class", "Area", "Share", "Objects", "Median"):
        shown.add_column(name, justify="left" if name == "Class" else "right")
    for row in table.rows:
        objects = row.objects
        shown.add_row(
            Text("■ ", row.label.color) + Text(row.label.name, "none"),
            format_area(row.area, table.unit),
            f"{row.share:.1%}",
            "" if objects is None else str(objects.count),
            "" if not objects else format_area(objects.median, table.unit),
        )
    out.print(shown)
