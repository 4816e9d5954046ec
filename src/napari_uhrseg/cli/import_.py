"""``napari-uhrseg import``: another program's checkpoint, made into one of ours."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from napari_uhrseg.cli.console import err, json_line, out
from napari_uhrseg.cli.options import JsonOption
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.dataset_legends import LEGENDS
from napari_uhrseg.models.importers import IMPORTERS
from napari_uhrseg.types import Legend


def import_(
    file: Annotated[
        str,
        typer.Argument(
            help="A file of ISDNet or GLNet; for plain a folder saved by "
            "segmentation-models-pytorch, or its name on the Hugging Face hub."
        ),
    ],
    model: Annotated[str, typer.Option(help=f"The method: {', '.join(IMPORTERS)}.")],
    output: Annotated[
        Path, typer.Option(help="The checkpoint to write: a .safetensors file.")
    ],
    second: Annotated[
        Path | None,
        typer.Option(
            help="GLNet: the file of its first step (global), where FILE is of the "
            "last (local2global)."
        ),
    ] = None,
    mode: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=3,
            help="GLNet: 1 only the overview, 2 overview to windows, 3 both ways. "
            "Default: by what the files have learned.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(min=1, help="plain: side of the windows. Default: about 512."),
    ] = None,
    legend: Annotated[
        str | None,
        typer.Option(help=f"Classes of a known data set: {', '.join(LEGENDS)}."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(help="A text file, a line a class: value name #rrggbb."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make a checkpoint from an official file or a segmentation-models-pytorch folder.

    Files are read as weights alone: what would have to run code is refused. A file
    with keys that are unknown or missing is refused too, and they are listed.
    """
    if output.exists() and not overwrite:
        raise CheckpointError(
            f"{output} exists already.", "Choose another name, or pass --overwrite."
        )
    if output.suffix != ".safetensors":
        raise CheckpointError(
            f"{output} does not end in .safetensors.",
            "Checkpoints are safetensors files: name it so.",
        )
    chosen = _legend(legend, classes)
    with err.status("Reading the weights"):
        from napari_uhrseg.models.checkpoint import save_checkpoint
        from napari_uhrseg.models.importers import import_checkpoint

        made, card = import_checkpoint(file, model, second, chosen, mode, window)
        card = replace(card, command=shlex.join(["napari-uhrseg", *sys.argv[1:]]))
        save_checkpoint(output, made, card, half=False)  # the same numbers as theirs
    names = [c.name for c in card.legend]
    if json:
        json_line(event="saved", path=output, model=card.model, classes=names)
        return
    out.print(f"Classes: {', '.join(names)}", highlight=False, soft_wrap=True)
    out.print(f"Checkpoint: {output}", highlight=False, soft_wrap=True)


def _legend(name: str | None, file: Path | None) -> Legend | None:
    if name is not None and file is not None:
        raise CheckpointError(
            "Both --legend and --classes are given.", "Give one of them."
        )
    if name is not None:
        if name.lower() not in LEGENDS:
            raise CheckpointError(
                f"There is no legend named {name!r}.",
                f"There are: {', '.join(LEGENDS)}.",
            )
        return LEGENDS[name.lower()]
    if file is None:
        return None
    from napari_uhrseg.engine.data.folder_dataset import read_classes

    return read_classes(file)
