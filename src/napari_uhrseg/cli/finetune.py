"""``napari-uhrseg finetune``: fine-tune a checkpoint on corrections."""

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from napari_uhrseg.cli.console import err, interruptible, out, run_events
from napari_uhrseg.cli.shared_options import (
    DryRunOption,
    JsonOption,
    OutputCheckpointOption,
    OverwriteOption,
    StoreArgument,
    TrainingHardware,
    expand_options,
    one_of,
)
from napari_uhrseg.cli.train import show_plan
from napari_uhrseg.errors import StoreError, TrainingError
from napari_uhrseg.models.registry import REGISTRY

if TYPE_CHECKING:
    from napari_uhrseg.engine.events import TrainEvent
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.paths import PathOrUrl
    from napari_uhrseg.models.checkpoint import Checkpoint
    from napari_uhrseg.types import FineTuneSettings

RESUMES = "The training state is saved; the same command resumes it."


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneOptions:
    """Settings of a fine-tuning run; ``None`` leaves a setting to the engine."""

    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Training steps. Default: 100, with --thorough 400."),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Windows in a step. Default: automatic.")
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Initial learning rate. Default: automatic."),
    ] = None
    trainable: Annotated[
        Literal["all", "decoder", "head"],
        typer.Option(
            help="Trainable layers: all, all but the encoder, or the last layer.",
        ),
    ] = "all"
    distillation_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Weight of previous predictions outside of the corrections; "
            "corrections have weight 1. 0: do not preserve previous predictions. "
            "Default: by the accuracy on the corrections.",
        ),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0


@expand_options
def finetune(
    store: StoreArgument,
    output: OutputCheckpointOption,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint file to start from (.safetensors).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Method of a new model, instead of a checkpoint: "
            f"{', '.join(REGISTRY)}. It has the classes of the store.",
            callback=one_of(REGISTRY),
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="Image file or URL. Default: the path in the label store. A URL in "
            "the store must be given, unless the store is on the same server."
        ),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Train four times as long.")
    ] = False,
    *,
    options: FineTuneOptions,
    hardware: TrainingHardware,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Fine-tune a checkpoint or train a new model on the corrections in a label store.

    A new pixel classifier (--model pixel_classifier) is trained within seconds.
    The result equals that of the window with the same settings. Ctrl-C stops the
    training. The same command resumes it and gives the same weights.
    """
    _check_start(checkpoint, model)
    with err.status("Loading torch and the checkpoint"):
        from napari_uhrseg.engine.finetuning.finetune import fine_tune, plan_fine_tuning

        settings, budget = _settings(options, hardware, thorough), hardware.budget()
        inputs = _inputs(store, image, checkpoint, model)
    if dry_run:
        with inputs[-1]:
            show_plan(plan_fine_tuning(*inputs, settings, budget), _show, json=json)
        return
    with (
        inputs[-1],
        interruptible(RESUMES) as watch,
        closing(
            fine_tune(
                *inputs, output, settings, budget, resume=True, overwrite=overwrite
            )  # type: ignore[type-var] # a generator, annotated as an iterator
        ) as events,
    ):
        last = run_events(watch(events), "Fine-tuning", _show, json=json)
    _check_saved(last)


def _inputs(
    store: str, image: str | None, checkpoint: Path | None, model: str | None
) -> "tuple[Image, Checkpoint, LabelStore]":
    """Open the image, the checkpoint or a new model, and the labels."""
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image

    labels = LabelStore.open(store)
    opened = open_image(image or _image_path(labels, store))
    return opened, _start(checkpoint, model, labels, opened), labels


def _check_start(checkpoint: Path | None, model: str | None) -> None:
    if (checkpoint is None) == (model is None):
        raise typer.BadParameter("Give either --checkpoint or --model.")


def _check_saved(last: "TrainEvent") -> None:
    """Raise TrainingError if a fine-tuning ended without a checkpoint."""
    from napari_uhrseg.engine.events import FineTuneFinished

    if isinstance(last, FineTuneFinished) and not last.saved:
        raise TrainingError(
            f"{last.path} was not written: every validated step is worse than the "
            "original checkpoint.",
            "Use the original checkpoint, correct more separate regions, or lower "
            "--learning-rate.",
        )


def _settings(
    options: FineTuneOptions, hardware: TrainingHardware, thorough: bool
) -> "FineTuneSettings":
    from napari_uhrseg.types import FineTuneSettings

    make = FineTuneSettings.thorough if thorough else FineTuneSettings.quick
    chosen = {k: v for k, v in asdict(options).items() if v is not None}
    return make(device=hardware.device, precision=hardware.precision, **chosen)


def _start(
    path: Path | None, model: str | None, labels: "LabelStore", image: "Image"
) -> "Checkpoint":
    """Return the checkpoint, or a new model with the classes of the labels."""
    from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
    from napari_uhrseg.models.checkpoint import load_checkpoint

    if path is not None:
        return load_checkpoint(path)
    assert model is not None
    found = new_checkpoint(model, None, labels.legend, image)
    err.print(Text(f"The encoder starts from {found.card.encoder_weights}."))
    return found


def _image_path(labels: "LabelStore", store: str) -> "PathOrUrl":
    """Return the stored path of the image; a URL on another server is refused."""
    from napari_uhrseg.io.paths import on_another_server

    path = labels.image_path
    if path is None:
        raise StoreError(
            f"{store} does not contain the path of its image.",
            "Give the path with --image.",
        )
    if on_another_server(path, labels.path):
        raise StoreError(
            f"{store} names its image by a URL, which is not opened unasked: {path}.",
            f"If you trust the labels, give the image: --image {path}",
        )
    return path


def _show(event: "TrainEvent") -> str | None:
    """Print an event; return the text beside the progress bar."""
    from napari_uhrseg.engine import events as e

    match event:
        case e.DatasetReady(summary):
            out.print(Text(f"Training data: {summary.summary()}"))
        case e.MemoryPlanned(description, True):
            out.print(Text(f"To keep to the memory budget: {description}"))
        case e.StepLogged(_, losses, _):
            return f"Fine-tuning  loss {losses['loss']:.3f}"
        case e.Validated(step, metrics, _) if "miou" in metrics:
            when = f"Step {step}" if step else "Before"
            out.print(Text(f"{when}: mIoU {metrics['miou']:.1%}"))
        case e.FineTuneFinished(comparison=text, path=path, saved=saved):
            out.print(Text(f"{text[0].upper()}{text[1:]}."))
            if saved:
                out.print(f"Checkpoint: {path}", highlight=False, soft_wrap=True)
        case _:
            pass
    return None
