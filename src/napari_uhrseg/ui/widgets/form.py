"""Dataclass fields as rows of widgets: title, tooltip and bounds from metadata."""

import dataclasses
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLineEdit,
    QSpinBox,
    QWidget,
)

from napari_uhrseg.ui.widgets.layout import add_row, form_of, narrow, on_edited

AUTO = "auto"


class Form(QWidget):
    """The named fields of a dataclass; what stays "auto" is left to the plan."""

    changed = Signal()

    def __init__(self, cls: type, names: Iterable[str]) -> None:
        super().__init__()
        hints = get_type_hints(cls)
        form = form_of(self)
        self.widgets: dict[str, QWidget] = {}
        self._values: dict[str, Callable[[], Any]] = {}
        for field in dataclasses.fields(cls):
            if field.name in names:
                widget, value = _make(hints[field.name], field, self.changed.emit)
                title = field.metadata.get("title", field.name)
                widget.setToolTip(field.metadata.get("tooltip", ""))
                narrow(widget)
                add_row(form, title, widget)
                self.widgets[field.name], self._values[field.name] = widget, value

    def values(self) -> dict[str, Any]:
        """Field name to value, ready for the dataclass.

        Raises
        ------
        ValueError
            A line of text is not a list of numbers.
        """
        return {name: value() for name, value in self._values.items()}


def _make(
    hint: Any, field: dataclasses.Field[Any], changed: Callable[[], None]
) -> tuple[QWidget, Callable[[], Any]]:
    kind = _without_none(hint)
    if get_origin(kind) is Literal:
        return _choice(get_args(kind), field, changed)
    if get_origin(kind) is tuple:
        return _numbers(get_args(kind), field, changed)
    if kind is bool:
        box = QCheckBox()
        box.setChecked(bool(field.default))
        box.toggled.connect(lambda _: changed())
        return box, box.isChecked
    if kind in (int, float):
        return _number(kind, field, changed, kind is not hint)
    raise TypeError(f"no widget for field {field.name!r} of type {hint}")


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return next(a for a in get_args(hint) if a is not type(None))
    return hint


def _choice(
    options: tuple[str, ...],
    field: dataclasses.Field[Any],
    changed: Callable[[], None],
) -> tuple[QWidget, Callable[[], Any]]:
    box, names = QComboBox(), field.metadata.get("names", {})
    for option in options:
        box.addItem(names.get(option, option), option)
    box.setCurrentIndex(box.findData(field.default))
    box.currentIndexChanged.connect(lambda _: changed())
    return box, box.currentData


def _number(
    kind: type,
    field: dataclasses.Field[Any],
    changed: Callable[[], None],
    optional: bool,
) -> tuple[QWidget, Callable[[], Any]]:
    """A spin box; if it is optional, its entry below the bounds reads "auto"."""
    said, box = field.metadata, QSpinBox() if kind is int else QDoubleSpinBox()
    if kind is int:
        low = said.get("minimum", 0)
        box.setRange(low - optional, said.get("maximum", 100_000))
    else:
        box.setDecimals(said.get("decimals", 4))
        low, step = said.get("minimum", 0), said.get("step", 0.25)
        below = step if optional and "minimum" in said else 0
        box.setRange(low - below, said.get("maximum", 64))
        box.setSingleStep(step)
    if optional:
        box.setSpecialValueText(AUTO)
    box.setKeyboardTracking(False)
    box.setValue(box.minimum() if field.default is None else field.default)
    box.valueChanged.connect(lambda _: changed())

    def value() -> Any:
        auto = optional and box.value() == box.minimum()
        return None if auto else kind(box.value())

    return box, value


def _numbers(
    kinds: tuple[Any, ...], field: dataclasses.Field[Any], changed: Callable[[], None]
) -> tuple[QWidget, Callable[[], Any]]:
    """A line of numbers with commas between them; empty is "auto"."""
    line = QLineEdit()
    count = None if Ellipsis in kinds else len(kinds)
    line.setPlaceholderText(AUTO + (" (e.g. 0, 1, 2)" if count is None else ""))
    on_edited(line, changed)
    title = field.metadata.get("title", field.name)

    def value() -> tuple[Any, ...] | None:
        text = line.text().replace(";", ",").strip()
        if not text or text == AUTO:
            return None
        try:
            found = tuple(kinds[0](part) for part in text.split(",") if part.strip())
        except ValueError:
            found = ()
        if not found or (count is not None and len(found) != count):
            many = "numbers" if count is None else f"{count} numbers"
            raise ValueError(f"{title}: {text!r} is not {many} with commas between.")
        return found

    return line, value
