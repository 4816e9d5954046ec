"""Forms built from dataclass fields by magicgui.

The type of a field determines its widget. Its metadata give the title, the tooltip,
the bounds and the names of choices.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from magicgui.widgets import create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QWidget

from napari_uhrseg.ui.widgets.layout import add_row, form_of, narrow, on_edited
from napari_uhrseg.ui.widgets.number_text import (
    accept_decimal_point,
    number_list,
    split_numbers,
)

AUTO = "auto"


class Form(QWidget):
    """Form for some fields of a dataclass; an optional field can stay "auto".

    ``widgets`` has the Qt widget of each field.
    """

    changed = Signal()

    def __init__(self, cls: type, names: Iterable[str]) -> None:
        super().__init__()
        hints = get_type_hints(cls)
        form = form_of(self)
        self.widgets: dict[str, QWidget] = {}
        self._made: dict[str, Any] = {}  # magicgui's widgets live as long as the form
        self._values: dict[str, Callable[[], Any]] = {}
        for field in dataclasses.fields(cls):
            if field.name in names:
                made, value = _make(field, hints[field.name])
                widget = made.native
                narrow(widget)
                add_row(form, _title(field), widget)
                if isinstance(widget, QLineEdit):
                    on_edited(widget, self.changed.emit)
                else:
                    made.changed.connect(lambda _: self.changed.emit())
                self._made[field.name] = made
                self.widgets[field.name], self._values[field.name] = widget, value

    def values(self) -> dict[str, Any]:
        """Return the value of each field, ready for the dataclass.

        Raises
        ------
        ValueError
            If a line of text is not a list of numbers.
        """
        return {name: value() for name, value in self._values.items()}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show values of fields; None of an optional field is "auto"."""
        for name, value in values.items():
            made, widget = self._made[name], self.widgets[name]
            if isinstance(widget, QLineEdit):
                widget.setText(_list_text(value))
            elif value is None:
                made.native.setValue(made.native.minimum())
            else:
                made.value = value
        self.changed.emit()


def _list_text(values: Iterable[float] | str | None) -> str:
    if values is None or isinstance(values, str):
        return values or ""
    return number_list(values)


def _title(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata.get("title", field.name))


def _make(field: dataclasses.Field[Any], hint: Any) -> tuple[Any, Callable[[], Any]]:
    """Return magicgui's widget for a field and a function that reads its value."""
    optional = get_origin(hint) in (Union, UnionType)
    kind = next(a for a in get_args(hint) if a is not type(None)) if optional else hint
    about: dict[str, Any] = {"tooltip": field.metadata.get("tooltip", "")}
    if get_origin(kind) is Literal:
        names = field.metadata.get("names", {})
        about["choices"] = [(names.get(o, o), o) for o in get_args(kind)]
    elif get_origin(kind) is tuple:
        return _number_list(create_widget("", str, options=about), field, kind)
    elif kind in (int, float):
        return _number(field, kind, optional, about)
    elif kind is not bool:
        raise TypeError(f"no widget for field {field.name!r} of type {hint}")
    made: Any = create_widget(field.default, kind, options=about)
    return made, made.get_value


def _number(
    field: dataclasses.Field[Any], kind: type, optional: bool, about: dict[str, Any]
) -> tuple[Any, Callable[[], Any]]:
    """Return a spin box; the value below the minimum of an optional field is "auto"."""
    bounds = field.metadata
    whole = kind is int
    step = bounds.get("step", 1 if whole else 0.25)
    low = bounds.get("minimum", 0)
    if optional and (whole or "minimum" in bounds):
        low -= step
    about |= {"min": low, "max": bounds.get("maximum", 100_000 if whole else 64)}
    # magicgui's box for integers has no special text for a value
    made: Any = create_widget(
        low, annotation=float, widget_type="FloatSpinBox", options=about
    )
    box = made.native
    box.setDecimals(0 if whole else bounds.get("decimals", 4))
    box.setSingleStep(step)
    box.setKeyboardTracking(False)
    accept_decimal_point(box)
    if optional:
        box.setSpecialValueText(AUTO)
    if field.default is not None:
        box.setValue(field.default)

    def value() -> Any:
        auto = optional and box.value() == box.minimum()
        return None if auto else kind(box.value())

    return made, value


def _number_list(
    made: Any, field: dataclasses.Field[Any], kind: Any
) -> tuple[Any, Callable[[], Any]]:
    """Return a line for numbers with commas between them; an empty one is "auto"."""
    kinds = get_args(kind)
    multiple = field.metadata.get("multiple", 1)
    made.native.setPlaceholderText(AUTO + (" (e.g. 0, 1, 2)" if multiple == 1 else ""))
    read = partial(_read_numbers, made.native, _title(field), kinds[0], multiple)
    words = field.metadata.get("words", ())

    def value() -> Any:
        text = made.native.text().strip()
        return text if text in words else read()

    return made, value


def _read_numbers(
    line: QLineEdit, title: str, kind: Callable[[str], Any], multiple: int
) -> tuple[Any, ...] | None:
    text = line.text().strip()
    if not text or text == AUTO:
        return None
    try:
        found = tuple(kind(part) for part in split_numbers(text, kind is int))
    except ValueError:
        found = ()
    if not found or len(found) % multiple:
        numbers = "numbers" if multiple == 1 else f"{multiple} numbers"
        raise ValueError(f"{title}: {text!r} is not {numbers} separated by commas.")
    return found
