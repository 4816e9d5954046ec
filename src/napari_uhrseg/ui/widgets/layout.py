"""Layouts of forms whose rows are aligned across panels and stay narrow."""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.ui.widgets.colours import (
    MAIN_BUTTON,
    MAIN_BUTTON_CHECKED,
    MAIN_BUTTON_HOVER,
)

LABEL_WIDTH = 113  # width of "Trainable layers" in pixels
HEADING = "QPushButton { text-align: left; padding: 3px 6px; }"
MAIN = f"""
QPushButton {{ font-weight: bold; padding: 5px; }}
QPushButton:enabled {{ background-color: {MAIN_BUTTON}; color: white; }}
QPushButton:enabled:hover {{ background-color: {MAIN_BUTTON_HOVER}; }}
QPushButton:enabled:checked {{ background-color: {MAIN_BUTTON_CHECKED}; color: black; }}
"""


def form_of(widget: QWidget) -> QFormLayout:
    """Give a widget a form layout without margins and return the layout."""
    # do not nest: a form in a form gives wrapped text too little height
    form = QFormLayout(widget)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def add_row(form: QFormLayout, title: str, *fields: QWidget) -> None:
    """Add a row; the ``&`` letter of its label leads to the first field.

    Parameters
    ----------
    form
        Form layout.
    title
        Text of the label.
    *fields
        Widgets of the row. The first one gets the spare width.
    """
    label = QLabel(title)
    label.setMinimumWidth(LABEL_WIDTH)
    label.setBuddy(fields[0])
    fields[0].setAccessibleName(title.replace("&", ""))
    if len(fields) == 1:
        form.addRow(label, fields[0])
        return
    row = QHBoxLayout()
    row.setSpacing(4)
    for i, field in enumerate(fields):
        row.addWidget(field, 1 if i == 0 else 0)
    form.addRow(label, row)


def column_of(*widgets: QWidget) -> QVBoxLayout:
    """Return a layout without margins that has these widgets below one another."""
    column = QVBoxLayout()
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(4)
    for widget in widgets:
        column.addWidget(widget)
    return column


def row_of(*widgets: QWidget, first: int = 1) -> QWidget:
    """Return a widget with these widgets side by side.

    They are equally wide, but the first one has ``first`` times the width of another.
    """
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, first if widget is widgets[0] else 1)
    return made


def reveal(widget: QWidget) -> None:
    """Select the tab of a widget, and scroll until the widget is visible."""
    parent = widget.parentWidget()
    area: QScrollArea | None = None
    while parent is not None:
        if isinstance(parent, QScrollArea) and area is None:
            area = parent
        if isinstance(parent, QTabWidget):
            page = next(p for p in _pages(parent) if p.isAncestorOf(widget))
            parent.setCurrentWidget(page)
        parent = parent.parentWidget()
    if area is not None:
        area.ensureWidgetVisible(widget, 0, 8)


def _pages(tabs: QTabWidget) -> list[QWidget]:
    pages = [tabs.widget(i) for i in range(tabs.count())]
    return [page for page in pages if page is not None]


def combo(tooltip: str = "") -> QComboBox:
    """Return a combo box that long names do not widen."""
    box = QComboBox()
    narrow(box)
    box.setToolTip(tooltip)
    return box


def narrow(widget: QWidget) -> None:
    """Let the layout make a widget narrow."""
    if isinstance(widget, QComboBox):
        policy: Any = QComboBox.SizeAdjustPolicy
        widget.setSizeAdjustPolicy(policy.AdjustToMinimumContentsLengthWithIcon)
        widget.setMinimumContentsLength(6)
    policies = QSizePolicy.Policy
    widget.setSizePolicy(policies.Expanding, policies.Fixed)
    widget.setMinimumWidth(60)


class CollapsibleSection(QWidget):
    """Section with a heading that shows or hides its content.

    superqt's QCollapsible fixes the height of the content when it expands, which cuts
    off wrapped text.
    """

    def __init__(self, title: str, content: QWidget, *, expanded: bool = False) -> None:
        super().__init__()
        self._title, self._content = title, content
        self.heading = push_button("")
        self.heading.setCheckable(True)
        self.heading.setAccessibleName(title)
        self.heading.setToolTip("Show or hide these settings.")
        self.heading.setStyleSheet(HEADING)
        self.heading.toggled.connect(self._toggled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.setSpacing(4)
        layout.addWidget(self.heading)
        layout.addWidget(content)
        self._toggled(expanded)
        self.heading.setChecked(expanded)

    def _toggled(self, expanded: bool) -> None:
        self.heading.setText(f"{'▾' if expanded else '▸'} {self._title}")
        self._content.setVisible(expanded)


def on_edited(line: QLineEdit, act: Callable[[], None]) -> None:
    """Call ``act`` when the user leaves a line after changing its text."""

    def finished() -> None:
        if line.isModified():
            line.setModified(False)
            act()

    line.editingFinished.connect(finished)


def push_button(
    title: str, tooltip: str = "", clicked: Any = None, *, main: bool = False
) -> QPushButton:
    """Return a button that both Enter and Space press.

    Parameters
    ----------
    title
        Text of the button.
    tooltip
        Tooltip of the button.
    clicked
        Function without arguments that is called when the button is pressed.
    main
        True for the main button of a step, which is highlighted.
    """
    made = QPushButton(title)
    made.setAutoDefault(True)
    made.setToolTip(tooltip)
    if clicked is not None:
        made.clicked.connect(lambda _: clicked())
    if main:
        made.setStyleSheet(MAIN)
    return made


def is_main(button: QPushButton) -> bool:
    """Return True for the main button of a step."""
    return bool(button.styleSheet().startswith(MAIN))


def heading(title: str) -> QLabel:
    """Return the bold title of a part of a step."""
    made = QLabel(title)
    made.setStyleSheet("QLabel { font-weight: bold; padding-top: 4px; }")
    return made


class _Note(QLabel):
    """Label that requests the height of all its lines, which a form layout misses.

    Names of files in its text are no HTML.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)

    def setText(self, text: str | None) -> None:
        super().setText(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        lines = self.heightForWidth(self.width()) if self.text() else 0
        self.setMinimumHeight(max(0, lines))


def note() -> QLabel:
    """Return a label that wraps its text."""
    return _Note()
