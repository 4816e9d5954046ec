"""``napari-uhrseg segment``: label images into stores."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from napari_uhrseg.cli.backends import open_backend
from napari_uhrseg.cli.batch import (
    Failure,
    Report,
    check_image,
    find_images,
    store_paths,
)
from napari_uhrseg.cli.console import (
    err,
    interruptible,
    json_line,
    out,
    plan_record,
    run_events,
    swatch,
    warn,
)
from napari_uhrseg.cli.shared_options import (
    REGION,
    CheckpointOption,
    InferenceHardware,
    JsonOption,
    OverlapOption,
    expand_options,
    parse_numbers,
    parse_range,
    parse_region_option,
)
from napari_uhrseg.errors import ClusterError, StoreError, UhrSegError
from napari_uhrseg.io.paths import (
    PathOrUrl,
    error_text,
    exists,
    io_errors,
    remove_folder,
    to_path,
)
from napari_uhrseg.types import Legend, MultiPolygon, Polygon, Region, SegmentSettings
from napari_uhrseg.units import format_seconds

if TYPE_CHECKING:
    from napari_uhrseg.cli.backends import Backend
    from napari_uhrseg.engine.events import SegmentEvent
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore

Watch = Callable[[Iterator[Any]], Iterator[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceOptions:
    """Settings of inference; ``None`` leaves a setting to the plan."""

    roi: Annotated[
        str | None,
        typer.Option(
            help="Segment only this region: a rectangle in pixels or in map "
            "coordinates, or the polygons of a GeoJSON, GeoPackage or shapefile.",
            metavar=REGION,
        ),
    ] = None
    overlap: OverlapOption = None
    bands: Annotated[
        str | None,
        typer.Option(
            metavar="B,B,B",
            help="Bands that the network gets, counted from 0, for example 3,2,1.",
        ),
    ] = None
    value_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Image values that become black and white for the network, for "
            "example 0,4095. Default: from the checkpoint, or from a sample of the "
            "bands used.",
        ),
    ] = None
    scale: Annotated[
        float | None,
        typer.Option(
            help="Image pixels per network pixel. Default: from the pixel sizes."
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.roi is not None:
            parse_region_option(self.roi)

    def settings(self, hardware: InferenceHardware, image: "Image") -> SegmentSettings:
        """Return the settings of a run of an image on this hardware."""
        return SegmentSettings(
            device=hardware.device,
            precision=hardware.precision,
            region=self._region(image),
            overlap=self.overlap,
            bands=None if self.bands is None else parse_numbers(self.bands),
            scale=self.scale,
            value_range=None
            if self.value_range is None
            else parse_range(self.value_range),
        )

    def _region(self, image: "Image") -> "Region | None":
        """Return the region in pixels of an image, and warn of what a file omits."""
        if self.roi is None:
            return None
        from napari_uhrseg.io.corrections.region_text import regions_of

        regions, notes = regions_of(parse_region_option(self.roi), image)
        for note in notes:
            warn(note)
        polygons = tuple(r for r in regions if isinstance(r, Polygon))
        return MultiPolygon(polygons) if len(regions) > 1 else regions[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Place and manner of a run."""

    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Overwrite labels of a run with other settings."
        ),
    ] = False
    cpu_fallback: Annotated[
        bool,
        typer.Option(
            "--cpu-fallback", help="Continue on the CPU if the GPU runs out of memory."
        ),
    ] = False
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Run on a dask.distributed cluster: address of its scheduler. Workers "
            "must have the image, checkpoint and output at the same paths.",
            metavar="TCP://HOST:PORT",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            help="Run in this number of local processes, one GPU each if available.",
            min=1,
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop.")
    ] = False
    json: JsonOption = False

    def __post_init__(self) -> None:
        if self.scheduler and self.workers:
            raise typer.BadParameter("Give --scheduler or --workers, not both.")


@expand_options
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
            help="Label store (an OME-Zarr folder, or its URL). For several images or "
            "a pattern: folder for their stores, each IMAGE.labels.zarr. Interrupted "
            "runs in existing stores are resumed.",
        ),
    ],
    hardware: InferenceHardware,
    inference: InferenceOptions,
    run: RunOptions,
) -> None:
    """Segment images into label stores, within a memory budget.

    Ctrl-C stops the run. The same command resumes it and gives the same labels. With
    several images, finished ones are skipped, and a report lists those that failed.

    Exit status: 0 if everything is labelled, 1 if an image failed or parts of one could
    not be read, 2 if the command is wrong, 130 if it was stopped.
    """
    settings = partial(inference.settings, hardware)
    paths, many = find_images(images)
    target = to_path(output)
    stores = store_paths(paths, target) if many else {paths[0]: target}
    report = Report(untried=list(paths))
    with (
        interruptible("Finished blocks are kept. The same command resumes.") as watch,
        open_backend(
            checkpoint, hardware,
            run.scheduler, run.workers, run.cpu_fallback,
        ) as backend,
    ):  # fmt: skip
        each = _Images(backend, settings, run, watch, report, many)
        each.segment(stores)
    if many and not run.dry_run:
        report.print(run.json)
    elif report.failed:
        warn(f"{report.failed[0].reason} {report.failed[0].hint}")
    if report.failed:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Images:
    """Images of one command, segmented one after the other."""

    backend: "Backend"
    settings: "Callable[[Image], SegmentSettings]"
    run: RunOptions
    watch: Watch
    report: Report
    many: bool

    def segment(self, stores: dict[PathOrUrl, PathOrUrl]) -> None:
        """Segment each image into its store; note failures if there are many."""
        for number, (path, store) in enumerate(stores.items(), start=1):
            if self.many and not self.run.json:
                out.print(Text(f"[{number}/{len(stores)}] {path}"), soft_wrap=True)
            try:
                self._one(path, store)
            except UhrSegError as error:
                if not self.many:
                    raise
                if not self.run.json:
                    warn(str(error))
                self.report.failed.append(Failure(path, error.message, error.hint))
                if isinstance(error, ClusterError):
                    break  # the other images would fail too
            finally:
                self.report.untried.remove(path)

    def _one(self, path: PathOrUrl, output: PathOrUrl) -> None:
        check_image(path)
        if self.run.dry_run:
            self._print_plan(path)
            return
        from napari_uhrseg.engine.events import Finished
        from napari_uhrseg.io.open import open_image

        image = open_image(path)
        settings = self.settings(image)
        with (
            open_store(output, image, self.backend.legend) as store,
            closing(
                self.backend.events(image, store, settings, self.run.replace)  # type: ignore[type-var] # a generator, annotated as an iterator
            ) as events,
        ):
            last = run_events(
                self.watch(events), "Segmenting", _show, json=self.run.json, image=path
            )
            if not self.run.json:
                _show_shares(store)
                out.print(f"Labels: {output}", highlight=False, soft_wrap=True)
        assert isinstance(last, Finished)  # the last event of a run
        self._note(path, last.done, last.failed)

    def _print_plan(self, path: PathOrUrl) -> None:
        from napari_uhrseg.io.open import open_image

        image = open_image(path)
        settings = self.settings(image)
        with err.status("Planning"):
            plan = self.backend.plan(image, settings)
        if self.run.json:
            json_line(event="planned", image=path, **plan_record(plan))
        else:
            _show_plan(plan)

    def _note(self, path: PathOrUrl, done: int, failed: int) -> None:
        if failed:
            reason = f"{failed} blocks could not be read and have no labels."
            hint = "Run the same command to try them again."
            self.report.failed.append(Failure(path, reason, hint))
        elif done:
            self.report.done.append(path)
        else:
            self.report.skipped.append(path)


@contextmanager
def open_store(
    path: PathOrUrl, image: "Image", legend: Legend
) -> "Iterator[LabelStore]":
    """Open the image's store for writing; create it if it does not exist.

    A new store is removed if no run began in it, so that a corrected command does not
    meet the classes of a wrong checkpoint.

    Parameters
    ----------
    path
        Path of the store.
    image
        The image that is segmented.
    legend
        Classes of a new store.

    Yields
    ------
    LabelStore
        The open store.

    Raises
    ------
    StoreError
        If the path is not a label store of this image, or the store is in use.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    created = not exists(path)
    store = (
        LabelStore.create(path, image, legend)
        if created
        else LabelStore.open(path, write=True)
    )
    with store:
        if store.shape != image.shape:
            raise StoreError(
                f"{path} contains labels of an image of {_size(store.shape)} pixels; "
                f"this image has {_size(image.shape)}.",
                "Choose another output.",
            )
        try:
            yield store
        finally:
            if created and not store.runs:
                store.close()
                _remove(path)


def _remove(path: PathOrUrl) -> None:
    """Remove a store without labels; print a warning if that fails."""
    try:
        remove_folder(path)
    except io_errors(path) as error:
        warn(f"{path} has no labels and cannot be removed: {error_text(error)}.")


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _show_plan(plan: "Plan") -> None:
    out.print(Text(plan.summary()), soft_wrap=True)
    out.print(Text(f"Input: {plan.input}"), soft_wrap=True)
    for warning in plan.warnings:
        warn(warning)


def _show(event: "SegmentEvent") -> str | None:
    """Print an event; return the text beside the progress bar."""
    from napari_uhrseg.engine.events import (
        BlockFailed,
        Finished,
        Planned,
        RetriedWithLess,
    )

    match event:
        case Planned(plan):
            _show_plan(plan)
        case BlockFailed(_, reason):
            warn(f"A block failed: {reason}")
        case RetriedWithLess(change=change):
            err.print(f"Out of memory; continuing {change}.")
        case Finished():
            return f"Segmented in {format_seconds(event.seconds)}"
        case _:
            pass
    return None


def _show_shares(store: "LabelStore") -> None:
    """Print the estimated fraction of each class in the labelled area."""
    shares = store.area_shares()
    for label in store.legend:
        if label.id in shares:
            out.print(swatch(label, f"≈ {shares[label.id]:6.1%}  {label.name}"))
