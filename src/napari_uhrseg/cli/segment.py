"""``napari-uhrseg segment``: label images into stores."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from napari_uhrseg.cli.console import interruptible, warn
from napari_uhrseg.cli.runs.backends import open_backend
from napari_uhrseg.cli.runs.batch import Report, find_images, store_paths
from napari_uhrseg.cli.runs.segment_images import ImageRuns
from napari_uhrseg.cli.runs.tissue import RunTissue
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
from napari_uhrseg.io.paths import to_path
from napari_uhrseg.types import MultiPolygon, Polygon, Region, SegmentSettings

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image


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
            help="Bands that the network gets, counted from 0, for example 3,2,1. "
            "Required if the image does not state which bands are red, green and blue.",
        ),
    ] = None
    value_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH[,LOW,HIGH…]|per-band",
            help="Image values that become black and white for the network, for "
            "example 0,4095, or two values for each band. per-band: percentiles of a "
            "sample of each band. Default: from the checkpoint, or from a sample of "
            "the bands used.",
        ),
    ] = None
    scale: Annotated[
        float | None,
        typer.Option(
            help="Image pixels per network pixel. Default: from the pixel sizes. "
            "Required if the pixel size of the image is unknown, or if the scale is "
            "above 4 or below 1/4."
        ),
    ] = None

    map_class: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=LABEL",
            help="Class of existing labels for a class of the checkpoint. CLASS= gives "
            "no label, and CLASS=CLASS adds the class. May be repeated.",
        ),
    ] = None
    add_classes: Annotated[
        bool,
        typer.Option(
            "--add-classes",
            help="Add the classes of the checkpoint that existing labels lack.",
        ),
    ] = False

    def __post_init__(self) -> None:
        self.class_names()
        if self.roi is not None:
            parse_region_option(self.roi)

    def settings(
        self,
        hardware: InferenceHardware,
        image: "Image",
        *,
        names: Mapping[str, str] | None = None,
    ) -> SegmentSettings:
        """Return the settings of a run of an image on this hardware.

        Parameters
        ----------
        hardware
            Device and precision.
        image
            The image to segment.
        names
            Classes of the labels for classes of the checkpoint that ``--map-class``
            does not name.
        """
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
            class_names=tuple({**(names or {}), **dict(self.class_names())}.items()),
            add_classes=self.add_classes,
        )

    def class_names(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs of ``--map-class``. Raises BadParameter for another text."""
        found = []
        for text in self.map_class or ():
            name, equals, label = (part.strip() for part in text.rpartition("="))
            if not equals or not name:
                raise typer.BadParameter(
                    f"{text!r} is no mapping. Write CLASS=LABEL, for example "
                    "lake=water."
                )
            found.append((name, label))
        return tuple(found)

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
    tissue: RunTissue,
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
        masks = partial(tissue.mask, replace=run.replace)
        each = ImageRuns(backend, settings, run, watch, report, many=many, tissue=masks)
        each.segment(stores)
    if many and not run.dry_run:
        report.print(run.json)
    elif report.failed:
        warn(f"{report.failed[0].reason} {report.failed[0].hint}")
    if report.failed:
        raise typer.Exit(1)
