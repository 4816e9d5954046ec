"""``napari-uhrseg train``: train a checkpoint from labelled images."""

from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from napari_uhrseg.cli.console import (
    command_line,
    err,
    event_fields,
    event_name,
    interruptible,
    json_line,
    out,
    run_events,
    warn,
)
from napari_uhrseg.cli.shared_options import (
    DryRunOption,
    JsonOption,
    OutputCheckpointOption,
    OverwriteOption,
    TrainingHardware,
    expand_options,
    one_of,
    parse_arguments,
    parse_range,
)
from napari_uhrseg.cli.training_data import DatasetOptions
from napari_uhrseg.models.registry import (
    DEFAULT_ENCODER,
    REGISTRY,
    default_arguments,
)
from napari_uhrseg.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_uhrseg.engine.events import TrainEvent, TrainingPlanned
    from napari_uhrseg.engine.training.train import CardMetadata, TrainSettings

CARD = "Checkpoint card"


def _defaults(name: str) -> str:
    """Return the default of each method as a sentence."""
    each = (f"{m.name} {getattr(m, name):g}" for m in REGISTRY.values())
    return f"Default: {', '.join(each)}."


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Method and arguments of its network."""

    model: Annotated[
        str,
        typer.Option(help=f"Method: {', '.join(REGISTRY)}.", callback=one_of(REGISTRY)),
    ]
    architecture: Annotated[
        str | None,
        typer.Option(
            help="Architecture of segmentation-models-pytorch, for example Unet or FPN."
        ),
    ] = None
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder: for example resnet18, or tu- and a timm model. Default: "
            f"{DEFAULT_ENCODER}; for ehsnet hrnet_w48."
        ),
    ] = None
    argument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Further argument of the model, for example window=256. May be "
            "repeated.",
        ),
    ] = None
    pretrained: Annotated[
        bool,
        typer.Option(
            help="Start from the encoder's ImageNet weights. Those of the default "
            "encoder are part of the program, others are downloaded. If they are not "
            "available, the default encoder is trained.",
        ),
    ] = True
    encoder_weights: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="File of encoder weights to start from (safetensors or a torch "
            "state_dict), instead of ImageNet weights. May be repeated, for a light "
            "encoder (STDC).",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the model's constructor."""
        given = parse_arguments(self.argument or [], self.architecture, self.encoder)
        return {**default_arguments(self.model), **given}


ValueRangeOption = Annotated[
    str | None,
    typer.Option(
        "--value-range",
        metavar="LOW,HIGH[,LOW,HIGH…]|per-band",
        help="Image values that become black and white for the network. per-band: "
        "percentiles of a sample of each band of each image. It is stated on the card "
        "and used for all images. Default: a sample of all bands of each image.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """Optimisation of a training run; ``None`` is the default of the method."""

    steps: Annotated[
        int | None, typer.Option(min=1, help=f"Training steps. {_defaults('steps')}")
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(min=2, help=f"Windows in a step. {_defaults('batch_size')}"),
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(help=f"Initial learning rate. {_defaults('learning_rate')}"),
    ] = None
    optimizer: Annotated[
        Literal["sgd", "adamw"] | None,
        typer.Option(help="Optimizer. Default: that of the method's paper."),
    ] = None
    schedule: Annotated[
        Literal["cosine", "poly"] | None,
        typer.Option(
            help="Learning-rate schedule. Default: that of the method's paper."
        ),
    ] = None
    clip: Annotated[
        float | None,
        typer.Option(help="Gradient clipping: maximum norm. Default: none."),
    ] = None
    weight_decay: Annotated[
        float | None,
        typer.Option(min=0, help="Weight decay. Default: that of the method's paper."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOptions:
    """Texts on the card of the checkpoint."""

    name: Annotated[
        str,
        typer.Option(
            help="Displayed name. Default: the file's name.", rich_help_panel=CARD
        ),
    ] = ""
    licence: Annotated[
        str,
        typer.Option(
            help="Licence of the weights, for example CC-BY-4.0.", rich_help_panel=CARD
        ),
    ] = ""
    source: Annotated[
        str, typer.Option(help="Download URL of the weights.", rich_help_panel=CARD)
    ] = ""
    citation: Annotated[
        str, typer.Option(help="Publication to cite.", rich_help_panel=CARD)
    ] = ""

    def metadata(self, trained_on: str) -> "CardMetadata":
        """Return the texts of the card, with the current command."""
        from napari_uhrseg.engine.training.train import CardMetadata

        return CardMetadata(
            **asdict(self), trained_on=trained_on, command=command_line()
        )


@expand_options
def train(
    dataset: DatasetOptions,
    model: ModelOptions,
    output: OutputCheckpointOption,
    schedule: ScheduleOptions,
    hardware: TrainingHardware,
    value_range: ValueRangeOption = None,
    resume: Annotated[
        bool, typer.Option(help="Resume an interrupted training run.")
    ] = True,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    *,
    card: CardOptions,
) -> None:
    """Train a model from labelled images and save the best checkpoint.

    The labels are masks, or the corrections in label stores of several images.
    The loss and the defaults are those of the method's paper. Validation scenes are
    not used for training. Ctrl-C stops the training; the same command resumes it.
    """
    with err.status("Loading torch and reading the labels"), ExitStack() as stack:
        from napari_uhrseg.engine.training import train as engine

        budget = hardware.budget() if hardware.memory_budget else None
        on_cpu = budget is not None and budget.device == "cpu"
        cache = budget.device_bytes // 4 if budget is not None and on_cpu else None
        data = dataset.read(schedule.seed, cache, stack)
        scenes = ", ".join(scene.name for scene in data.training)
        settings = _settings(
            model,
            schedule,
            hardware,
            card.metadata(f"{dataset.name}: {scenes}"),
            data.training[0].image.meters_per_pixel,
        )
        if value_range is not None:
            settings = replace(settings, value_range=parse_range(value_range))
        opened = stack.pop_all()
    with opened:
        if dry_run:
            events = engine.plan_training(data, output, settings, budget)
            show_plan(events, _show, json=json)
            return
        with (
            interruptible("The same command resumes it.") as watch,
            closing(
                engine.train(
                    data, output, settings, budget, resume=resume, overwrite=overwrite
                )  # type: ignore[type-var] # a generator, annotated as an iterator
            ) as events,
        ):
            run_events(watch(events), "Training", _show, json=json)
    if not json:
        out.print(f"Checkpoint: {output}", highlight=False, soft_wrap=True)


def _settings(
    model: ModelOptions,
    schedule: ScheduleOptions,
    hardware: TrainingHardware,
    card: "CardMetadata",
    pixel_size: float | None,
) -> "TrainSettings":
    from napari_uhrseg.engine.training.train import TrainSettings

    return TrainSettings(
        model=model.model,
        arguments=model.arguments(),
        **asdict(schedule),
        device=hardware.device,
        precision=hardware.precision,
        pretrained=model.pretrained,
        encoder_weights=tuple(model.encoder_weights or ()),
        pixel_size=pixel_size,
        card=card,
    )


def show_plan(
    events: "Iterator[TrainEvent]",
    show: "Callable[[TrainEvent], str | None]",
    *,
    json: bool,
) -> None:
    """Print the events of a plan.

    Parameters
    ----------
    events
        The events.
    show
        Function that prints an event other than progress and memory.
    json
        If True, print JSON lines.
    """
    from napari_uhrseg.engine.events import MemoryPlanned, Progress

    for event in events:
        if json:
            json_line(event=event_name(event), **event_fields(event))
        elif isinstance(event, Progress):
            out.print(
                f"Time: about {format_seconds(event.seconds_left or 0)} for "
                f"{event.total:,} steps, with validation. Nothing was written.",
                highlight=False,
            )
        elif isinstance(event, MemoryPlanned):
            out.print(f"Memory: {event.description}", highlight=False)
        else:
            show(event)


def _show(event: "TrainEvent") -> str | None:
    """Print an event; return the text beside the progress bar."""
    from napari_uhrseg.engine.events import (
        MemoryPlanned,
        StepLogged,
        TrainingPlanned,
        Validated,
    )

    match event:
        case TrainingPlanned():
            out.print(Text(_plan_text(event)), soft_wrap=True)
            for text in event.warnings:
                warn(f"{text[0].upper()}{text[1:]}.")
        case MemoryPlanned(description, True):
            out.print(Text(f"To keep to the memory budget: {description}"))
        case StepLogged(_, losses, _):
            terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.items())
            return f"Training  {terms}"
        case Validated(step, metrics, best):
            better = ", the best so far" if best else ""
            out.print(Text(f"Step {step}: mIoU {metrics['miou']:.1%}{better}"))
        case _:
            pass
    return None


def _plan_text(plan: "TrainingPlanned") -> str:
    """Return the plan of a training as lines."""
    validation = ", ".join(plan.validation) or "none, the last weights are saved"
    return (
        f"Training scenes: {len(plan.training)}. Validation scenes: {validation}.\n"
        f"Classes: {', '.join(plan.classes)}.\n"
        f"Encoder: starts from {plan.encoder_weights}.\n"
        f"{plan.steps:,} steps on {plan.device} in {plan.precision}."
    )
