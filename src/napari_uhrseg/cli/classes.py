"""``napari-uhrseg classes``: list and change the classes of a label store."""

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import json_line, out
from napari_uhrseg.cli.shared_options import JsonOption, StoreArgument
from napari_uhrseg.errors import StoreError
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.units import quoted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


def classes(
    store: StoreArgument,
    add: Annotated[
        list[str] | None,
        typer.Option(
            help="Add a class. Without a colour, an unused one is chosen.",
            metavar="NAME[=#rrggbb]",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="Rename a class.", metavar="OLD=NEW"),
    ] = None,
    color: Annotated[
        list[str] | None,
        typer.Option(help="Change the colour of a class.", metavar="NAME=#rrggbb"),
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(
            help="Display a class as another one. NAME=NAME undoes the merge.",
            metavar="NAME=INTO",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the classes of a label store; add, rename, recolour or merge them.

    Each option may be repeated. Classes are first added, then renamed, recoloured and
    merged. If a name or a colour is wrong, nothing is changed.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    changes = add or [], rename or [], color or [], merge or []
    with LabelStore.open(store, write=any(changes)) as opened:
        for change in _changes(opened, *changes):
            try:
                change()
            except ValueError as error:  # the other class is itself merged
                raise StoreError(
                    f"The classes cannot be merged: {error}.",
                    "Undo the other merge first: --merge NAME=NAME.",
                ) from error
        rows = _rows(opened)
    if json:
        json_line(event="classes", store=store, classes=rows)
    else:
        _show(rows)


def _changes(
    store: "LabelStore",
    add: list[str],
    rename: list[str],
    color: list[str],
    merge: list[str],
) -> list[Callable[[], object]]:
    """Check all changes and return them as functions.

    Parameters
    ----------
    store
        The label store.
    add, rename, color, merge
        Texts of the options.

    Raises
    ------
    StoreError
        If a class does not exist, or exists already.
    """
    found: list[Callable[[], object]] = []
    legend = store.legend
    for text in add:
        name, shade = _pair(text) if "=" in text else (text.strip(), "")
        there = legend.named(name)
        if there is not None:
            raise StoreError(f"The class {name!r} exists: {there.id} {there.name}.",
                             "Choose another name.")  # fmt: skip
        shade = _shade(shade) if shade else legend.spare_color()
        new = Legend((LabelClass(1, name, shade),))
        legend = _legend(legend.merged, new)
        found.append(partial(store.legend_editor.add_classes, new))
    for text in rename:
        old, name = _pair(text)
        number = _class(legend, old).id
        legend = _legend(legend.renamed, number, name)
        found.append(partial(store.legend_editor.rename_class, number, name))
    for text in color:
        name, shade = _pair(text)
        number = _class(legend, name).id
        found.append(partial(store.legend_editor.recolor_class, number, _shade(shade)))
    for text in merge:
        one, into = (_class(legend, name).id for name in _pair(text))
        found.append(partial(store.legend_editor.merge_class, one, into))
    return found


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
        raise StoreError(
            f"The label store has no class {name!r}.", list_classes(legend)
        )
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
