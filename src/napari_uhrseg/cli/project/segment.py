"""``project segment``: label the images of a project, with one progress for all."""

from functools import partial
from typing import TYPE_CHECKING

from napari_uhrseg.cli.console import interruptible
from napari_uhrseg.cli.project.opened import (
    ImageChoice,
    OpenedProject,
    ProjectArgument,
    finish,
)
from napari_uhrseg.cli.runs.backends import open_backend
from napari_uhrseg.cli.runs.batch import Failure, Report
from napari_uhrseg.cli.runs.segment_images import ImageRuns
from napari_uhrseg.cli.runs.tissue import RunTissue
from napari_uhrseg.cli.segment import InferenceOptions, RunOptions
from napari_uhrseg.cli.shared_options import (
    CheckpointOption,
    InferenceHardware,
    expand_options,
)
from napari_uhrseg.errors import ProjectError, UhrSegError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.project.project import Project, ProjectImage

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


@expand_options
def segment(
    project: ProjectArgument,
    checkpoint: CheckpointOption,
    choice: ImageChoice,
    hardware: InferenceHardware,
    inference: InferenceOptions,
    tissue: RunTissue,
    run: RunOptions,
) -> None:
    """Segment the images of a project, with one progress and the time left for all.

    Finished images are skipped, so the same command resumes a stopped run. Labels of
    other settings are replaced only with --replace. New classes of the checkpoint are
    added to the project; classes that were deleted there stay deleted. An image that
    fails is reported, and the others continue.
    """
    from napari_uhrseg.engine.inference.overall_progress import OverallProgress

    opened = OpenedProject.at(project, allow_outside=choice.allow_outside)
    current, images = opened.chosen(choice)
    report = Report()
    entries, pixels = _found(opened, current, images, report)
    report.untried = list(entries)
    with (
        interruptible("Finished blocks are kept. The same command resumes.") as watch,
        open_backend(
            checkpoint, hardware, run.scheduler, run.workers, run.cpu_fallback
        ) as backend,
    ):
        listed = opened.paths.relative(checkpoint)
        names = dict(inference.class_names())
        current = current.with_network(backend.legend, names)
        if not run.dry_run:
            current = opened.file.update(
                lambda p: p.with_network(backend.legend, names).with_checkpoint(listed)
            )
        deleted = current.network_names(backend.legend)
        runs = ImageRuns(
            backend,
            partial(inference.settings, hardware, names=deleted),
            run,
            watch,
            report,
            many=True,
            legend=current.legend,
            opened=lambda _, store: _use_classes(opened, store),
            finished=lambda path, changed: opened.observe(
                entries[path], changed=changed
            ),
            overall=OverallProgress(pixels),
            tissue=partial(tissue.mask, replace=run.replace),
        )
        runs.segment({path: opened.labels(image) for path, image in entries.items()})
    if report.failed or not run.dry_run:
        finish(report, json=run.json)


def _found(
    opened: OpenedProject,
    project: Project,
    images: tuple[ProjectImage, ...],
    report: Report,
) -> tuple[dict[PathOrUrl, ProjectImage], list[int]]:
    """Return the images by their files, and the pixels of each; report missing ones.

    Parameters
    ----------
    opened, project
        The project.
    images
        The chosen images.
    report
        Report to which images are added that are missing or cannot be opened.
    """
    from napari_uhrseg.io.open import open_image

    found: dict[PathOrUrl, ProjectImage] = {}
    pixels: list[int] = []
    for image in images:
        try:
            opened.labels(image)
            path = opened.image(image, project)
            if path in found:
                raise ProjectError(
                    f"{image.path} is the same file as {found[path].path}: {path}.",
                    "Copy the image back, or remove it from the project.",
                )
            height, width = open_image(path).shape
        except UhrSegError as error:
            is_outside = opened.paths.is_outside(image.path)
            listed = image.path if is_outside else opened.file.folder / image.path
            report.failed.append(Failure(listed, error.message, error.hint))
            continue
        found[path] = image
        pixels.append(height * width)
    return found, pixels


def _use_classes(opened: OpenedProject, store: "LabelStore") -> None:
    """Give a store the classes that the project has now."""
    from napari_uhrseg.io.project.project_stores import sync_classes

    sync_classes(store, opened.file.read())
