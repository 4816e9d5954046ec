"""Dialog for the classes of new labels, which are painted without a model."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.types import COLORS, LabelClass, Legend
from napari_uhrseg.ui.widgets.layout import note, push_button
from napari_uhrseg.ui.widgets.required import required

INITIAL_ROWS = 3
MAX_CLASSES = 255


class NewLabelsDialog(QDialog):
    """Dialog for the names and colours of the classes of new labels."""

    chosen = Signal(object)  # Legend

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("New labels")
        self.rows: list[ClassRow] = []
        self._rows = QVBoxLayout()
        self._rows.setSpacing(4)
        self.add = push_button("Add a class", "Add a class.", self.add_row)
        self.note = note()
        buttons = ok_or_cancel(self)
        self.ok = required(buttons.button(QDialogButtonBox.StandardButton.Ok))
        self._lay_out(buttons)
        for _ in range(INITIAL_ROWS):
            self.add_row()
        self.ok.setDefault(True)
        self.rows[0].line.setFocus()
        self.accepted.connect(lambda: self.chosen.emit(self.legend()))
        self.resize(360, 300)

    def _lay_out(self, buttons: QDialogButtonBox) -> None:
        layout = QVBoxLayout(self)
        intro = note()
        intro.setText(
            "Enter class names; empty lines are ignored. The labels are written to "
            "the output folder of Segment."
        )
        layout.addWidget(intro)
        layout.addLayout(self._rows)
        layout.addWidget(self.add)
        layout.addWidget(self.note)
        layout.addStretch(1)
        layout.addWidget(buttons)

    def add_row(self) -> None:
        row = ClassRow(len(self.rows))
        row.line.textChanged.connect(self._edited)
        self.rows.append(row)
        self._rows.addWidget(row)
        self.add.setEnabled(len(self.rows) < MAX_CLASSES)
        self._edited()

    def legend(self) -> Legend:
        """Return the classes with ids from 1.

        Raises
        ------
        ValueError
            If two names are equal.
        """
        named = [row for row in self.rows if row.name]
        return Legend(
            tuple(LabelClass(i, r.name, r.color) for i, r in enumerate(named, 1))
        )

    def _edited(self) -> None:
        names = [row.name for row in self.rows if row.name]
        why_not = ""
        if len(set(names)) < len(names):
            why_not = "Two classes have the same name."
        elif len(names) < 2:
            why_not = "Enter at least two class names."
        self.note.setText(why_not)
        self.ok.setEnabled(not why_not)
        self.ok.setToolTip(why_not)


class ClassRow(QWidget):
    """Row for the name and colour of a class."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.color = COLORS[index % len(COLORS)]
        self.line = QLineEdit()
        self.line.setPlaceholderText(f"Class {index + 1}")
        self.line.setAccessibleName(f"Name of class {index + 1}")
        self.line.setToolTip("Name of the class, for example road.")
        self.button = push_button("", "Choose a colour.", self._choose)
        self.button.setAccessibleName(f"Colour of class {index + 1}")
        self.button.setFixedWidth(32)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, 1)
        layout.addWidget(self.button)
        self._paint()

    @property
    def name(self) -> str:
        return str(self.line.text()).strip()

    def _choose(self) -> None:
        color = QColorDialog.getColor(QColor(self.color), self, "Colour of the class")
        if color.isValid():
            self.color = color.name()
            self._paint()

    def _paint(self) -> None:
        self.button.setStyleSheet(f"QPushButton {{ background-color: {self.color}; }}")


def ok_or_cancel(dialog: QDialog) -> QDialogButtonBox:
    """Return OK and Cancel buttons for a dialog."""
    kinds = QDialogButtonBox.StandardButton
    buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    return buttons
