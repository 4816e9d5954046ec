"""``napari-uhrseg import``: convert a checkpoint of another program."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from napari_uhrseg.cli.console import command_line, err, json_line, out
from napari_uhrseg.cli.shared_options import (
    ClassesFileOption,
    JsonOption,
    OutputCheckpointOption,
    OverwriteOption,
    expand_options,
    one_of,
)
from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.dataset_legends import LEGENDS
from napari_uhrseg.models.importers import IMPORTERS
from napari_uhrseg.types import Legend
from napari_uhrseg.units import quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOptions:
    """Options of one method each."""

    second: Annotated[
        Path | None,
        typer.Option(
            help="GLNet: the file of the first training stage (global), if FILE is of "
            "the last one (local2global)."
        ),
    ] = None
    mode: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=3,
            help="GLNet: 1 overview alone, 2 overview to patches, 3 both directions. "
            "Default: the last stage that the files were trained in.",
        ),
    ] = None
    window: Annotated[
        int | None,
        typer.Option(
            min=1, help="plain: side of the windows in pixels. Default: about 512."
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassOptions:
    """Names and colours of the classes."""

    legend: Annotated[
        str | None,
        typer.Option(
            help=f"Classes of a known dataset: {', '.join(LEGENDS)}.",
            callback=one_of(LEGENDS),
        ),
    ] = None
    classes: ClassesFileOption = None

    def chosen(self) -> Legend | None:
        """Return the chosen classes. None: those of the file."""
        if self.legend is not None and self.classes is not None:
            raise CheckpointError(
                "Both --legend and --classes are given.", "Give one of them."
            )
        if self.legend is not None:
            return LEGENDS[self.legend]
        if self.classes is None:
            return None
        from napari_uhrseg.engine.data.mask_legend import read_classes

        return read_classes(self.classes)


@expand_options
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
    *,
    method: MethodOptions,
    class_options: ClassOptions,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Convert an official file or a segmentation-models-pytorch folder to a checkpoint.

    Only weights are read. Files that would run code are refused. A file with unknown or
    missing keys is refused, and the keys are listed.
    """
    _check_output(output, overwrite)
    legend = class_options.chosen()
    with err.status("Reading the weights"):
        from napari_uhrseg.models.checkpoint import save_checkpoint
        from napari_uhrseg.models.importers import import_checkpoint

        made, card = import_checkpoint(
            file, model, method.second, legend, method.mode, method.window
        )
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
