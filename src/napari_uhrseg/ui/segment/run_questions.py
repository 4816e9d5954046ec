"""Dialogs before a run: questions about image and classes, and labels to replace."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFormLayout,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.io.paths import unused_path
from napari_uhrseg.ui.segment.worker import PreparedRun, SegmentRequest
from napari_uhrseg.ui.widgets.dialogs import ask_replace_labels
from napari_uhrseg.ui.widgets.layout import combo, note, push_button
from napari_uhrseg.ui.widgets.number_text import accept_decimal_point
from napari_uhrseg.ui.widgets.required import required

if TYPE_CHECKING:
    from napari_uhrseg.engine.planning.run_questions import RunQuestion

UNITS = {"µm": 1e-6, "cm": 1e-2, "m": 1.0}
NO_LABEL, ADD = "", "\0add"  # data of combo boxes beside names of classes
WIDTH = 460  # pixels


@dataclass(frozen=True, slots=True)
class Decision:
    """Decision of the user about a prepared run.

    Attributes
    ----------
    action
        "run"; "replace" other labels; write "other" labels; or "prepare" the run
        again, since its settings have changed.
    request
        Request with the answers.
    answers
        Settings that the form must show.
    """

    action: Literal["run", "replace", "other", "prepare"]
    request: SegmentRequest
    answers: Mapping[str, Any] = field(default_factory=dict)


def decide(parent: QWidget, prepared: PreparedRun) -> Decision | None:
    """Ask what the run needs to know; return None if the user cancelled.

    Parameters
    ----------
    parent
        Widget that the dialogs belong to.
    prepared
        The run, with its open questions and the labels that it would replace.
    """
    request = prepared.request
    if prepared.questions:
        dialog = RunQuestionsDialog(prepared, parent)
        if dialog.exec() != QDialog.DialogCode.Accepted:
            return None
        answers = dialog.answers()
        request = replace(request, settings=replace(request.settings, **answers))
        shown = {k: v for k, v in answers.items() if k != "class_names"}
        if dialog.new_labels:
            return Decision("other", _elsewhere(request), shown)
        return Decision("prepare", request, shown)
    if not prepared.replaces:
        return Decision("run", request)
    store = None if request.output is None else str(request.output)
    match ask_replace_labels(parent, store, prepared.replaces):
        case "replace":
            return Decision("replace", request)
        case "other":
            return Decision("other", _elsewhere(request))
    return None


def _elsewhere(request: SegmentRequest) -> SegmentRequest:
    """Return the request with an output that does not exist."""
    if request.output is None:
        return request
    return replace(request, output=unused_path(request.output))


class RunQuestionsDialog(QDialog):
    """Dialog with the open questions of a run; all have to be answered.

    Attributes
    ----------
    new_labels
        True if the user chose to write to new labels instead of mapping the classes.
    """

    def __init__(self, prepared: PreparedRun, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.new_labels = False
        self._prepared = prepared
        self._trained = 0.0  # pixel size of the training in metres
        self.scale, self.pixel_size = QDoubleSpinBox(), QDoubleSpinBox()
        for box in (self.scale, self.pixel_size):
            accept_decimal_point(box)
        self.unit = combo()
        self.bands: list[QComboBox] = []
        self.classes: dict[str, QComboBox] = {}
        self._editors = {
            "scale": self._ask_scale,
            "pixel_size": self._ask_pixel_size,
            "bands": self._ask_bands,
            "classes": self._ask_classes,
        }
        self.setWindowTitle("Questions before the run")
        self.setMinimumWidth(WIDTH)
        layout = QVBoxLayout(self)
        layout.setSpacing(8)
        for question in prepared.questions:
            text = note()
            text.setText(question.text)
            text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            layout.addWidget(text)
            form = QFormLayout()
            self._editors[question.topic](form, question)
            layout.addLayout(form)
        layout.addWidget(self._button_box())
        self._changed()

    def _button_box(self) -> QDialogButtonBox:
        box = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        accept = QDialogButtonBox.ButtonRole.AcceptRole
        self.segment = required(box.addButton("&Segment", accept))
        if self.classes:
            other = QDialogButtonBox.ButtonRole.ActionRole
            self.other = required(box.addButton("Into &new labels", other))
            self.other.setToolTip(
                "Write to a new folder, with the checkpoint's classes."
            )
            self.other.clicked.connect(self._choose_new_labels)
        box.accepted.connect(self.accept)
        box.rejected.connect(self.reject)
        return box

    def answers(self) -> dict[str, Any]:
        """Return the settings that the questions ask for, by name."""
        found: dict[str, Any] = {}
        for question in self._prepared.questions:
            match question.topic:
                case "scale":
                    found["scale"] = self.scale.value()
                case "pixel_size":
                    metres = self.pixel_size.value() * self.unit.currentData()
                    # as exact as the field of the form
                    scale = min(64, max(1 / 64, self._trained / metres))
                    found["scale"] = round(scale, 4)
                case "bands":
                    found["bands"] = tuple(b.currentIndex() for b in self.bands)
                case "classes" if not self.new_labels:
                    found["class_names"] = tuple(
                        (name, name if box.currentData() == ADD else box.currentData())
                        for name, box in self.classes.items()
                    )
        return found

    def _ask_scale(self, form: QFormLayout, question: "RunQuestion") -> None:
        box = self.scale
        box.setDecimals(4)
        box.setRange(1 / 64, 64)
        box.setValue(self._prepared.plan.run.scale)
        box.setToolTip("Image pixels per network pixel.")
        form.addRow("&Read at scale", box)

    def _ask_pixel_size(self, form: QFormLayout, question: "RunQuestion") -> None:
        self._trained = question.pixel_size or 1.0
        for name, factor in UNITS.items():
            self.unit.addItem(name, factor)
        name = "µm" if self._trained < 1e-3 else "m"
        self.unit.setCurrentText(name)
        self.unit.setAccessibleName("Unit of the pixel size")
        self.pixel_size.setDecimals(4)
        self.pixel_size.setRange(1e-4, 1e6)
        self.pixel_size.setValue(self._trained / UNITS[name])
        form.addRow("&Pixel size of the image", self.pixel_size)
        form.addRow("&Unit", self.unit)

    def _ask_bands(self, form: QFormLayout, question: "RunQuestion") -> None:
        bands = self._prepared.request.image.bands
        chosen = self._prepared.plan.run.bands
        names = ("Red", "Green", "Blue") if len(chosen) == 3 else ()
        for k, band in enumerate(chosen):
            box = combo("Band of the image for this channel of the checkpoint.")
            box.addItems([f"{i}: {b.name}" for i, b in enumerate(bands)])
            box.setCurrentIndex(band)
            self.bands.append(box)
            form.addRow(names[k] if names else f"Channel {k}", box)

    def _ask_classes(self, form: QFormLayout, question: "RunQuestion") -> None:
        own = self._prepared.classes
        for name in question.missing:
            box = combo(f"Class of the labels for {name}.")
            box.addItem("Add as a new class", ADD)
            box.addItem("No label", NO_LABEL)
            for known in own:
                box.addItem(known, known)
            alike = [k for k in own if k.casefold() == name.casefold()]
            box.setCurrentIndex(box.findData(alike[0]) if alike else -1)
            box.setPlaceholderText("Choose a class")
            box.currentIndexChanged.connect(self._changed)
            self.classes[name] = box
            form.addRow(name, box)
        tip = "Add all of these classes to the labels."
        form.addRow("", push_button("&Add all", tip, self._add_all))

    def _add_all(self) -> None:
        for box in self.classes.values():
            box.setCurrentIndex(box.findData(ADD))

    def _changed(self) -> None:
        chosen = all(b.currentIndex() >= 0 for b in self.classes.values())
        self.segment.setEnabled(chosen)
        tip = "" if chosen else "Choose a class of the labels for each class first."
        self.segment.setToolTip(tip)

    def _choose_new_labels(self) -> None:
        self.new_labels = True
        self.accept()
