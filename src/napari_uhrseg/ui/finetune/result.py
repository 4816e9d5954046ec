"""Result of a training run: scores before and after, and the decision."""

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.types import Legend
from napari_uhrseg.ui.widgets.class_list import swatch
from napari_uhrseg.ui.widgets.layout import note, push_button, reveal, row_of
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.widgets.table import fit_height, set_columns
from napari_uhrseg.units import formatted

MEAN = "mean (mIoU)"
SHOW, STOP = "Show changes in view", "Stop comparing"
SHOW_TIP = (
    "Show the pixels in view whose class changes, in the colour of the new class."
)
ELSEWHERE = "Show the labels that this model was trained on to compare."
ROWS = 8  # classes that are visible without scrolling


class ResultPanel(QWidget):
    """Comparison, table of classes, Keep and Discard; hidden without a result.

    ``compares`` is True if the scores are those of a pixel classifier and a network.
    """

    changesWanted = Signal()  # starts or stops a comparison; the button shows which
    kept = Signal()
    discarded = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.compares = False
        self.message, self.share = note(), note()
        self.message.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.table = QTreeWidget()
        set_columns(self.table, ["IoU (%)", "Before", "After", "Change"])
        required(self.table.header()).setMinimumSectionSize(30)
        self.table.setRootIsDecorated(False)
        self.table.setAccessibleName("Before and after")
        self.table.setToolTip(
            "Intersection over union (IoU) in the validation regions, which were not "
            "trained on. 100 is perfect."
        )
        self.changes = push_button(SHOW, SHOW_TIP, self.changesWanted.emit)
        self.keep = push_button(
            "Keep…", "Save the model as a new checkpoint and use it.", self.kept.emit
        )
        self.discard = push_button(
            "Discard",
            "Delete the model. The original checkpoint is kept.",
            self.discarded.emit,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.message, self.table, self.changes, self.share,
                     row_of(self.keep, self.discard)):  # fmt: skip
            layout.addWidget(part)
        self.hide()

    def show_outcome(
        self,
        compared: FineTuneFinished,
        legend: Legend | None,
        *,
        into_sight: bool = True,
    ) -> None:
        """Show the comparison and the scores of a training run.

        Parameters
        ----------
        compared
            Result of the training run, with IoU from 0 to 1 by class.
        legend
            Legend with the colours of the classes. None: show no colours.
        into_sight
            Scroll to this panel.
        """
        text = compared.comparison
        self.message.setText(f"{text[:1].upper()}{text[1:]}.")
        self.set_share("")
        self.table.clear()
        names = ("Classifier", "Network") if self.compares else ("Before", "After")
        self.table.setHeaderLabels(["IoU (%)", *names, "Change"])
        kinds = ("miou", "iou/", "miou/")  # of all, of classes, of images
        keys = [k for kind in kinds for k in compared.after if _kind(k) == kind]
        for key in keys:
            name = MEAN if key == "miou" else key.removeprefix(_kind(key))
            item = _item(name, compared.before.get(key), compared.after[key])
            is_class = _kind(key) == "iou/"
            known = legend.named(name) if legend and is_class else None
            if _kind(key) == "miou/":
                item.setToolTip(0, f"{name}: an image that was not trained on, mIoU")
            if known is not None:
                item.setIcon(0, swatch(known.color))
            self.table.addTopLevelItem(item)
        fit_height(self.table, min(len(keys), ROWS))
        self.table.setVisible(bool(compared.before) and bool(keys))
        self.show()
        if into_sight:
            QTimer.singleShot(50, self._into_sight)  # after the layout has changed

    def set_comparing(self, comparing: bool) -> None:
        self.changes.setText(STOP if comparing else SHOW)
        for button in (self.keep, self.discard):
            button.setEnabled(not comparing)

    def set_here(self, here: bool) -> None:
        """Allow or forbid a comparison; it needs the labels that were trained on."""
        self.changes.setEnabled(here)
        self.changes.setToolTip(SHOW_TIP if here else ELSEWHERE)

    def set_share(self, text: str) -> None:
        """Set the note on the share of changed pixels; "" hides it."""
        self.share.setText(text)
        self.share.setVisible(bool(text))

    def _into_sight(self) -> None:
        reveal(self)


def _kind(key: str) -> str:
    """Return the part of a metric's name that says what it belongs to."""
    return f"{key.partition('/')[0]}/" if "/" in key else key


def _item(name: str, before: float | None, after: float) -> QTreeWidgetItem:
    change = None if before is None else after - before
    texts = [name, _points(before), _points(after), _points(change, "+")]
    item = QTreeWidgetItem(texts)
    item.setToolTip(0, name)
    for column in (1, 2, 3):
        item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
    return item


def _points(value: float | None, sign: str = "") -> str:
    return (
        "–" if value is None else formatted(100 * value, f"{sign}.1f").replace("-", "−")
    )
