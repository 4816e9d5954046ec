"""``napari-uhrseg segment``: label images into stores."""

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from napari_uhrseg.cli.batch import (
    Failure,
    Report,
    check_image,
    find_images,
    store_paths,
)
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
    SchedulerOption,
    WorkersOption,
    parse_numbers,
    parse_roi,
)
from napari_uhrseg.cli.where import engine
from napari_uhrseg.errors import ClusterError, StoreError, UhrSegError
from napari_uhrseg.io.paths import (
    Address,
    error_text,
    exists,
    io_errors,
    remove_folder,
    to_path,
)
from napari_uhrseg.types import Legend, Roi, SegmentSettings
from napari_uhrseg.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_uhrseg.cli.where import Engine
    from napari_uhrseg.engine.events import Finished, SegmentEvent
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore


def segment(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, OME-Zarr folders, their URLs (s3://…), or patterns such "
            "as 'slides/*.svs'."
        ),
    ],
    checkpoint: CheckpointOption,
    output: Annotated[
        str,
        typer.Option(
            metavar="PATH_OR_URL",
            help="The label store (an OME-Zarr folder, or its URL). For several images "
            "or a pattern: the folder of their stores, each IMAGE.labels.zarr. Runs "
            "that were stopped go on where they exist.",
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
    cpu_fallback: Annotated[
        bool,
        typer.Option(
            "--cpu-fallback",
            help="Go on on the CPU where the GPU has too little memory in the end.",
        ),
    ] = False,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say the plan.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Label images into stores, within a memory budget, here or on a cluster.

    Ctrl-C stops it; the same command goes on from there, and ends with the same
    labels. Of several images, those that are done are skipped, and those that fail
    are named at the end.

    Exits with 0 where all is labelled, 1 where an image failed or parts of one could
    not be read, 2 where the command is wrong, 130 where it was stopped.
    """
    if scheduler and workers:
        raise typer.BadParameter("Give --scheduler or --workers, not both.")
    settings = SegmentSettings(
        device=device,
        precision=precision,
        region=roi,
        overlap=overlap,
        bands=None if bands is None else parse_numbers(bands),
        scale=scale,
    )
    paths, many = find_images(images)
    place = to_path(output)
    stores = store_paths(paths, place) if many else {paths[0]: place}
    report = Report(untried=list(paths))
    with (
        stoppable(
            "What is done is kept; the same command goes on from there."
        ) as watched,
        engine(
            checkpoint, settings, memory_budget, scheduler, workers, cpu_fallback
        ) as work,
    ):
        for number, (path, store) in enumerate(stores.items(), start=1):
            if many and not json:
                out.print(Text(f"[{number}/{len(stores)}] {path}"), soft_wrap=True)
            try:
                check_image(path)
                if dry_run:
                    with err.status("Planning"):
                        plan = work.plan(path)
                    _tell_plan(plan, json, path)
                else:
                    _one(path, store, work, replace, watched, json, report)
            except UhrSegError as error:
                if not many:
                    raise
                if not json:
                    err.print(Text(str(error), "yellow"), soft_wrap=True)
                report.failed.append(Failure(path, error.message, error.hint))
                if isinstance(error, ClusterError):
                    break  # no other image would fare better
            finally:
                report.untried.remove(path)
    if many and not dry_run:
        report.tell(json)
    elif report.failed:
        err.print(
            Text(f"{report.failed[0].reason} {report.failed[0].hint}", "yellow"),
            soft_wrap=True,
        )
    if report.failed:
        raise typer.Exit(1)


def _one(
    path: Address,
    output: Address,
    work: "Engine",
    replace: bool,
    watched: "Callable[[Iterator[SegmentEvent]], Iterator[SegmentEvent]]",
    json: bool,
    report: Report,
) -> None:
    """Label one image, telling what happens, and note how it went."""
    from napari_uhrseg.io.open import open_image

    image = open_image(path)
    with (
        open_store(output, image, work.legend) as store,
        closing(work.events(image, store, replace)) as events,  # type: ignore[type-var] # a generator, though only said to iterate
    ):
        run = watched(events)
        finished = _tell_json(run, path) if json else _tell(run)
        if not json:
            _tell_areas(store)
            out.print(f"Labels: {output}", highlight=False, soft_wrap=True)
    if finished.failed:
        reason = f"{finished.failed} blocks could not be read and have no labels."
        hint = "The same command tries them again."
        report.failed.append(Failure(path, reason, hint))
    elif finished.done:
        report.done.append(path)
    else:
        report.skipped.append(path)


@contextmanager
def open_store(path: Address, image: "Image", legend: Legend) -> "Iterator[LabelStore]":
    """The image's store at that path, open for writing; made where there is none.

    One that was made goes again where no run began in it, so that the command, typed
    right, does not meet the classes of the wrong checkpoint.

    Raises
    ------
    StoreError
        What is there is not a store of labels of this image, or is in use.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    made = not exists(path)
    store = (
        LabelStore.create(path, image, legend)
        if made
        else LabelStore.open(path, write=True)
    )
    with store:
        if store.shape != image.shape:
            raise StoreError(
                f"{path} holds labels of an image of {_size(store.shape)} pixels; "
                f"this one has {_size(image.shape)}.",
                "Choose another output.",
            )
        try:
            yield store
        finally:
            if made and not store.runs:
                store.close()
                _remove(path)


def _remove(path: Address) -> None:
    """Remove a store without labels; where that fails, it stays and says so."""
    try:
        remove_folder(path)
    except io_errors(path) as error:
        text = f"{path} has no labels and cannot be removed: {error_text(error)}."
        err.print(Text(text, "yellow"), soft_wrap=True)


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _tell_plan(plan: "Plan", json: bool, image: Address | None = None) -> None:
    if json:
        json_line(
            event="planned",
            image=image,
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


def _tell_json(events: "Iterator[SegmentEvent]", image: Address) -> "Finished":
    from napari_uhrseg.engine.events import Finished, Planned

    for event in events:
        match event:
            case Planned(plan):
                _tell_plan(plan, True, image)
            case _:
                json_line(event=_event_name(event), image=image, **_fields(event))
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
        Planned,
        PreviewWritten,
        Progress,
        RetriedWithLess,
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
                case RetriedWithLess(change=now):
                    err.print(f"Memory ran out; going on {now}.")
                case BlockDone() | PreviewWritten():
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
