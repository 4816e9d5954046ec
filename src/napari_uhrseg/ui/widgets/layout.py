"""Layouts of forms whose rows are aligned across panels and stay narrow."""

from collections.abc import Callable
from typing import Any

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
    QVBoxLayout,
    QWidget,
)

LABEL_WIDTH = 113  # width of "Trainable layers" in pixels
HEADING = "QPushButton { text-align: left; padding: 3px 6px; }"


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


def row_of(*widgets: QWidget) -> QWidget:
    """Return a widget with these widgets side by side, equally wide."""
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, 1)
    return made


def scroll_to(widget: QWidget) -> None:
    """Scroll until a widget is visible, if it is in a scroll area."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QScrollArea):
        parent = parent.parentWidget()
    if parent is not None:
        parent.ensureWidgetVisible(widget, 0, 8)


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


def push_button(title: str, tooltip: str = "", clicked: Any = None) -> QPushButton:
    """Return a button that both Enter and Space press.

    Parameters
    ----------
    title
        Text of the button.
    tooltip
        Tooltip of the button.
    clicked
        Function without arguments that is called when the button is pressed.
    """
    made = QPushButton(title)
    made.setAutoDefault(True)
    made.setToolTip(tooltip)
    if clicked is not None:
        made.clicked.connect(lambda _: clicked())
    return made


class _Note(QLabel):
    """Label that requests the height of all its lines, which a form layout misses."""

    def __init__(self) -> None:
        super().__init__()
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
