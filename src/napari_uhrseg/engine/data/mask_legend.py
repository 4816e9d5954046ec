"""Legends of masks: read from a file of classes, or made from the values of masks."""

import re
from collections.abc import Collection
from pathlib import Path

from napari_uhrseg.engine.data.class_mask import MAX_VALUES, ClassMask
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.dataset_legends import distinct_color
from napari_uhrseg.types import LabelClass, Legend

MAX_CLASSES = 255  # ids of a label store
LINE = re.compile(r"(?:(\d+|#[0-9a-fA-F]{6})\s+)?(.+?)(?:\s+(#[0-9a-fA-F]{6}))?")


def infer_legend(values: Collection[int], mask: ClassMask) -> Legend:
    """Return a legend with one class for each mask value.

    Colours come from the mask's colour table or its RGB values.

    Parameters
    ----------
    values
        Distinct values of the masks, 2 to `MAX_VALUES`.
    mask
        A mask, for its colour table.

    Raises
    ------
    TrainingError
        If there are fewer than two values, or too many.
    """
    if len(values) < 2:
        shown = ", ".join(_shown(v, mask) for v in values) or "none"
        raise TrainingError(
            f"The masks have fewer than two classes (values with a class: {shown}).",
            "Check the mask values, the ignored values and nodata. Give a classes file "
            "to use a value that is ignored otherwise.",
        )
    if len(values) > MAX_VALUES:
        raise TrainingError(
            f"The masks have {len(values)} different values, which are not classes.",
            "Masks need one value or colour for each class, saved without loss (PNG or "
            "TIFF, not JPEG).",
        )
    table = (not mask.colored and mask.image.colormap) or {}
    classes = []
    for k, value in enumerate(sorted(values)):
        if value in table:
            color = "#{:02x}{:02x}{:02x}".format(*table[value][:3])
        else:
            color = f"#{value:06x}" if mask.colored else distinct_color(k)
        classes.append(LabelClass(k + 1, f"class {_shown(value, mask)}", color, value))
    return Legend(tuple(classes))


def read_classes(path: Path | str) -> Legend:
    """Read a legend from a text file with one class ``value name [#rrggbb]`` per line.

    If a line does not start with a number, its value is its position, from 0. A colour
    at the start, ``#rrggbb name``, is both the value in RGB masks and the colour.

    Raises
    ------
    TrainingError
        If the file is missing or cannot be read, has more than 255 classes, or a name
        or a value occurs twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"The classes in {path} cannot be read: {error}.",
            "Check the path. The file must be a text file in UTF-8.",
        ) from error
    texts = [text for line in lines if (text := line.strip())]
    if len(texts) > MAX_CLASSES:
        raise TrainingError(
            f"{path} has {len(texts)} classes, and at most {MAX_CLASSES} are possible.",
            "Merge classes, or remove lines.",
        )
    classes: list[LabelClass] = []
    for place, text in enumerate(texts):
        new = _read_line(place, text)
        twin = next((c for c in classes if c.source_value == new.source_value), None)
        if twin is not None:
            raise TrainingError(
                f"{path}: the classes {twin.name!r} and {new.name!r} have the same "
                f"mask value {new.source_value}.",
                "Give each class its own value.",
            )
        classes.append(new)
    try:
        return Legend(tuple(classes))
    except ValueError as error:
        raise TrainingError(f"{path}: {error}.", "Use each name once.") from error


def _read_line(place: int, text: str) -> LabelClass:
    match = LINE.fullmatch(text)
    assert match  # a line that is not empty has at least a name
    value, name, color = match.groups()
    if value and value[0] == "#":
        source, color = int(value[1:], 16), color or value
    else:
        source = int(value) if value else place
    color = (color or distinct_color(place)).lower()
    return LabelClass(place + 1, name, color, source)


def _shown(value: int, mask: ClassMask) -> str:
    return f"#{value:06x}" if mask.colored else str(value)
