"""``napari-uhrseg export``: write labels to files."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from napari_uhrseg.cli.console import (
    bad_parameter,
    interruptible,
    json_line,
    out,
    run_steps,
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

if TYPE_CHECKING:
    from napari_uhrseg.io.paths import PathOrUrl

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
