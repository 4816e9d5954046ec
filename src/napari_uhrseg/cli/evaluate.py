"""``napari-uhrseg evaluate``: how well a checkpoint labels images with known labels."""

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from napari_uhrseg.cli.console import err, json_line, out, stoppable
from napari_uhrseg.cli.options import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    MemoryOption,
    PrecisionOption,
    make_budget,
)
from napari_uhrseg.types import SegmentSettings

if TYPE_CHECKING:
    from napari_uhrseg.engine.evaluation.metrics import Scores


def evaluate(
    images: Annotated[Path, typer.Argument(help="A folder of images, or one image.")],
    masks: Annotated[
        Path, typer.Argument(help="Masks of the same file stems, or one mask.")
    ],
    checkpoint: CheckpointOption,
    ignore: Annotated[
        list[int] | None,
        typer.Option(help="A mask value that stands for no class; 255 if not given."),
    ] = None,
    memory_budget: MemoryOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    overlap: Annotated[
        int | None,
        typer.Option(help="Pixels that neighbouring windows share.", min=0),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Label images and compare: IoU, F1 and accuracy per class and whole.

    Mask values mean what the checkpoint's card says they meant in training.
    """
    with err.status("Loading torch and the checkpoint"):
        from napari_uhrseg.engine.data.folder_dataset import FolderDataset
        from napari_uhrseg.engine.evaluation.evaluate import evaluate as score
        from napari_uhrseg.models.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        budget = make_budget(device, memory_budget)
    settings = SegmentSettings(device=device, precision=precision, overlap=overlap)
    with err.status("Looking at the masks"):
        scenes = FolderDataset(
            images, masks, loaded.card.legend, ignore or None, held_out=0, cache=0
        ).training
    total: Scores | None = None
    with stoppable("Nothing was kept."):
        for number, scene in enumerate(scenes, 1):
            with err.status(f"{scene.name} ({number} of {len(scenes)})"):
                scores = score(scene.image, scene.target, loaded, settings, budget)
            total = scores if total is None else total + scores
            if json:
                json_line(event="image", name=scene.name, metrics=scores.to_dict())
            else:
                out.print(f"{scene.name}: mIoU {scores.miou:.1%}", highlight=False)
    assert total is not None  # no scenes: an error already
    if json:
        json_line(event="total", images=len(scenes), metrics=total.to_dict())
    else:
        out.print(_table(total))


def _table(scores: "Scores") -> Table:
    """A row a class; what neither the truth nor the labels have is a dash."""
    table = Table("class", "IoU", "F1", "accuracy", "share of truth")
    truth = scores.counts.sum(1)
    for row in zip(
        scores.names,
        scores.iou,
        scores.f1,
        scores.recall,
        truth / truth.sum(),
        strict=True,
    ):
        table.add_row(row[0], *map(_percent, row[1:]))
    table.add_section()
    whole = scores.to_dict()
    table.add_row("all", *(_percent(whole[k]) for k in ("miou", "f1", "accuracy")))
    return table


def _percent(value: float) -> str:
    return "–" if isnan(value) else f"{value:.1%}"
