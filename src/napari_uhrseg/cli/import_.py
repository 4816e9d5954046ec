"""``napari-uhrseg import``: convert a checkpoint of another program."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from napari_uhrseg.cli.console import command_line, err, json_line, out
from napari_uhrseg.cli.shared_options import (
    ClassesFileOption,
    JsonOption,
    OutputCheckpointOption,
    OverwriteOption,
    one_of,
)
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.dataset_legends import LEGENDS
from napari_uhrseg.models.importers import IMPORTERS
from napari_uhrseg.types import Legend
from napari_uhrseg.units import quoted


def import_(
    file: Annotated[
        str,
        typer.Argument(
            help="File of ISDNet or GLNet. For plain: a folder saved by "
            "segmentation-models-pytorch, or its name on the Hugging Face hub."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help=f"Method: {', '.join(IMPORTERS)}.", callback=one_of(IMPORTERS)
        ),
    ],
    output: OutputCheckpointOption,
    second: Annotated[
        Path | None,
        typer.Option(
            help="GLNet: the file of the first training stage (global), if FILE is of "
            "the last one (local2global)."
        ),
    ] = None,
    mode: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=3,
            help="GLNet: 1 overview alone, 2 overview to patches, 3 both directions. "
            "Default: the last stage that the files were trained in.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1, help="plain: side of the windows in pixels. Default: about 512."
        ),
    ] = None,
    legend: Annotated[
        str | None,
        typer.Option(
            help=f"Classes of a known dataset: {', '.join(LEGENDS)}.",
            callback=one_of(LEGENDS),
        ),
    ] = None,
    classes: ClassesFileOption = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Convert an official file or a segmentation-models-pytorch folder to a checkpoint.

    Only weights are read. Files that would run code are refused. A file with unknown or
    missing keys is refused, and the keys are listed.
    """
    _check_output(output, overwrite)
    chosen = _legend(legend, classes)
    with err.status("Reading the weights"):
        from napari_uhrseg.models.checkpoint import save_checkpoint
        from napari_uhrseg.models.importers import import_checkpoint

        made, card = import_checkpoint(file, model, second, chosen, mode, window)
        card = replace(card, command=command_line())
        save_checkpoint(output, made, card, half=False)  # keeps the published values
    names = [c.name for c in card.legend]
    if json:
        json_line(event="saved", path=output, model=card.model, classes=names)
        return
    out.print(f"Classes: {quoted(names)}", highlight=False, soft_wrap=True)
    out.print(f"Checkpoint: {output}", highlight=False, soft_wrap=True)


def _check_output(output: Path, overwrite: bool) -> None:
    """Raise CheckpointError if the output exists or has another suffix."""
    if output.exists() and not overwrite:
        raise CheckpointError(
            f"{output} exists.", "Choose another name, or give --overwrite."
        )
    if output.suffix != ".safetensors":
        raise CheckpointError(
            f"{output} does not end in .safetensors.",
            "Checkpoints are safetensors files. Change the suffix.",
        )


def _legend(name: str | None, file: Path | None) -> Legend | None:
    if name is not None and file is not None:
        raise CheckpointError(
            "Both --legend and --classes are given.", "Give one of them."
        )
    if name is not None:
        return LEGENDS[name]
    if file is None:
        return None
    from napari_uhrseg.engine.data.mask_legend import read_classes

    return read_classes(file)
