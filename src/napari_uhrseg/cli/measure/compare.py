"""``napari-uhrseg compare``: changes between two label stores of one place."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from napari_uhrseg.cli.console import (
    bad_parameter,
    interruptible,
    json_line,
    out,
    run_steps,
)
from napari_uhrseg.cli.shared_options import JsonOption, OverwriteOption, StoreArgument
from napari_uhrseg.units import format_area

if TYPE_CHECKING:
    from napari_uhrseg.io.measure.changes import Transitions


def compare(
    first: StoreArgument,
    second: Annotated[
        str, typer.Argument(metavar="STORE2", help="Label store of the second date.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="CSV file of the transition matrix, in ha, mm² or pixels."),
    ] = None,
    change_map: Annotated[
        Path | None,
        typer.Option(
            "--map", help="File of the map of changes: .tif, .gpkg or .geojson."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Compare the displayed labels of two stores of one place.

    The stores must have the same grid and classes of the same names. The matrix has the
    classes of the first store in rows and those of the second in columns.
    """
    from napari_uhrseg.io.export import atomic_target
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.measure.changes import (
        check_comparable,
        check_map,
        compare_labels,
        write_changes,
    )

    with (
        interruptible("Complete files are kept.") as watch,
        LabelStore.open(first) as one,
        LabelStore.open(second) as other,
    ):
        check_comparable(one, other)
        if change_map is not None:
            with bad_parameter("--map"):
                check_map(change_map, one)
        found: Transitions = run_steps(
            watch(compare_labels(one, other)), "Comparing", json
        )
        if output is not None:
            with atomic_target(output.absolute(), overwrite=overwrite) as building:
                building.write_text(found.to_csv(), encoding="utf-8")
        if change_map is not None:
            with closing(
                write_changes((one, other), found, change_map, overwrite=overwrite)  # type: ignore[type-var] # a generator, annotated as an iterator
            ) as steps:
                run_steps(watch(steps), "Writing the map", json)
    if json:
        json_line(
            event="compared", unit=found.unit, classes=found.names,
            areas=found.areas.tolist(), changed=found.changed, compared=found.compared,
        )  # fmt: skip
        return
    _show(found)
    for title, path in (("Matrix", output), ("Map", change_map)):
        if path is not None:
            out.print(f"{title}: {path}", highlight=False, soft_wrap=True)


def _show(found: "Transitions") -> None:
    table = Table(
        title=f"From (rows) to (columns), {found.basis}", title_justify="left"
    )
    table.add_column("")
    for name in found.names:
        table.add_column(name, justify="right")
    for name, row in zip(found.names, found.areas.tolist(), strict=True):
        table.add_row(name, *(format_area(v, found.unit) if v else "–" for v in row))
    out.print(table)
    share = found.changed / found.compared if found.compared else 0.0
    out.print(
        f"Changed: {format_area(found.changed, found.unit)} ({share:.1%} of the area "
        "with a class in both).",
        highlight=False,
        soft_wrap=True,
    )
