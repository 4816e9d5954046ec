"""``project new``, ``add``, ``list`` and ``mark``: the project file and its images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import json_line, out, warn
from napari_uhrseg.cli.project.opened import (
    ImageChoice,
    OpenedProject,
    OutsideOption,
    ProjectArgument,
    finish,
)
from napari_uhrseg.cli.runs.batch import Failure, Report, check_image, find_images
from napari_uhrseg.cli.shared_options import (
    ClassesFileOption,
    JsonOption,
    expand_options,
)
from napari_uhrseg.errors import ProjectError, UhrSegError
from napari_uhrseg.io.paths import PathOrUrl, exists, is_url
from napari_uhrseg.io.project.project import STATES, Project, ProjectImage, State
from napari_uhrseg.io.project.project_file import SUFFIX, ProjectFile
from napari_uhrseg.types import Legend
from napari_uhrseg.units import quoted

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image


def new(
    project: Annotated[
        Path, typer.Argument(help=f"Project file to create (*{SUFFIX}).")
    ],
    classes: ClassesFileOption = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Checkpoint file (.safetensors) that gives the classes."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a project file without images."""
    path = project if project.name.endswith(SUFFIX) else Path(f"{project}{SUFFIX}")
    file = ProjectFile(path)
    created = Project()
    if classes is not None:
        created = created.with_classes(_classes(classes))
    if checkpoint is not None:
        from napari_uhrseg.models.card_header import read_card

        created = created.with_classes(read_card(checkpoint).legend)
        paths = OpenedProject.at(path).paths
        created = created.with_checkpoint(paths.relative(checkpoint))
    file.create(created)
    if json:
        json_line(event="created", project=file.path)
    else:
        out.print(f"Project: {file.path}", highlight=False, soft_wrap=True)


def _classes(path: Path) -> Legend:
    from napari_uhrseg.engine.data.mask_legend import read_classes

    return read_classes(path)


def add(
    project: ProjectArgument,
    images: Annotated[
        list[str],
        typer.Argument(help="Image files, folders, URLs or patterns: 'slides/*.svs'."),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="PATH_OR_URL",
            help="Label store of the image, which exists or not; for one image only. "
            "Default: labels beside the image, otherwise labels/IMAGE.labels.zarr "
            "beside the project.",
        ),
    ] = None,
    allow_outside: OutsideOption = False,
    json: JsonOption = False,
) -> None:
    """Add images to a project. Images that are listed already are left as they are.

    An image that cannot be opened is reported, and the others are added. The classes
    of existing labels are added to those of the project. A class that was deleted in
    the project then exists again, and is reported.
    """
    opened = OpenedProject.at(project, allow_outside=allow_outside)
    found, _ = find_images(images)
    if labels is not None and len(found) != 1:
        raise typer.BadParameter("Give --labels with one image only.")
    report = Report(verb="added")
    for path in found:
        try:
            is_new = _add(opened, path, labels)
            (report.done if is_new else report.skipped).append(path)
        except UhrSegError as error:
            report.failed.append(Failure(path, error.message, error.hint))
    finish(report, json=json)


def _add(opened: OpenedProject, path: PathOrUrl, labels: str | None) -> bool:
    """Add an image with its existing or future labels. Return False if it is known."""
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.io.project.project_stores import observed_state

    check_image(path)
    listed = opened.paths.relative(path)
    if any(i.path == listed for i in opened.file.read().images):
        return False
    opened.paths.resolve(listed)
    image = open_image(path)
    existing = labels if labels is not None else _existing(opened, image, path)
    legend, state, store = Legend(()), STATES[0], None
    if existing is not None:
        store = opened.paths.relative(existing)
        where = opened.paths.resolve(store)
        state = observed_state(where)
        if exists(where):
            legend = _legend_of(where, image)

    again = list[str]()

    def change(project: Project) -> Project:
        again[:] = (c.name for c in legend if c.name in project.deleted)
        used = store or project.unused_labels(listed)
        return project.with_classes(legend).with_images(
            [ProjectImage(listed, used, state)]
        )

    try:
        opened.file.update(change)
    except ValueError as error:
        raise ProjectError(
            f"{path} is not added: {error}.", "Choose another label store."
        ) from error
    if again:
        warn(f"The labels of {path.name} have classes that were deleted in the "
             f"project and exist again: {quoted(again)}.")  # fmt: skip
    return True


def _existing(
    opened: OpenedProject, image: "Image", path: PathOrUrl
) -> PathOrUrl | None:
    """Return the latest labels of an image beside it; None if another image has them.

    Labels that lie outside the folder of the project are left out, unless allowed.
    """
    from napari_uhrseg.io.labels.existing_labels import existing_labels

    if is_url(path):
        return None
    assert isinstance(path, Path)
    used = {i.labels for i in opened.file.read().images}
    beside = sorted(path.parent.glob("*.zarr"))
    for found in existing_labels(image, beside):
        listed = opened.paths.relative(found.path)
        is_allowed = opened.paths.allow_outside or not opened.paths.is_outside(listed)
        if listed not in used and is_allowed:
            return found.path
    return None


def _legend_of(labels: PathOrUrl, image: "Image") -> Legend:
    from napari_uhrseg.io.labels.store import LabelStore

    with LabelStore.open(labels) as store:
        if store.shape != image.shape:
            raise ProjectError(
                f"{labels} contains the labels of another image, {store.name}.",
                "Choose another label store.",
            )
        return store.legend


def list_(
    project: ProjectArgument,
    image: Annotated[
        list[str] | None,
        typer.Option(help="Path, name or pattern of images. May be repeated."),
    ] = None,
    allow_outside: OutsideOption = False,
    json: JsonOption = False,
) -> None:
    """List the images with their states, which are compared with the label stores.

    The exit status is 1 if an image or its labels cannot be found or read.
    """
    opened = OpenedProject.at(project, allow_outside=allow_outside)
    rows = []
    current = opened.file.read()
    for each in current.chosen(image or ()):
        problem, state = "", each.state
        try:
            if state != "reviewed":
                state = opened.observe(each)
            opened.image(each, current)
        except UhrSegError as error:
            problem = str(error)
        rows.append((each.path, state, each.notes, problem))
    if json:
        for path, state, notes, problem in rows:
            json_line(event="image", path=path, state=state, notes=notes,
                      problem=problem)  # fmt: skip
    else:
        _print_list(opened.file.read(), rows)
    if any(problem for *_, problem in rows):
        raise typer.Exit(1)


def _print_list(project: Project, rows: list[tuple[str, State, str, str]]) -> None:
    table = Table()
    for name in ("Image", "State", "Notes"):
        table.add_column(name)
    for path, state, notes, problem in rows:
        table.add_row(Text(path), state, Text(notes))
        if problem:
            warn(f"{path}: {problem}")
    out.print(table)
    out.print(f"{project.summary()}; {len(project.legend)} classes.")


@expand_options
def mark(
    project: ProjectArgument,
    choice: ImageChoice,
    as_: Annotated[
        State | None, typer.Option("--as", help="New state of the images.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="New notes.")] = None,
    remove: Annotated[
        bool,
        typer.Option(
            "--remove", help="Remove the images from the project; no file is deleted."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Set the state or the notes of images, or remove them from the project."""
    if as_ is None and notes is None and not remove:
        raise typer.BadParameter("Give --as, --notes or --remove.")
    opened = OpenedProject.at(project)
    _, found = opened.chosen(choice)
    changes = {"state": as_, "notes": notes}
    kept = {k: v for k, v in changes.items() if v is not None}

    def change(current: Project) -> Project:
        for image in found:
            current = (
                current.without(image.path)
                if remove
                else current.with_image(image.path, **kept)
            )
        return current

    opened.file.update(change)
    finish(Report("changed", done=[i.path for i in found]), json=json)
