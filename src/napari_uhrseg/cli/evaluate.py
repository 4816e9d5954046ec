"""``napari-uhrseg evaluate``: compare a checkpoint's labels with reference masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.table import Table

from napari_uhrseg.cli.console import (
    bad_parameter,
    err,
    interruptible,
    json_line,
    out,
    warn,
)
from napari_uhrseg.cli.shared_options import (
    CheckpointOption,
    IgnoreOption,
    InferenceHardware,
    JsonOption,
    OverlapOption,
    OverwriteOption,
    expand_options,
)
from napari_uhrseg.errors import ExportError, UhrSegError
from napari_uhrseg.types import SegmentSettings

if TYPE_CHECKING:
    from napari_uhrseg.engine.evaluation.metrics import Scores

ReportOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="File of the confusion matrix and the accuracies: a table (.csv, .txt) or "
        "a picture (.png). May be repeated."
    ),
]


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
    report: ReportOption = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Segment images and compare with masks: IoU, F1 and accuracy by class.

    Mask values have the meaning that they had in training (on the checkpoint's card).
    The area-weighted accuracy follows Olofsson et al. (2014).
    """
    files = ReportFiles.checked(report, overwrite)
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
    scenes = [
        LabelledImage(
            s.name, partial(score, s.image, s.target, loaded, settings, budget)
        )
        for s in data.training
    ]
    with interruptible("Nothing was saved."):
        files.write(score_images(scenes, json=json))


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Files of a report, and whether they may be replaced."""

    paths: tuple[Path, ...]
    overwrite: bool

    @classmethod
    def checked(cls, paths: Sequence[Path] | None, overwrite: bool) -> "ReportFiles":
        """Return the files, whose suffixes and places are checked before the work."""
        from napari_uhrseg.engine.evaluation.report import check_report

        for path in paths or ():
            with bad_parameter("--report"):
                check_report(path)
            if path.exists() and not overwrite:
                raise ExportError(
                    f"{path} exists already; nothing was written.",
                    "Choose another name, or allow overwriting (--overwrite).",
                )
        return cls(tuple(paths or ()), overwrite)

    def write(self, scores: "Scores | None") -> None:
        """Write all files; none if there are no scores."""
        from napari_uhrseg.engine.evaluation.report import write_report

        if scores is None:
            return
        for path in self.paths:
            write_report(scores, path, overwrite=self.overwrite)
            err.print(f"Report: {path}", highlight=False, soft_wrap=True)


class LabelledImage(NamedTuple):
    """Name of an image, and a function that compares its labels with the truth."""

    name: str
    score: "Callable[[], Scores]"


def score_images(
    images: "Sequence[LabelledImage]",
    failed: Callable[[str, UhrSegError], object] | None = None,
    *,
    json: bool,
) -> "Scores | None":
    """Print the scores of each image and of all, and return those of all.

    Parameters
    ----------
    images
        The images, at least one.
    failed
        Called with the name of an image and its error; the others continue. None: an
        error is raised.
    json
        Print JSON.
    """
    total: Scores | None = None
    count = 0
    for number, each in enumerate(images, 1):
        try:
            with err.status(f"{each.name} ({number} of {len(images)})"):
                scores = each.score()
        except UhrSegError as error:
            if failed is None:
                raise
            failed(each.name, error)
            continue
        count += 1
        total = scores if total is None else total + scores
        if json:
            json_line(event="image", name=each.name, metrics=scores.to_dict())
        else:
            out.print(f"{each.name}: mIoU {scores.miou:.1%}", highlight=False)
    if total is None:
        return None
    weighted = total.area_weighted()
    if json:
        known = {
            "accuracy": float(weighted.overall.value),
            "margin": float(weighted.overall.margin),
        }
        json_line(
            event="total",
            images=count,
            metrics=total.to_dict(),
            area_weighted={k: None if isnan(v) else v for k, v in known.items()},
        )
    else:
        from napari_uhrseg.engine.evaluation.report import summary

        out.print(_table(total))
        out.print(summary(weighted), highlight=False, soft_wrap=True)
    return total


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
