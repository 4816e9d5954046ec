"""Rows of a form that line up from part to part, and stay narrow."""

from typing import Any

from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QWidget,
)
from superqt import QCollapsible

LABEL_WIDTH = 88


def form_of(widget: QWidget) -> QFormLayout:
    """The widget's form layout, without margins of its own."""
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


def fold(title: str, part: QWidget, *, unfolded: bool = False) -> QCollapsible:
    """The part under a heading that folds it away, at once."""
    section = QCollapsible(title, expandedIcon="▼", collapsedIcon="▶")
    section.setDuration(0)
    section.addWidget(part)
    if unfolded:
        section.expand(animate=False)
    return section


def note() -> QLabel:
    """A line of words that wraps."""
    label = QLabel()
    label.setWordWrap(True)
    return label
