"""``napari-uhrseg objects``: write a table of all connected objects."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_uhrseg.cli.console import (
    bad_parameter,
    interruptible,
    json_line,
    out,
    run_steps,
)
from napari_uhrseg.cli.measure.clean_up import CleanUpOptions, cleaned_labels
from napari_uhrseg.cli.shared_options import (
    JsonOption,
    OverwriteOption,
    StoreArgument,
    expand_options,
)

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image


@expand_options
def objects(
    store: StoreArgument,
    output: Annotated[
        Path, typer.Option(help="File to write: .csv, .gpkg (points) or .parquet.")
    ],
    clean: CleanUpOptions,
    image: Annotated[
        str | None,
        typer.Option(help="Image of the labels, for the mean intensity of each band."),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Write a table of all connected objects of the displayed labels.

    An object is a set of pixels of one class that share sides. The columns are class,
    pixels, area, perimeter, position of the centroid, circularity, mean confidence, and
    with --image the mean intensity of each band. A clean-up changes the output and not
    the labels; objects then have no confidence.
    """
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.measure.object_files import check_table, write_objects

    with bad_parameter("--output"):
        check_table(output)
    with (
        interruptible("Nothing was written.") as watch,
        LabelStore.open(store) as opened,
        cleaned_labels(opened, clean.clean_up(), watch, json=json) as cleaned,
        closing(
            write_objects(cleaned, output, _image(image), overwrite=overwrite)  # type: ignore[type-var] # a generator, annotated as an iterator
        ) as steps,
    ):
        run_steps(watch(steps), "Measuring", json)
    if json:
        json_line(event="written", path=output)
    else:
        out.print(f"Objects: {output}", highlight=False, soft_wrap=True)


def _image(path: str | None) -> "Image | None":
    if path is None:
        return None
    from napari_uhrseg.io.open import open_image

    return open_image(path)
