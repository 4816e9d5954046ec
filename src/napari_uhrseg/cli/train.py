"""``napari-uhrseg train``: a checkpoint from labelled images."""

import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    DeviceOption,
    JsonOption,
    MemoryOption,
    make_budget,
)
from napari_uhrseg.models.registry import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_uhrseg.engine.events import TrainEvent

CARD = "On the card"
MODELS = ", ".join(REGISTRY)


def train(
    images: Annotated[Path, typer.Option(help="A folder of images.")],
    masks: Annotated[
        Path, typer.Option(help="Masks of the same stems: class numbers or colours.")
    ],
    model: Annotated[str, typer.Option(help=f"The method: {MODELS}.")],
    output: Annotated[
        Path, typer.Option(help="The checkpoint to write: a .safetensors file.")
    ],
    steps: Annotated[int | None, typer.Option(min=1, help="Default: the paper's.")] = (
        None
    ),
    batch_size: Annotated[int | None, typer.Option(min=2)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    optimizer: Annotated[Literal["sgd", "adamw"] | None, typer.Option()] = None,
    schedule: Annotated[
        Literal["cosine", "poly"] | None,
        typer.Option(help="The learning rate's course."),
    ] = None,
    clip: Annotated[
        float | None, typer.Option(help="Largest norm of the gradient.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    architecture: Annotated[
        str | None, typer.Option(help="Of segmentation-models-pytorch: Unet, FPN, ...")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="resnet18, or tu- and a name of timm.")
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(help="More of the model, such as window=256; may be repeated."),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Fetch the encoder's ImageNet weights.")
    ] = False,
    classes: Annotated[
        Path | None,
        typer.Option(help="A text file, a line a class: value name #rrggbb."),
    ] = None,
    ignore: Annotated[
        list[int] | None,
        typer.Option(help="A mask value that stands for no class; 255 if not given."),
    ] = None,
    validate: Annotated[
        str | None,
        typer.Option(
            help="Stems of the scenes to validate on, a,b,c, or their share; 0: none."
        ),
    ] = None,
    balance: Annotated[
        float,
        typer.Option(help="Share of windows drawn class by class: helps rare ones."),
    ] = 0.0,
    memory_budget: MemoryOption = None,
    device: DeviceOption = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="auto: bf16 where the device is made for it."),
    ] = "auto",
    resume: Annotated[
        bool, typer.Option(help="Go on with a training that was stopped.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished checkpoint.")
    ] = False,
    json: JsonOption = False,
    name: Annotated[
        str,
        typer.Option(
            help="What lists show, if not the file's name.", rich_help_panel=CARD
        ),
    ] = "",
    licence: Annotated[
        str, typer.Option(help="Of the weights: CC-BY-4.0.", rich_help_panel=CARD)
    ] = "",
    source: Annotated[
        str, typer.Option(help="Where it is to be had: a URL.", rich_help_panel=CARD)
    ] = "",
    citation: Annotated[
        str, typer.Option(help="What to cite for it.", rich_help_panel=CARD)
    ] = "",
) -> None:
    """Train a model from labelled images, and keep the best checkpoint.

    The method's own loss and recipe; scenes are held out whole to validate on.
    Ctrl-C stops it; the same command goes on from there.
    """
    with err.status("Loading torch and looking at the masks"):
        from napari_uhrseg.engine.data.folder_dataset import FolderDataset, read_classes
        from napari_uhrseg.engine.data.scenes import SCENE_CACHE
        from napari_uhrseg.engine.training.train import CardMetadata, TrainSettings
        from napari_uhrseg.engine.training.train import train as engine

        budget = make_budget(device, memory_budget) if memory_budget else None
        cache = SCENE_CACHE
        if budget is not None and budget.device == "cpu":
            cache = min(SCENE_CACHE, budget.device_bytes // 4)
        labelled = FolderDataset(
            images,
            masks,
            None if classes is None else read_classes(classes),
            ignore or None,
            held_out=parse_validate(validate),
            seed=seed,
            cache=cache,
        ).with_class_balance(balance)
    learned = ", ".join(scene.name for scene in labelled.training)
    settings = TrainSettings(
        model=model,
        arguments=parse_arguments(argument or [], architecture, encoder),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        schedule=schedule,
        clip=clip,
        seed=seed,
        device=device,
        precision=precision,
        pretrained=pretrained,
        pixel_size=labelled.training[0].image.meters_per_pixel,
        card=CardMetadata(
            name=name,
            source=source,
            licence=licence,
            citation=citation,
            trained_on=f"{images.name}: {learned}",
            command=shlex.join(["napari-uhrseg", *sys.argv[1:]]),
        ),
    )
    with (
        stoppable("The same command goes on from there.") as watched,
        closing(
            engine(
                labelled,
                output,
                settings,
                budget,
                resume=resume,
                overwrite=overwrite,
            )
        ) as events,  # type: ignore[type-var] # a generator, though only said to iterate
    ):
        (_tell_json if json else _tell)(watched(events))
    if not json:
        out.print(f"Checkpoint: {output}", highlight=False, soft_wrap=True)


def parse_validate(text: str | None) -> float | tuple[str, ...]:
    """A share between 0 and 1, or stems; a fifth if not given."""
    if text is None:
        return 0.2
    try:
        share = float(text)
    except ValueError:
        share = -1
    # a scene may be named 3, but no share is
    return share if text == "0" or 0 < share < 1 else tuple(text.split(","))


def parse_arguments(
    pairs: list[str], architecture: str | None, encoder: str | None
) -> dict[str, Any]:
    """Arguments of the model's constructor; values as JSON, else as text."""
    import json

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r}: write name=value, such as window=256.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    chosen = {"architecture": architecture, "encoder": encoder}
    return found | {k: v for k, v in chosen.items() if v is not None}


def _tell_json(events: "Iterator[TrainEvent]") -> None:
    from napari_uhrseg.engine.events import (
        MemoryPlanned,
        Progress,
        Saved,
        StepLogged,
        Validated,
    )

    for event in events:
        match event:
            case MemoryPlanned(how, cut):
                json_line(event="fitted", how=how, cut=cut)
            case Progress(done, total, left):
                json_line(event="progress", done=done, total=total, seconds_left=left)
            case StepLogged(step, losses, rate):
                json_line(event="trained", step=step, losses=losses, learning_rate=rate)
            case Validated(step, metrics, best):
                json_line(event="validated", step=step, metrics=metrics, best=best)
            case Saved(path, step):
                json_line(event="saved", path=path, step=step)
            case _:
                pass  # of fine-tuning


def _tell(events: "Iterator[TrainEvent]") -> None:
    from napari_uhrseg.engine.events import (
        MemoryPlanned,
        Progress,
        StepLogged,
        Validated,
    )

    with progress_bar() as bar:
        task = bar.add_task("Training", total=None, left="")
        for event in events:
            match event:
                case MemoryPlanned(how, cut):
                    if cut:
                        out.print(Text(f"To keep to the memory budget: {how}"))
                case Progress(done, total, left):
                    bar.update(task, completed=done, total=total, left=time_left(left))
                case StepLogged(_, losses, _):
                    terms = "  ".join(f"{k} {v:.3f}" for k, v in losses.items())
                    bar.update(task, description=f"Training  {terms}")
                case Validated(step, metrics, best):
                    better = ", the best so far" if best else ""
                    text = f"Step {step}: mIoU {metrics['miou']:.1%}{better}"
                    out.print(Text(text))
                case _:
                    pass  # told at the end
