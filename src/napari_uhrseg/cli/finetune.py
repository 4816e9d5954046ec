"""``napari-uhrseg finetune``: a checkpoint from what was corrected in a store."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from napari_uhrseg.cli.console import (
    err,
    json_line,
    out,
    progress_bar,
    stoppable,
    time_left,
)
from napari_uhrseg.cli.options import (
    CheckpointOption,
    DeviceOption,
    JsonOption,
    MemoryOption,
    make_budget,
)
from napari_uhrseg.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_uhrseg.engine.events import TrainEvent


def finetune(
    store: Annotated[str, typer.Argument(help="The label store with corrections.")],
    checkpoint: CheckpointOption,
    output: Annotated[
        Path, typer.Option(help="The checkpoint to write: a .safetensors file.")
    ],
    image: Annotated[
        str | None, typer.Option(help="The image, if it is not where it was.")
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Four times as long.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=2)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    trains: Annotated[
        Literal["all", "decoder", "head"],
        typer.Option(help="Everything, all but the encoder, or the last layer."),
    ] = "all",
    distillation_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of the old answers where nothing was corrected.", min=0
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    memory_budget: MemoryOption = None,
    device: DeviceOption = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="auto: bf16 where the device is made for it."),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished checkpoint.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Fine-tune a checkpoint from the corrections in a store.

    As the window does it: the same windows, order and schedule. Ctrl-C stops it; the
    same command goes on from there, and ends with the same weights.
    """
    with err.status("Loading torch and the checkpoint"):
        from napari_uhrseg.engine.finetuning.finetune import FineTuneSettings, fine_tune
        from napari_uhrseg.io.labels.store import LabelStore
        from napari_uhrseg.io.open import open_image
        from napari_uhrseg.models.checkpoint import load_checkpoint

        make = FineTuneSettings.thorough if thorough else FineTuneSettings.quick
        chosen = {
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "distillation_weight": distillation_weight,
        }
        settings = make(
            trainable=trains,
            seed=seed,
            device=device,
            precision=precision,
            **{k: v for k, v in chosen.items() if v is not None},
        )
        labels = LabelStore.open(store)
        path = image or labels.image_path
        if path is None:
            raise StoreError(
                f"{store} does not say where its image is.", "Name it with --image."
            )
        opened, loaded = open_image(path), load_checkpoint(checkpoint)
        budget = make_budget(device, memory_budget)
    with (
        labels,
        stoppable(
            "What it has learned so far is kept; the same command goes on."
        ) as watched,
        closing(
            fine_tune(
                opened, loaded, labels, output, settings, budget,
                resume=True, overwrite=overwrite,
            )  # type: ignore[type-var] # a generator, though only said to iterate
        ) as events,
    ):  # fmt: skip
        (_tell_json if json else _tell)(watched(events))


def _tell_json(events: "Iterator[TrainEvent]") -> None:
    from napari_uhrseg.engine import events as e

    for event in events:
        match event:
            case e.DatasetReady(lesson):
                json_line(event="gathered", lesson=lesson)
            case e.MemoryPlanned(how, cut):
                json_line(event="fitted", how=how, cut=cut)
            case e.Progress(done, total, left):
                json_line(event="progress", done=done, total=total, seconds_left=left)
            case e.StepLogged(step, losses, rate):
                json_line(event="trained", step=step, losses=losses, learning_rate=rate)
            case e.Validated(step, metrics, best):
                json_line(event="validated", step=step, metrics=metrics, best=best)
            case e.Saved(path, step):
                json_line(event="saved", path=path, step=step)
            case e.FineTuneFinished(before, after, verdict, path):
                json_line(
                    event="compared",
                    before=before,
                    after=after,
                    verdict=verdict,
                    path=path,
                )


def _tell(events: "Iterator[TrainEvent]") -> None:
    from napari_uhrseg.engine import events as e

    with progress_bar() as bar:
        task = bar.add_task("Fine-tuning", total=None, left="")
        for event in events:
            match event:
                case e.DatasetReady(lesson):
                    out.print(Text(f"Learning from {lesson.summary()}"))
                case e.MemoryPlanned(how, cut):
                    if cut:
                        out.print(Text(f"To keep to the memory budget: {how}"))
                case e.Progress(done, total, left):
                    bar.update(task, completed=done, total=total, left=time_left(left))
                case e.StepLogged(_, losses, _):
                    text = f"Fine-tuning  loss {losses['loss']:.3f}"
                    bar.update(task, description=text)
                case e.Validated(step, metrics, _):
                    if "miou" in metrics:
                        what = f"Step {step}" if step else "Before"
                        out.print(Text(f"{what}: mIoU {metrics['miou']:.1%}"))
                case e.Saved():
                    pass  # told at the end
                case e.FineTuneFinished(_, _, verdict, path):
                    out.print(Text(f"{verdict[0].upper()}{verdict[1:]}."))
                    out.print(f"Checkpoint: {path}", highlight=False, soft_wrap=True)
