"""``napari-uhrseg finetune``: fine-tune a checkpoint on corrections."""

from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import err, interruptible, out, run_events
from napari_uhrseg.cli.label_stores import (
    StoreImagesOption,
    open_pairs,
    paired,
)
from napari_uhrseg.cli.shared_options import (
    DryRunOption,
    JsonOption,
    OutputCheckpointOption,
    OverwriteOption,
    TrainingHardware,
    expand_options,
    one_of,
)
from napari_uhrseg.cli.train import show_plan
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


CheckpointToTune = Annotated[
    Path | None, typer.Option(help="Checkpoint file to start from (.safetensors).")
]
NewModelOption = Annotated[
    str | None,
    typer.Option(
        help="Method of a new model, instead of a checkpoint: "
        f"{', '.join(REGISTRY)}. It has the classes of the labels.",
        callback=one_of(REGISTRY),
    ),
]
ThoroughOption = Annotated[
    bool, typer.Option("--thorough", help="Train four times as long.")
]


@expand_options
def finetune(
    stores: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE...",
            help="Label stores: OME-Zarr folders or their URLs. With corrections in at "
            "least three, whole images are held out for validation.",
        ),
    ],
    output: OutputCheckpointOption,
    checkpoint: CheckpointToTune = None,
    model: NewModelOption = None,
    image: StoreImagesOption = None,
    thorough: ThoroughOption = False,
    *,
    options: FineTuneOptions,
    hardware: TrainingHardware,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Fine-tune a checkpoint or train a new model on the corrections in label stores.

    A new pixel classifier (--model pixel_classifier) is trained within seconds.
    The result equals that of the window with the same settings. Ctrl-C stops the
    training. The same command resumes it and gives the same weights.
    """
    pairs = paired(stores, image)
    run = TuningRun(checkpoint, model, output, thorough, options, hardware)
    run.start(pairs, dry_run=dry_run, overwrite=overwrite, json=json)


@dataclass(frozen=True, slots=True)
class TuningRun:
    """Fine-tuning of a checkpoint, or training of a new model.

    Parameters
    ----------
    checkpoint, model
        File of the checkpoint, or method of a new model; the other is None.
    output
        Checkpoint file to write.
    thorough
        Train four times as long.
    options, hardware
        Settings, and device and memory.
    """

    checkpoint: Path | None
    model: str | None
    output: Path
    thorough: bool
    options: FineTuneOptions
    hardware: TrainingHardware

    def __post_init__(self) -> None:
        _check_start(self.checkpoint, self.model)

    def start(
        self,
        pairs: "Sequence[tuple[str | PathOrUrl, str | PathOrUrl | None]]",
        *,
        dry_run: bool,
        overwrite: bool,
        json: bool,
    ) -> None:
        """Train on the corrections of label stores, and print the events.

        Parameters
        ----------
        pairs
            Label stores and their images; an image that is None has the path in the
            store.
        dry_run
            Print the plan and the time, and write nothing.
        overwrite
            Replace an existing checkpoint.
        json
            Print JSON.

        Raises
        ------
        TrainingError
            If no checkpoint was written.
        """
        with err.status("Loading torch and the checkpoint"), ExitStack() as stack:
            from napari_uhrseg.engine.finetuning import finetune as engine

            settings = _settings(self.options, self.hardware, self.thorough)
            budget = self.hardware.budget()
            images, stores = open_pairs(pairs)
            for store in stores:
                stack.enter_context(store)
            start = _start(self.checkpoint, self.model, stores[0], images[0])
            inputs, opened = (images, start, stores), stack.pop_all()
        with opened:
            if dry_run:
                events = engine.plan_fine_tuning(*inputs, settings, budget)
                show_plan(events, _show, json=json)
                return
            with (
                interruptible(RESUMES) as watch,
                closing(
                    engine.fine_tune(
                        *inputs, self.output, settings, budget,
                        resume=True, overwrite=overwrite,
                    )  # type: ignore[type-var] # a generator, annotated as an iterator
                ) as events,
            ):  # fmt: skip
                last = run_events(watch(events), "Fine-tuning", _show, json=json)
            _check_saved(last)


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
        case e.FineTuneFinished(before, after, text, path, saved):
            out.print(Text(f"{text[0].upper()}{text[1:]}."))
            if after:
                out.print(_score_table(before, after))
            if saved:
                out.print(f"Checkpoint: {path}", highlight=False, soft_wrap=True)
        case _:
            pass
    return None


def _score_table(before: "Mapping[str, float]", after: "Mapping[str, float]") -> Table:
    """Return the scores of each class, and of each validation image, before and after.

    A dash stands for a class or an image without a score.
    """
    table = Table("", "Before", "After")
    groups = (("iou/", "IoU "), ("miou/", "mIoU "), ("miou", "mIoU"))
    for prefix, title in groups:
        for name in (n for n in after if n.startswith(prefix)):
            if prefix == "miou" and name != "miou":
                continue
            values = (f"{s[name]:.1%}" if name in s else "–" for s in (before, after))
            table.add_row(Text(title + name.removeprefix(prefix)), *values)
    return table
