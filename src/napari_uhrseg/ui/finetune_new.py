"""Starting from nothing: the dialogs for a new network, and for new labels."""

from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.models.legends import distinct_color
from napari_uhrseg.models.registry import REGISTRY
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.finetune_work import NewModel
from napari_uhrseg.ui.rows import add_row, combo, form_of, note, push_button

CLASSES = 3  # rows to begin with
MAX_CLASSES = 255


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder as timm or segmentation-models-pytorch call it; in millions."""

    name: str
    title: str
    parameters: float


ENCODERS = (
    Encoder("resnet18", "ResNet-18", 11.2),
    Encoder("tu-mobilenetv3_large_100", "MobileNetV3-Large", 3.0),
    Encoder("resnet34", "ResNet-34", 21.3),
    Encoder("resnet50", "ResNet-50", 23.5),
)
HRNETS = (
    Encoder("hrnet_w18", "HRNet-W18", 10.9),
    Encoder("hrnet_w48", "HRNet-W48", 67.1),
)
OF_METHOD = {"ehsnet": HRNETS}


class NewModelDialog(QDialog):
    """Which method, around which encoder; its classes are those of the labels."""

    chosen = Signal(object)  # NewModel

    def __init__(self, legend: Legend, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("New model")
        self.method = combo("How the network looks at the image.")
        self.encoder = combo("The part that sees. Larger learns more, and is slower.")
        self.sentence, self.classes = note(), note()
        for entry in REGISTRY.values():
            self.method.addItem(entry.title, entry.name)
        names = ", ".join(c.name for c in legend)
        self.classes.setText(
            f"It learns the classes of the labels: {names}. Paint some strokes of "
            "each, then Train."
        )
        body = QWidget()
        form = form_of(body)
        add_row(form, "Model", self.method)
        form.addRow(self.sentence)
        add_row(form, "Encoder", self.encoder)
        form.addRow(self.classes)
        layout = QVBoxLayout(self)
        layout.addWidget(body)
        layout.addStretch(1)
        layout.addWidget(_buttons(self))
        self.method.currentIndexChanged.connect(self._method_chosen)
        self.accepted.connect(self._accepted)
        self._method_chosen()
        self.resize(440, 260)

    def _method_chosen(self) -> None:
        name = self.method.currentData()
        self.sentence.setText(REGISTRY[name].sentence)
        self.encoder.clear()
        for encoder in OF_METHOD.get(name, ENCODERS):
            size = f"{encoder.parameters:.0f} million parameters"
            self.encoder.addItem(f"{encoder.title}, {size}", encoder.name)

    def _accepted(self) -> None:
        method, encoder = self.method.currentData(), self.encoder.currentData()
        self.chosen.emit(NewModel(method, encoder))


class NewLabelsDialog(QDialog):
    """The classes of labels that are painted before any model has run."""

    chosen = Signal(object)  # Legend

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("New labels")
        self.rows: list[ClassRow] = []
        self._rows = QVBoxLayout()
        self._rows.setSpacing(4)
        self.add = push_button("Add a class", "One more class.", self.add_row)
        self.note = note()
        buttons = _buttons(self)
        self.ok: QPushButton = buttons.button(QDialogButtonBox.StandardButton.Ok)
        layout = QVBoxLayout(self)
        intro = note()
        intro.setText(
            "Name what is to be told apart; a line left empty is no class. The labels "
            "are written to the output of the Segment part."
        )
        layout.addWidget(intro)
        layout.addLayout(self._rows)
        layout.addWidget(self.add)
        layout.addWidget(self.note)
        layout.addStretch(1)
        layout.addWidget(buttons)
        for _ in range(CLASSES):
            self.add_row()
        self.accepted.connect(lambda: self.chosen.emit(self.legend()))
        self.resize(360, 300)

    def add_row(self) -> None:
        row = ClassRow(len(self.rows))
        row.line.textChanged.connect(self._edited)
        self.rows.append(row)
        self._rows.addWidget(row)
        self.add.setEnabled(len(self.rows) < MAX_CLASSES)
        self._edited()

    def legend(self) -> Legend:
        """The classes named, ids from 1 in their order. ValueError: a name twice."""
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
            why_not = "Name at least two classes."
        self.note.setText(why_not)
        self.ok.setEnabled(not why_not)
        self.ok.setToolTip(why_not)


class ClassRow(QWidget):
    """A class's name and colour."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.color = distinct_color(index)
        self.line = QLineEdit()
        self.line.setPlaceholderText(f"Class {index + 1}")
        self.line.setAccessibleName(f"Name of class {index + 1}")
        self.line.setToolTip("What people call it, for example road.")
        self.button = push_button("", "Choose another colour.", self._choose)
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
        self.button.setStyleSheet(f"background-color: {self.color};")


def _buttons(dialog: QDialog) -> QDialogButtonBox:
    kinds = QDialogButtonBox.StandardButton
    buttons = QDialogButtonBox(kinds.Ok | kinds.Cancel)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    return buttons
