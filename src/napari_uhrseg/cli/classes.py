"""``napari-uhrseg classes``: the classes of a label store, shown and changed."""

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import json_line, out
from napari_uhrseg.cli.export import StoreArgument
from napari_uhrseg.cli.options import JsonOption
from napari_uhrseg.errors import StoreError
from napari_uhrseg.types import LabelClass, Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


def classes(
    store: StoreArgument,
    add: Annotated[
        list[str] | None,
        typer.Option(
            help="A new class; a colour is found where none is given.",
            metavar="NAME[=#rrggbb]",
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="Give a class another name.", metavar="OLD=NEW"),
    ] = None,
    color: Annotated[
        list[str] | None,
        typer.Option(help="Give a class another colour.", metavar="NAME=#rrggbb"),
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(
            help="Show a class as another from now on; NAME=NAME takes it back.",
            metavar="NAME=INTO",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the classes of a label store; add, rename, recolour or merge them.

    Each option may be given several times. Classes are added first, then renamed, then
    recoloured, then merged; nothing is changed where a name or a colour is wrong.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    asked = add or [], rename or [], color or [], merge or []
    with LabelStore.open(store, write=any(asked)) as opened:
        for change in _changes(opened, *asked):
            try:
                change()
            except ValueError as error:  # of a merge, whose other is merged into it
                raise StoreError(
                    f"The merge is not made: {error}.",
                    "Take the other merge back first: --merge NAME=NAME.",
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
    """What was asked for, checked as a whole. Raises StoreError."""
    found: list[Callable[[], object]] = []
    legend = store.legend
    for text in add:
        name, shade = _pair(text) if "=" in text else (text.strip(), "")
        there = legend.named(name)
        if there is not None:
            raise StoreError(f"There is a class {name!r}: {there.id} {there.name}.",
                             "Choose another name.")  # fmt: skip
        shade = _shade(shade) if shade else legend.spare_color()
        new = Legend((LabelClass(1, name, shade),))
        legend = _legend(legend.merged, new)
        found.append(partial(store.add_classes, new))
    for text in rename:
        old, name = _pair(text)
        number = _class(legend, old).id
        legend = _legend(legend.renamed, number, name)
        found.append(partial(store.rename_class, number, name))
    for text in color:
        name, shade = _pair(text)
        number = _class(legend, name).id
        found.append(partial(store.recolor_class, number, _shade(shade)))
    for text in merge:
        one, into = (_class(legend, name).id for name in _pair(text))
        found.append(partial(store.merge_class, one, into))
    return found


def _pair(text: str) -> tuple[str, str]:
    """What stands before and after the last ``=``."""
    before, _, after = (part.strip() for part in text.rpartition("="))
    if not before or not after:
        raise typer.BadParameter(f"{text!r}: write two names, or a name and a colour, "
                                 "with = between them.")  # fmt: skip
    return before, after


def _shade(text: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise typer.BadParameter(f"{text!r} is no colour. Write one such as #ff8000.")
    return text.lower()


def _class(legend: Legend, name: str) -> LabelClass:
    label = legend.named(name)
    if label is None:
        raise StoreError(f"The store has no class {name!r}.", there_are(legend))
    return label


def _legend(change: Any, *values: Any) -> Legend:
    """A changed legend; its own errors in words."""
    try:
        changed: Legend = change(*values)
    except ValueError as error:
        raise StoreError(f"The classes stay as they were: {error}.",
                         "Choose another name.") from error  # fmt: skip
    return changed


def there_are(legend: Legend) -> str:
    return f"There are: {', '.join(c.name for c in legend)}."


def _rows(store: "LabelStore") -> list[dict[str, Any]]:
    """What is known of each class, merged ones too; shares are estimates."""
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
            Text(row["name"] + (f" (shown as {into})" if into else "")),
            Text("■ ", row["color"]) + Text(row["color"], "none"),
            "" if into else f"{row['share']:.1%}",
            "" if into else f"{row['corrected']:,}",
        )
    out.print(shown)
