"""Import of polygons and masks for ``correct``."""

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from napari_uhrseg.cli.classes import list_classes
from napari_uhrseg.cli.console import interruptible, json_line, out, run_steps, warn
from napari_uhrseg.cli.correction_output import (
    RESUMABLE,
    Watch,
    changed_pixels,
    check_changed,
    open_corrections,
    pixel_text,
)
from napari_uhrseg.errors import OpenError, StoreError
from napari_uhrseg.types import Numbering
from napari_uhrseg.units import counted, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.corrections.polygon_features import ClassField


@dataclass(frozen=True, slots=True)
class _Skipped:
    """Parts of a file that were left out: amounts by class or value, and sentences."""

    amounts: dict[str, int]
    notes: list[str]


def is_polygon_file(file: Path) -> bool:
    """Return whether a file contains polygons by its suffix; others are masks."""
    from napari_uhrseg.io.corrections.polygon_import import POLYGON_SUFFIXES

    return file.suffix.lower() in POLYGON_SUFFIXES


def import_polygons(
    store: str,
    file: Path,
    class_name: str | None,
    classes: "ClassField | None" = None,
    *,
    json: bool,
) -> None:
    """Correct a label store with the polygons of a file.

    Parameters
    ----------
    store
        Path or URL of the label store.
    file
        GeoJSON, GeoPackage or shapefile.
    class_name
        Class of polygons that have no class of the label store; None: they are
        skipped.
    classes
        Field of the file with the classes; None: the usual ones.
    json
        Print JSON.
    """
    _import(store, file, partial(_polygons, file, class_name, classes), json)


def import_mask(
    store: str,
    file: Path,
    classes: Path | None,
    values: Numbering | None,
    *,
    json: bool,
) -> None:
    """Correct a label store with a mask.

    Parameters
    ----------
    store
        Path or URL of the label store.
    file
        Image of any format.
    classes
        Classes file with the name of each value; None: the table of the mask file.
    values
        Meaning of values without a name; None: an error if it is not clear.
    json
        Print JSON.
    """
    _import(store, file, partial(_mask, file, classes, values), json)


def _import(
    store: str,
    file: Path,
    run: "Callable[[Corrections, Watch, bool], _Skipped]",
    json: bool,
) -> None:
    with interruptible(RESUMABLE) as watch, open_corrections(store) as corrections:
        before, version = corrections.counts(), corrections.version
        skipped = run(corrections, watch, json)
        changed = changed_pixels(before, corrections.counts(), corrections.store.legend)
        is_changed = corrections.version != version
    if json:
        json_line(event="corrected", store=store, file=file, skipped=skipped.amounts,
                  notes=skipped.notes, changed=changed)  # fmt: skip
    else:
        for note in skipped.notes:
            warn(note)
        if is_changed:
            line = f"Corrected: {pixel_text(changed, sign=True)}. Labels: {store}"
            out.print(Text(line), soft_wrap=True)
    check_changed(
        is_changed, f"{file.name} covers no pixel, or all are corrected already."
    )


def _polygons(
    path: Path,
    class_name: str | None,
    classes: "ClassField | None",
    corrections: "Corrections",
    watch: Watch,
    json: bool,
) -> _Skipped:
    """Fill the polygons; return the number of skipped ones for each unknown name."""
    from napari_uhrseg.io.corrections.polygon_import import read_polygon_file

    legend = corrections.store.legend
    default = None if class_name is None else legend.named(class_name)
    if class_name is not None and default is None:
        raise StoreError(
            f"The label store has no class {class_name!r}.", list_classes(legend)
        )
    found = read_polygon_file(path, corrections.store, classes)
    pairs, skipped = [], dict[str, int]()
    for polygon, name in found.polygons:
        label = (legend.named(name) if name else None) or default
        if label is not None:
            pairs.append((polygon, label.id))
        else:
            skipped[name or "(none)"] = skipped.get(name or "(none)", 0) + 1
    if not pairs:
        names = f"The file has: {quoted(skipped)}. "
        raise OpenError(
            f"No polygon of {path.name} matches a class in the label store.",
            f"Give their class with --class. {names}{list_classes(legend)}",
        )
    with closing(corrections.fill_all(pairs)) as steps:
        run_steps(watch(steps), "Correcting", json)
    notes = [
        f"Skipped, because the label store has no such class: "
        f"{counted(amount, 'polygon')} of {name!r}."
        for name, amount in skipped.items()
    ]
    return _Skipped(skipped, found.notes(corrections.store.name) + notes)


def _mask(
    path: Path,
    classes: Path | None,
    values: Numbering | None,
    corrections: "Corrections",
    watch: Watch,
    json: bool,
) -> _Skipped:
    """Import the mask; return the number of pixels of each unknown value."""
    from napari_uhrseg.io.corrections.mask_import import MaskReader

    legend = corrections.store.legend
    names = None if classes is None else _class_table(classes)
    mask = MaskReader.open(path, corrections.store)
    run_steps(watch(mask.scan()), f"Reading {path.name}", json)
    if values is None and mask.is_ambiguous(legend, names):
        raise OpenError(
            f"The values of {path.name} mean other classes as class ids than as values "
            "of the training masks, and the file does not name its classes.",
            "Give --values ids, --values training, or a file of names with --classes.",
        )
    table, skipped, notes = dict[int, int](), dict[str, int](), list[str]()
    for found in mask.classes(legend, names, values):
        label = legend.named(found.name) if found.name else None
        if label is not None:
            table[found.value] = label.id
        elif found.name:  # a value without a name is nodata or background
            value = found.color or str(found.value)
            skipped[value] = found.pixels
            notes.append(
                f"Skipped, because the label store has no such class: "
                f"{found.pixels:,} px of value {value} ({found.name!r})."
            )
    if not table:
        raise OpenError(
            f"No value of {path.name} matches a class in the label store.",
            f"Name its values in a file (--classes). {list_classes(legend)}",
        )
    with closing(corrections.import_labels(mask, table)) as steps:  # type: ignore[type-var] # a generator, annotated as an iterator
        run_steps(watch(steps), "Correcting", json)
    return _Skipped(skipped, notes)


def _class_table(path: Path) -> dict[int, str]:
    """Return the class name of each mask value of a classes file."""
    from napari_uhrseg.engine.data.mask_legend import read_classes

    return {
        c.source_value: c.name for c in read_classes(path) if c.source_value is not None
    }
