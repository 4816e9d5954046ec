"""Dialogs of the Project panel, and the paths about which one of them asks."""

from collections.abc import Callable, Sequence
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project import Project
from napari_uhrseg.io.project.project_file import SUFFIX

KINDS = f"Projects (*{SUFFIX})"
Listed = tuple[Project, list[str]]  # a project, and its paths outside the folder


def ask_project(parent: QWidget) -> Path | None:
    """Ask for a project file to open; return None if the dialog is cancelled."""
    name, _ = QFileDialog.getOpenFileName(parent, "Project to open", "", KINDS)
    return Path(name) if name else None


def ask_new_project(parent: QWidget) -> Path | None:
    """Ask for the file of a new project; return None if the dialog is cancelled."""
    name, _ = QFileDialog.getSaveFileName(parent, "New project", "", KINDS)
    return Path(name) if name else None


def ask_images(parent: QWidget, folder: Path | None) -> list[Path]:
    """Ask for image files to add; ``folder`` is shown first."""
    start = "" if folder is None else str(folder)
    names, _ = QFileDialog.getOpenFileNames(parent, "Images to add", start)
    return [Path(name) for name in names]


def ask_outside(parent: QWidget, outside: Sequence[str]) -> bool:
    """Ask whether to use files outside the folder of a project.

    ``outside`` has the paths of these files, at least one.
    """
    text = (
        f"The project names {len(outside)} files outside its folder, such as\n"
        f"{outside[0]}\n\nDo you want to use them?"
    )
    answer = QMessageBox.question(parent, "Files outside the project", text)
    return bool(answer == QMessageBox.StandardButton.Yes)


def with_outside(project_of: Callable[[], Project], paths: ProjectPaths) -> Listed:
    """Return a project, and its paths outside the folder that are not allowed."""
    project = project_of()
    texts = [p for i in project.images for p in (i.path, i.labels)]
    allowed = paths.allow_outside
    return project, [p for p in texts if not allowed and paths.is_outside(p)]
