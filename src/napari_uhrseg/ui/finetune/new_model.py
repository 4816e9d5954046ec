"""Form and dialog that choose the method and the encoder of a new model."""

from dataclasses import dataclass

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QDialog, QVBoxLayout, QWidget

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.registry import DEFAULT_ENCODER, LIVE_MODEL, REGISTRY
from napari_uhrseg.types import Legend
from napari_uhrseg.ui.finetune.worker import NewModel
from napari_uhrseg.ui.image.new_labels_dialog import ok_or_cancel
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.widgets.layout import (
    add_row,
    combo,
    form_of,
    note,
    push_button,
    row_of,
)
from napari_uhrseg.units import formatted


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encoder of timm or segmentation-models-pytorch; parameters in millions."""

    name: str
    title: str
    parameters: float


ENCODERS = (
    Encoder(DEFAULT_ENCODER, "EfficientNet-Lite0", 3.4),
    Encoder("tu-mobilenetv4_conv_small_050", "MobileNetV4-Small (half)", 0.3),
    Encoder("resnet18", "ResNet-18", 11.2),
    Encoder("tu-mobilenetv3_large_100", "MobileNetV3-Large", 3.0),
    Encoder("resnet34", "ResNet-34", 21.3),
    Encoder("resnet50", "ResNet-50", 23.5),
)
HRNETS = (
    Encoder("hrnet_w18", "HRNet-W18", 10.9),
    Encoder("hrnet_w48", "HRNet-W48", 67.1),
)

TRUNCATED = (Encoder(DEFAULT_ENCODER, "EfficientNet-Lite0 up to stride 16", 0.7),)
PAINT = "Paint some strokes of each class, then press Train."
COMPARED = (
    "Press Train to train it on the corrections. A fifth of the corrected regions is "
    "left out; the network and a pixel classifier are compared on them."
)
OFFERED = {"any": ENCODERS, "default": TRUNCATED, "hrnet": HRNETS}


def offered_encoders(method: str) -> tuple[Encoder, ...]:
    """Return the encoders to choose from for a method of the registry."""
    return OFFERED[REGISTRY[method].encoder_family]


class NewModelForm(QWidget):
    """Pair of buttons that create empty labels or an untrained model."""

    labelsWanted = Signal()
    modelChosen = Signal(object)  # NewModel

    def __init__(self) -> None:
        super().__init__()
        self._view: LabelsView | None = None
        self.labels_button = push_button(
            "New labels…",
            "Create empty labels with your own classes to paint on.",
            self.labelsWanted.emit,
        )
        self.model_button = push_button("New model…", "", self._ask)
        add_row(
            form_of(self), "From scratch", row_of(self.labels_button, self.model_button)
        )
        self.set_image(None)
        self.set_view(None)

    def set_image(self, image: Image | None) -> None:
        """Set the image of new labels."""
        self.labels_button.setEnabled(image is not None)

    def set_view(self, view: LabelsView | None) -> None:
        """Set the labels whose classes a new model predicts."""
        self._view = view
        self.model_button.setEnabled(view is not None)
        self.model_button.setToolTip(
            "Train a new model on the classes of these labels."
            if view is not None
            else "Create new labels first: the model has their classes."
        )

    def _ask(self) -> None:
        if self._view is not None:
            self._open(NewModelDialog(self._view.legend, self))

    def ask_network(self) -> None:
        """Ask for a network to be compared with a pixel classifier."""
        if self._view is not None:
            self._open(NewModelDialog(self._view.legend, self, compares=True))

    def _open(self, dialog: "NewModelDialog") -> None:
        dialog.chosen.connect(self.modelChosen.emit)
        dialog.open()


class NewModelDialog(QDialog):
    """Dialog that chooses a method and an encoder; the labels give the classes.

    Parameters
    ----------
    legend
        Classes of the labels.
    parent
        Parent of the dialog.
    compares
        True: offer networks to be compared with a pixel classifier.
    """

    chosen = Signal(object)  # NewModel

    def __init__(
        self, legend: Legend, parent: QWidget, *, compares: bool = False
    ) -> None:
        super().__init__(parent)
        self._compares = compares
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("New model")
        self.method = combo("How the network looks at the image.")
        self.encoder = combo("The part that sees. Larger learns more, and is slower.")
        self.sentence, self.classes = note(), note()
        for entry in REGISTRY.values():
            if not (compares and entry.name == LIVE_MODEL):
                self.method.addItem(entry.title, entry.name)
        names = ", ".join(c.name for c in legend)
        self.classes.setText(
            f"The model learns the classes of the labels: {names}. "
            + (COMPARED if compares else PAINT)
        )
        self._lay_out()
        self.method.setCurrentIndex(max(0, self.method.findData(LIVE_MODEL)))
        self.method.currentIndexChanged.connect(self._method_chosen)
        self.accepted.connect(self._accepted)
        self._method_chosen()
        self.resize(440, 260)

    def _lay_out(self) -> None:
        body = QWidget()
        form = form_of(body)
        add_row(form, "Model", self.method)
        form.addRow(self.sentence)
        add_row(form, "Encoder", self.encoder)
        form.addRow(self.classes)
        layout = QVBoxLayout(self)
        layout.addWidget(body)
        layout.addStretch(1)
        layout.addWidget(ok_or_cancel(self))

    def _method_chosen(self) -> None:
        name = self.method.currentData()
        self.sentence.setText(REGISTRY[name].sentence)
        self.encoder.clear()
        for encoder in offered_encoders(name):
            size = f"{formatted(encoder.parameters, '.1f')} million parameters"
            self.encoder.addItem(f"{encoder.title}, {size}", encoder.name)

    def _accepted(self) -> None:
        method, encoder = self.method.currentData(), self.encoder.currentData()
        self.chosen.emit(NewModel(method, encoder, self._compares))
