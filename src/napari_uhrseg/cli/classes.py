"""``napari-uhrseg classes``: list and change the classes of a label store."""

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import interruptible, json_line, out
from napari_uhrseg.cli.shared_options import (
    JsonOption,
    StoreArgument,
    expand_options,
)
from napari_uhrseg.errors import StoreError
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.units import quoted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.project.class_edits import ProjectClassEditor


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassChanges:
    """Changes of classes; each option may be repeated."""

    add: Annotated[
        list[str] | None,
        typer.Option(
            help="Add a class. Without a colour, an unused one is chosen.",
            metavar="NAME[=#rrggbb]",
        ),
    ] = None
    rename: Annotated[
        list[str] | None,
        typer.Option(help="Rename a class.", metavar="OLD=NEW"),
    ] = None
    color: Annotated[
        list[str] | None,
        typer.Option(help="Change the colour of a class.", metavar="NAME=#rrggbb"),
    ] = None
    merge: Annotated[
        list[str] | None,
        typer.Option(
            help="Display a class as another one. NAME=NAME undoes the merge.",
            metavar="NAME=INTO",
        ),
    ] = None

    delete: Annotated[
        list[str] | None,
        typer.Option(
            help="Delete a class. Its labels and corrections become INTO, or are "
            "removed without INTO. This cannot be undone.",
            metavar="NAME[=INTO]",
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        """True if a change is given."""
        return any((self.add, self.rename, self.color, self.merge, self.delete))


@expand_options
def classes(
    store: StoreArgument, changes: ClassChanges, json: JsonOption = False
) -> None:
    """List the classes of a label store; add, rename, recolour, merge or delete them.

    Each option may be repeated. Classes are first added, then renamed, recoloured,
    merged and deleted. If a name or a colour is wrong, nothing is changed. The next
    change of the classes completes a deletion that was interrupted.
    """
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.corrections.delete_class import finish_deletions
    from napari_uhrseg.io.labels.store import LabelStore

    writes = changes.is_given
    with ExitStack() as stack:
        opened = stack.enter_context(LabelStore.open(store, write=writes))
        corrections: Corrections | None = None
        if changes.delete or (writes and opened.legend_editor.deleting):
            corrections = stack.enter_context(Corrections.open(opened))
        change_classes(opened, changes)
        if corrections is not None:
            _complete(finish_deletions(opened, corrections))
        rows = _rows(opened)
    if json:
        json_line(event="classes", store=store, classes=rows)
    else:
        _show(rows)


def change_classes(
    target: "LabelStore | ProjectClassEditor", changes: ClassChanges
) -> None:
    """Check all changes, then make them in their order.

    `finish_deletions` must then write the labels of the deleted classes of a store.

    Parameters
    ----------
    target
        The label store, open for writing, or the project.
    changes
        Texts of the options.

    Raises
    ------
    StoreError
        If a class does not exist, or exists already, or cannot be merged or deleted.
    """
    for change in _checked(target, changes):
        try:
            change()
        except ValueError as error:  # the other class is itself merged
            raise StoreError(
                f"The classes cannot be merged: {error}.",
                "Undo the other merge first: --merge NAME=NAME.",
            ) from error


def _checked(
    store: "LabelStore | ProjectClassEditor", changes: ClassChanges
) -> list[Callable[[], object]]:
    """Return the changes as functions. Raise StoreError if one is not possible."""
    found: list[Callable[[], object]] = []
    legend = store.legend
    for text in changes.add or []:
        name, shade = _pair(text) if "=" in text else (text.strip(), "")
        there = legend.named(name)
        if there is not None:
            raise StoreError(f"The class {name!r} exists: {there.id} {there.name}.",
                             "Choose another name.")  # fmt: skip
        shade = _shade(shade) if shade else legend.spare_color()
        new = Legend((LabelClass(1, name, shade),))
        legend = _legend(legend.merged, new)
        found.append(partial(store.legend_editor.add_classes, new))
    for text in changes.rename or []:
        old, name = _pair(text)
        number = _class(legend, old).id
        legend = _legend(legend.renamed, number, name)
        found.append(partial(store.legend_editor.rename_class, number, name))
    for text in changes.color or []:
        name, shade = _pair(text)
        number = _class(legend, name).id
        found.append(partial(store.legend_editor.recolor_class, number, _shade(shade)))
    for text in changes.merge or []:
        one, into = (_class(legend, name).id for name in _pair(text))
        found.append(partial(store.legend_editor.merge_class, one, into))
    return found + _deletions(store, legend, changes.delete or [])


def _deletions(
    store: "LabelStore | ProjectClassEditor", legend: Legend, delete: list[str]
) -> list[Callable[[], object]]:
    """Check the texts of ``--delete`` after the other changes; return functions."""
    found: list[Callable[[], object]] = []
    for text in delete:
        exact = legend.named(text.strip()) is not None
        name, into = (text, "") if exact or "=" not in text else _pair(text)
        number = _class(legend, name.strip()).id
        other = _class(legend, into).id if into else 0
        if number == other:
            raise StoreError(f"The class {name!r} cannot become itself.",
                             "Choose another class, or none.")  # fmt: skip
        legend = Legend(tuple(c for c in legend if c.id != number))
        found.append(partial(store.legend_editor.delete_class, number, other))
    return found


def _complete(change: Iterator[float]) -> None:
    with interruptible(
        "The labels are displayed without the class. The next change of the classes "
        "completes the deletion.",
        between_events=True,
    ) as watch:
        deque(watch(change), maxlen=0)


def _pair(text: str) -> tuple[str, str]:
    """Return the texts before and after the last ``=``."""
    before, _, after = (part.strip() for part in text.rpartition("="))
    if not before or not after:
        raise typer.BadParameter(f"{text!r} has no =. Write two names, or a name and "
                                 "a colour, with = between them.")  # fmt: skip
    return before, after


def _shade(text: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise typer.BadParameter(f"{text!r} is not a colour such as #ff8000.")
    return text.lower()


def _class(legend: Legend, name: str) -> LabelClass:
    label = legend.named(name)
    if label is None:
        raise StoreError(f"There is no class {name!r}.", list_classes(legend))
    return label


def _legend(change: Any, *values: Any) -> Legend:
    """Return the changed legend. Raises StoreError with the reason."""
    try:
        changed: Legend = change(*values)
    except ValueError as error:
        raise StoreError(f"The classes are not changed: {error}.",
                         "Choose another name.") from error  # fmt: skip
    return changed


def list_classes(legend: Legend) -> str:
    """Return a sentence with the names of the classes."""
    return f"Classes: {quoted(c.name for c in legend)}."


def _rows(store: "LabelStore") -> list[dict[str, Any]]:
    """Return the facts of each class, also of merged ones; shares are estimates."""
    from napari_uhrseg.io.corrections.corrections import Corrections

    with Corrections.open(store, write=False) as corrections:
        counts = corrections.counts()
    shares = store.area_shares()
    names = {c.id: c.name for c in store.legend}
    return [
        {
            "id": c.id,
            "name": c.name,
            "color": c.color,
            "merged_into": names.get(store.aliases.get(c.id, 0)),
            "share": shares.get(c.id, 0.0),
            "corrected": counts.get(c.id, 0),
        }
        for c in store.legend
    ]


def _show(rows: list[dict[str, Any]]) -> None:
    shown = Table()
    for name in ("Id", "Class", "Colour", "Share", "Corrected"):
        left = name in ("Class", "Colour")
        shown.add_column(name, justify="left" if left else "right")
    for row in rows:
        into = row["merged_into"]
        shown.add_row(
            str(row["id"]),
            Text(row["name"] + (f" (displayed as {into})" if into else "")),
            Text("■ ", row["color"]) + Text(row["color"], "none"),
            "" if into else f"≈ {row['share']:.1%}",
            "" if into else f"{row['corrected']:,}",
        )
    out.print(shown)
