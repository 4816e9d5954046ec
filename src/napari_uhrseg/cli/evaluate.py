"""``napari-uhrseg evaluate``: compare a checkpoint's labels with reference masks."""

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from napari_uhrseg.cli.console import err, interruptible, json_line, out, warn
from napari_uhrseg.cli.shared_options import (
    CheckpointOption,
    IgnoreOption,
    InferenceHardware,
    JsonOption,
    OverlapOption,
    expand_options,
)
from napari_uhrseg.types import SegmentSettings

if TYPE_CHECKING:
    from napari_uhrseg.engine.evaluation.metrics import Scores


@expand_options
def evaluate(
    images: Annotated[Path, typer.Argument(help="Folder of images, or one image.")],
    masks: Annotated[
        Path,
        typer.Argument(help="Folder of masks with the same file stems, or one mask."),
    ],
    checkpoint: CheckpointOption,
    ignore: IgnoreOption = None,
    *,
    hardware: InferenceHardware,
    overlap: OverlapOption = None,
    json: JsonOption = False,
) -> None:
    """Segment images and compare with masks: IoU, F1 and accuracy by class.

    Mask values have the meaning that they had in training (on the checkpoint's card).
    """
    with err.status("Loading torch and the checkpoint"):
        from napari_uhrseg.engine.data.folder_dataset import FolderDataset
        from napari_uhrseg.engine.evaluation.evaluate import evaluate as score
        from napari_uhrseg.models.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint)
        budget = hardware.budget()
    settings = SegmentSettings(
        device=hardware.device, precision=hardware.precision, overlap=overlap
    )
    with err.status("Reading the masks"):
        data = FolderDataset(
            images, masks, loaded.card.legend, ignore or None, held_out=0, cache=0
        )
    for text in data.warnings:
        warn(f"{text[0].upper()}{text[1:]}.")
    scenes = data.training
    total: Scores | None = None
    with interruptible("Nothing was saved."):
        for number, scene in enumerate(scenes, 1):
            with err.status(f"{scene.name} ({number} of {len(scenes)})"):
                scores = score(scene.image, scene.target, loaded, settings, budget)
            total = scores if total is None else total + scores
            if json:
                json_line(event="image", name=scene.name, metrics=scores.to_dict())
            else:
                out.print(f"{scene.name}: mIoU {scores.miou:.1%}", highlight=False)
    assert total is not None  # without scenes the dataset raises an error
    if json:
        json_line(event="total", images=len(scenes), metrics=total.to_dict())
    else:
        out.print(_table(total))


def _table(scores: "Scores") -> Table:
    """Return a row for each class; a dash for one in neither masks nor labels."""
    table = Table("class", "IoU", "F1", "accuracy", "share of masks")
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
