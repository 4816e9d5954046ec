"""``project classes``: list and change the classes of a project and all its stores."""

from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from rich.progress import track
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.classes import ClassChanges, change_classes
from napari_uhrseg.cli.console import err, interruptible, json_line, out
from napari_uhrseg.cli.project.opened import (
    OpenedProject,
    OutsideOption,
    ProjectArgument,
    finish,
)
from napari_uhrseg.cli.runs.batch import Failure, Report
from napari_uhrseg.cli.shared_options import JsonOption, expand_options
from napari_uhrseg.io.project.class_edits import ProjectClassEditor
from napari_uhrseg.io.project.project import Project
from napari_uhrseg.types import Legend


@expand_options
def classes(
    project: ProjectArgument,
    changes: ClassChanges,
    allow_outside: OutsideOption = False,
    json: JsonOption = False,
) -> None:
    """List the classes of a project; add, rename, recolour, merge or delete them.

    A change is written to the project and then to all its label stores. A store that
    cannot be changed now is reported; it gets the change when it is segmented.
    """
    opened = OpenedProject.at(project, allow_outside=allow_outside)
    if not changes.is_given:
        _show(opened.file.read(), json)
        return

    def change(current: Project) -> Project:
        editor = ProjectClassEditor(current)
        change_classes(editor, changes)
        return editor.project

    changed = opened.file.update(change)
    _show(changed, json)
    finish(_spread(opened, changed, json), json=json)


def _spread(opened: OpenedProject, project: Project, json: bool) -> Report:
    """Give all label stores the classes; return a report.

    Parameters
    ----------
    opened, project
        The project.
    json
        If True, no progress is displayed.
    """
    from napari_uhrseg.io.project.project_stores import sync_all

    labels = {i.path: partial(opened.labels, i) for i in project.images}
    failed: dict[str, str] = {}

    def spread() -> Iterator[str]:
        failed.update((yield from sync_all(project, labels)))

    with interruptible(
        "The other label stores get the classes when they are segmented.",
        between_events=True,
    ) as watch:
        steps = watch(spread())
        shown = track(steps, "Label stores", len(labels), console=err, disable=json)
        deque(shown, maxlen=0)
    return Report(
        "with these classes",
        done=[path for path in labels if path not in failed],
        failed=[Failure(path, reason) for path, reason in failed.items()],
    )


def _rows(legend: Legend, into: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the classes for JSON; ``into``: names of displayed classes by id."""
    return [
        {"id": c.id, "name": c.name, "color": c.color, "merged_into": into.get(c.id)}
        for c in legend
    ]


def _show(project: Project, json: bool) -> None:
    names = {c.id: c.name for c in project.legend}
    into = {k: names[v] for k, v in project.aliases.items()}
    if json:
        json_line(event="classes", classes=_rows(project.legend, into))
        return
    shown = Table()
    for name in ("Id", "Class", "Colour"):
        shown.add_column(name)
    for c in project.legend:
        displayed = f" (displayed as {into[c.id]})" if c.id in into else ""
        shown.add_row(
            str(c.id),
            Text(c.name + displayed),
            Text("■ ", c.color) + Text(c.color, "none"),
        )
    out.print(shown)
