"""Evaluation panel: scores of a checkpoint by image and class of the open project."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QTreeWidget, QTreeWidgetItem, QWidget

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.project.project_labels import ProjectLabels
from napari_uhrseg.ui.project.evaluation import (
    Evaluation,
    ImageScores,
    evaluate_images,
)
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.widgets.layout import column_of, note, push_button
from napari_uhrseg.ui.widgets.table import fit_height, set_columns
from napari_uhrseg.ui.widgets.task_progress import TaskProgress
from napari_uhrseg.ui.workers.worker import Worker, Workers, report
from napari_uhrseg.units import counted, formatted

if TYPE_CHECKING:
    from napari_uhrseg.engine.evaluation.metrics import Scores

TIP = (
    "Segment the corrected images of the project on which the chosen checkpoint was "
    "not trained, and compare with their corrections. Choose several images of the "
    "list to evaluate only these. No labels are changed."
)
STOP_TIP = "Stop. The scores of finished images stay."
ROWS = 7  # rows that are visible without scrolling
TRAINED_ON = " (trained on)"


class EvaluationPanel(QWidget):
    """Button and table of an evaluation; hidden without corrected images.

    Parameters
    ----------
    workers
        Workers of the panel.
    hardware
        Form with the device and the memory budget.
    """

    busyChanged = Signal(bool)  # True while images are evaluated

    def __init__(self, workers: Workers, hardware: HardwareForm) -> None:
        super().__init__()
        self._workers, self._hardware = workers, hardware
        self._labels: ProjectLabels | None = None
        self._chosen = False
        self._checkpoint: Path | None = None
        self._blocked = ""
        self._worker: Worker | None = None
        self._stopped = Event()
        self._total: Scores | None = None
        self._count = 0
        self.start = push_button("Evaluate", TIP, self.run)
        self.table = QTreeWidget()
        set_columns(self.table, ["Image, class", "IoU (%)", "F1 (%)"])
        self.table.setAccessibleName("Scores by image and class")
        self.table.setToolTip(
            "Scores of the checkpoint on corrected pixels. 100 is perfect. Open an "
            "image to see its classes."
        )
        self.status = note()
        self.progress = TaskProgress()
        self.progress.stopped.connect(self._stopped.set)
        self.setLayout(column_of(self.start, self.table, self.status))
        self.table.hide()
        self._enable()
        self.hide()

    def set_labels(self, labels: ProjectLabels | None, *, chosen: bool) -> None:
        """Set the images with corrections.

        Parameters
        ----------
        labels
            The images. None: there are none.
        chosen
            True if the user chose them in the list.
        """
        self._labels, self._chosen = labels, chosen
        self.setVisible(labels is not None)
        if labels is not None:
            count = counted(len(labels.images), "image")
            text = f"Evaluate on {count}" if chosen else "Evaluate on other images"
            self.start.setText(text)

    def set_checkpoint(self, path: Path | None) -> None:
        """Set the checkpoint chosen in the Segment panel."""
        self._checkpoint = path
        self._enable()

    def set_blocked(self, why: str) -> None:
        """Block evaluations for a reason; an empty text allows them again."""
        self._blocked = why
        self._enable()

    def _enable(self) -> None:
        free = not self._blocked and self._worker is None
        self.start.setEnabled(free and self._checkpoint is not None)
        self.start.setToolTip(self._blocked or TIP)

    def run(self) -> None:
        """Evaluate the checkpoint in a worker."""
        labels, checkpoint = self._labels, self._checkpoint
        device = self._hardware.device
        if labels is None or checkpoint is None or device is None:
            report(PlanError("There is nothing to evaluate.", "Choose a checkpoint."))
            return
        self._stopped.clear()
        self.table.clear()
        self.status.setText("")
        self._total, self._count = None, 0
        wanted = Evaluation(
            labels, checkpoint, device, self._hardware.budget_bytes, self._chosen
        )
        self.progress.begin(f"Evaluating {checkpoint.stem}", STOP_TIP)
        self._worker = self._workers.start(
            evaluate_images,
            wanted,
            self._stopped.is_set,
            yielded=self._happened,
            finished=self._ended,
        )
        self._enable()
        self.busyChanged.emit(True)

    def stop(self) -> None:
        """End an evaluation. Called when the panel closes."""
        self._stopped.set()
        if self._worker is not None:
            self._worker.quit()

    def _happened(self, event: Any) -> None:
        if isinstance(event, ImageScores):
            self._add(event)
        else:
            self.progress.progress(event)

    def _add(self, event: ImageScores) -> None:
        """Add the rows of an image, and show the scores of all above them."""
        name = f"{event.name}{TRAINED_ON if event.trained_on else ''}"
        if event.scores is None:
            text = f"{self.status.text()}\n{event.name}: {event.error}"
            self.status.setText(text.strip())
            return
        scores, total = event.scores, self._total
        self._total = scores if total is None else total + scores
        self._count += 1
        self.table.addTopLevelItem(_rows(name, scores))
        if self._count > 1:
            if total is not None and self._count > 2:
                self.table.takeTopLevelItem(0)
            whole = _rows(f"all {self._count} images", self._total)
            self.table.insertTopLevelItem(0, whole)
            whole.setExpanded(True)
        self.table.show()
        fit_height(self.table, ROWS)

    def _ended(self) -> None:
        self._worker = None
        self.progress.end()
        self._enable()
        self.busyChanged.emit(False)


def _rows(name: str, scores: "Scores") -> QTreeWidgetItem:
    """Return the row of an image with a row for each class that has a score."""
    values = scores.to_dict()
    item = _row(name, values.get("miou"), values.get("f1"))
    for each in scores.names:
        if f"iou/{each}" in values:
            item.addChild(_row(each, values[f"iou/{each}"], values.get(f"f1/{each}")))
    return item


def _row(name: str, *values: float | None) -> QTreeWidgetItem:
    shown = ["–" if v is None else formatted(100 * v, ".1f") for v in values]
    item = QTreeWidgetItem([name, *shown])
    item.setToolTip(0, name)
    for column in range(1, len(values) + 1):
        item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
    return item
