"""Project of a command: its file, its paths, and the choice of its images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from napari_uhrseg.cli.console import warn
from napari_uhrseg.cli.runs.batch import Failure, Report
from napari_uhrseg.cli.shared_options import one_of
from napari_uhrseg.errors import ProjectError, UhrSegError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project import STATES, Project, ProjectImage, State
from napari_uhrseg.io.project.project_file import SUFFIX, ProjectFile
from napari_uhrseg.units import quoted

ProjectArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PROJECT", help=f"Project file (*{SUFFIX}), or a folder with one."
    ),
]
OutsideOption = Annotated[
    bool,
    typer.Option(
        "--allow-outside",
        help="Use paths of the project that are outside its folder, and URLs.",
    ),
]


def _check_states(names: list[str] | None) -> list[str] | None:
    return [_state(name) or "" for name in names or ()]


_state = one_of(STATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChoice:
    """Images of a project on which a command works."""

    image: Annotated[
        list[str] | None,
        typer.Option(
            help="Path, name or pattern of images, such as '*_north.tif'. May be "
            "repeated. Default: all."
        ),
    ] = None
    state: Annotated[
        list[str] | None,
        typer.Option(
            help=f"State of the images: {', '.join(STATES)}. May be repeated.",
            callback=_check_states,
        ),
    ] = None
    allow_outside: OutsideOption = False


@dataclass(frozen=True, slots=True)
class OpenedProject:
    """Project file, and the rules for the paths in it."""

    file: ProjectFile
    paths: ProjectPaths

    @classmethod
    def at(cls, path: Path, *, allow_outside: bool = False) -> "OpenedProject":
        """Return the project of a file, or the only one in a folder.

        Raises
        ------
        ProjectError
            If a folder has no project file, or several.
        """
        if path.is_dir():
            found = sorted(path.glob(f"*{SUFFIX}"))
            if len(found) != 1:
                names = quoted(f.name for f in found[:5]) or "none"
                raise ProjectError(
                    f"{path} has {len(found)} project files: {names}.",
                    f"Give the path of a file that ends in {SUFFIX}.",
                )
            path = found[0]
        file = ProjectFile(path)
        return cls(file, ProjectPaths(file.folder, allow_outside))

    def chosen(self, choice: ImageChoice) -> tuple[Project, tuple[ProjectImage, ...]]:
        """Return the project and the chosen images.

        Raises
        ------
        ProjectError
            If no image is chosen.
        """
        project = self.file.read()
        found = project.chosen(choice.image or (), choice.state or ())
        if not found:
            raise ProjectError(
                f"No image of {self.file.name} is chosen ({project.summary()}).",
                "Add images with `napari-uhrseg project add`, or change --state.",
            )
        return project, found

    def image(self, image: ProjectImage, project: Project) -> PathOrUrl:
        """Return the file of an image of a project; see `ProjectPaths.image`."""
        return self.paths.image(image.path, {i.path for i in project.images})

    def labels(self, image: ProjectImage) -> PathOrUrl:
        """Return the label store of an image. Raises ProjectError if it is outside."""
        return self.paths.resolve(image.labels)

    def observe(self, image: ProjectImage, *, changed: bool = False) -> State:
        """Write the state of the labels to the project file, and return it.

        A reviewed image stays so, unless a run has changed its labels.

        Parameters
        ----------
        image
            The image, as it was read from the project.
        changed
            True if a run has changed the labels.
        """
        from napari_uhrseg.io.project.project_stores import observed_state

        state = observed_state(self.labels(image))
        if state == image.state and not changed:
            return state

        def note(project: Project) -> Project:
            is_kept = project.image(image.path).state == "reviewed" and not changed
            return project if is_kept else project.with_image(image.path, state=state)

        return self.file.update(note).image(image.path).state


@contextmanager
def reported(image: ProjectImage, report: Report, *, json: bool) -> Iterator[None]:
    """Add an image to a report: with the error of the block, or as done.

    Parameters
    ----------
    image
        The image with which the block works.
    report
        The report of all images.
    json
        If False, an error is printed as well.
    """
    try:
        yield
        report.done.append(image.path)
    except UhrSegError as error:
        report.failed.append(Failure(image.path, error.message, error.hint))
        if not json:
            warn(f"{image.path}: {error}")


def finish(report: Report, *, json: bool) -> None:
    """Print a report, and exit with 1 if an image failed."""
    report.print(json)
    if report.failed:
        raise typer.Exit(1)
