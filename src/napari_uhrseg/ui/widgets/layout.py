"""Rows of a form that line up from part to part, and stay narrow."""

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

LABEL_WIDTH = 113  # of "Trainable layers"
HEADING = "QPushButton { text-align: left; padding: 3px 6px; }"


def form_of(widget: QWidget) -> QFormLayout:
    """The widget's form layout, without margins of its own."""
    # not to be nested: a form in a form gives words that wrap too little height
    form = QFormLayout(widget)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return form


def add_row(form: QFormLayout, title: str, *fields: QWidget) -> None:
    """A row with a label whose ``&`` letter leads to the first field."""
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
    """Widgets side by side, all as wide."""
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, 1)
    return made


def scroll_to(widget: QWidget) -> None:
    """Bring a widget into sight, if it lies in something that scrolls."""
    above = widget.parentWidget()
    while above is not None and not isinstance(above, QScrollArea):
        above = above.parentWidget()
    if above is not None:
        above.ensureWidgetVisible(widget, 0, 8)


def combo(tooltip: str = "") -> QComboBox:
    """A box that long names do not widen."""
    box = QComboBox()
    narrow(box)
    box.setToolTip(tooltip)
    return box


def narrow(widget: QWidget) -> None:
    """Let the layout make the widget as small as it must."""
    if isinstance(widget, QComboBox):
        policy: Any = QComboBox.SizeAdjustPolicy
        widget.setSizeAdjustPolicy(policy.AdjustToMinimumContentsLengthWithIcon)
        widget.setMinimumContentsLength(6)
    policies = QSizePolicy.Policy
    widget.setSizePolicy(policies.Expanding, policies.Fixed)
    widget.setMinimumWidth(60)


class CollapsibleSection(QWidget):
    """A part under a heading that folds it away.

    superqt's QCollapsible fixes the part's height when it unfolds, which cuts off
    words that wrap.
    """

    def __init__(self, title: str, part: QWidget, *, unfolded: bool = False) -> None:
        super().__init__()
        self._title, self._part = title, part
        self.heading = push_button("")
        self.heading.setCheckable(True)
        self.heading.setAccessibleName(title)
        self.heading.setStyleSheet(HEADING)
        self.heading.toggled.connect(self._toggled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.setSpacing(4)
        layout.addWidget(self.heading)
        layout.addWidget(part)
        self._toggled(unfolded)
        self.heading.setChecked(unfolded)

    def _toggled(self, unfolded: bool) -> None:
        self.heading.setText(f"{'▾' if unfolded else '▸'} {self._title}")
        self._part.setVisible(unfolded)


def on_edited(line: QLineEdit, act: Callable[[], None]) -> None:
    """Call when the person has changed the text, not each time they leave the line."""

    def finished() -> None:
        if line.isModified():
            line.setModified(False)
            act()

    line.editingFinished.connect(finished)


def push_button(title: str, tooltip: str = "", clicked: Any = None) -> QPushButton:
    """A button that Enter presses as well as Space."""
    made = QPushButton(title)
    made.setAutoDefault(True)
    made.setToolTip(tooltip)
    if clicked is not None:
        made.clicked.connect(lambda _: clicked())
    return made


class _Note(QLabel):
    """Asks for all of its lines: a form's layout gives them to the wrong row else."""

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
    """A line of words that wraps."""
    return _Note()
