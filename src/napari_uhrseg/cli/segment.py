"""``napari-uhrseg segment``: label an image into a store."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    PrecisionOption,
    make_budget,
    parse_numbers,
    parse_roi,
)
from napari_uhrseg.errors import StoreError
from napari_uhrseg.types import Legend, Roi, SegmentSettings
from napari_uhrseg.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_uhrseg.engine.events import Finished, SegmentEvent
    from napari_uhrseg.engine.plan import Plan
    from napari_uhrseg.io.image import Image
    from napari_uhrseg.io.labels import LabelStore


def segment(
    image: Annotated[Path, typer.Argument(help="An image file or OME-Zarr folder.")],
    checkpoint: CheckpointOption,
    output: Annotated[
        Path,
        typer.Option(
            help="The label store (an OME-Zarr folder); a run that was stopped "
            "goes on when it exists."
        ),
    ],
    memory_budget: MemoryOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    roi: Annotated[
        Roi | None,
        typer.Option(
            help="Only this rectangle: y,x,height,width in pixels.",
            parser=parse_roi,
            metavar="Y,X,H,W",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(help="Pixels that neighbouring windows share.", min=0),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Bands fed to the network, from 0, such as 3,2,1."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Image pixels per network pixel; else by pixel sizes."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Overwrite what a run with other settings has labelled."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say the plan.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Label an image into a store, within a memory budget.

    Ctrl-C stops it; the same command goes on from there, and ends with the same
    labels. Exits with 1 where parts of the image could not be read.
    """
    settings = SegmentSettings(
        device=device,
        precision=precision,
        region=roi,
        overlap=overlap,
        bands=None if bands is None else parse_numbers(bands),
        scale=scale,
    )
    with err.status("Loading torch and the checkpoint"):
        from napari_uhrseg.engine import segment as engine
        from napari_uhrseg.engine.plan import make_plan
        from napari_uhrseg.io.image import open_image
        from napari_uhrseg.models.checkpoint import load_checkpoint

        opened = open_image(image)
        loaded = load_checkpoint(checkpoint)
        budget = make_budget(device, memory_budget)
    if dry_run:
        with err.status("Planning"):
            _tell_plan(make_plan(opened, loaded, settings, budget), json)
        return
    with (
        stoppable(
            "What is done is kept; the same command goes on from there."
        ) as watched,
        open_store(output, opened, loaded.card.legend) as store,
        closing(
            engine.segment(
                opened, loaded, store, settings, budget, replace_other=replace
            )  # type: ignore[type-var] # a generator, though only said to iterate
        ) as events,
    ):
        finished = (_tell_json if json else _tell)(watched(events))
        if not json:
            _tell_areas(store)
            out.print(f"Labels: {output}", highlight=False, soft_wrap=True)
    if finished.failed:
        err.print(
            Text(
                f"{finished.failed} blocks could not be read and have no labels. "
                "The same command tries them again.",
                "yellow",
            )
        )
        raise typer.Exit(1)


def open_store(path: Path, image: "Image", legend: Legend) -> "LabelStore":
    """The image's store at that path, open for writing; made where there is none.

    Raises
    ------
    StoreError
        What is there is not a store of labels of this image, or is in use.
    """
    from napari_uhrseg.io.labels import LabelStore

    if not path.exists():
        return LabelStore.create(path, image, legend)
    store = LabelStore.open(path, write=True)
    if store.shape != image.shape:
        store.close()
        raise StoreError(
            f"{path} holds labels of an image of {_size(store.shape)} pixels; "
            f"this one has {_size(image.shape)}.",
            "Choose another output.",
        )
    return store


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _tell_plan(plan: "Plan", json: bool) -> None:
    if json:
        json_line(
            event="planned",
            windows=plan.windows,
            computed_twice=plan.computed_twice,
            device=plan.device,
            estimate=plan.estimate,
            warnings=plan.warnings,
            run=plan.run,
        )
        return
    out.print(Text(plan.summary()), soft_wrap=True)
    for warning in plan.warnings:
        err.print(Text(warning, "yellow"), soft_wrap=True)


def _tell_json(events: "Iterator[SegmentEvent]") -> "Finished":
    from napari_uhrseg.engine.events import Finished, Planned

    for event in events:
        match event:
            case Planned(plan):
                _tell_plan(plan, json=True)
            case _:
                json_line(event=_event_name(event), **_fields(event))
        if isinstance(event, Finished):
            return event
    raise AssertionError("the run ended without saying so")


def _event_name(event: object) -> str:
    """``BlockDone`` is ``block_done``."""
    name = type(event).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _fields(event: object) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__slots__}  # type: ignore[attr-defined]


def _tell(events: "Iterator[SegmentEvent]") -> "Finished":
    from napari_uhrseg.engine.events import (
        BlockDone,
        BlockFailed,
        Finished,
        LabelsShown,
        Planned,
        Progress,
        Retried,
    )

    with progress_bar() as bar:
        task = bar.add_task("Segmenting", total=None, left="")
        for event in events:
            match event:
                case Planned(plan):
                    _tell_plan(plan, json=False)
                case Progress(done, total, left):
                    bar.update(task, completed=done, total=total, left=time_left(left))
                case BlockFailed(_, reason):
                    err.print(Text(f"A block failed: {reason}", "yellow"))
                case Retried(now=now):
                    err.print(f"Memory ran out; going on {now}.")
                case BlockDone() | LabelsShown():
                    pass
                case Finished():
                    took = format_seconds(event.seconds)
                    bar.update(task, completed=1, total=1, left=f"took {took}")
                    return event
    raise AssertionError("the run ended without saying so")


def _tell_areas(store: "LabelStore") -> None:
    """Each class's share of what is labelled."""
    shares = store.area_shares()
    for label in store.legend:
        if label.id in shares:
            swatch = Text("■ ", label.color)
            out.print(swatch + Text(f"{shares[label.id]:7.1%}  {label.name}", "none"))
