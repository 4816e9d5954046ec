"""Widgets of the Fine-tune panel, from top to bottom."""

from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.finetune.comparison_layer import ComparisonLayer
from napari_uhrseg.ui.finetune.form import FineTuneForm
from napari_uhrseg.ui.finetune.live_preview import LivePreview
from napari_uhrseg.ui.finetune.new_model import NewModelForm
from napari_uhrseg.ui.finetune.rerun import RerunPanel
from napari_uhrseg.ui.finetune.result import ResultPanel
from napari_uhrseg.ui.finetune.summary_reader import SummaryReader
from napari_uhrseg.ui.finetune.training_plot import TrainingPlot
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.widgets.layout import note, reveal
from napari_uhrseg.ui.widgets.run_controls import RunControls
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import format_seconds

SETTLED = 50  # ms in which the layout changes
CANCELLING = "The best model so far is offered."


class FineTuneWidgets(QWidget):
    """Column of the panel's parts, from the new model to the next segmentation."""

    def __init__(self, viewer: Any, workers: Workers, hardware: HardwareForm) -> None:
        super().__init__()
        self.new_model = NewModelForm()
        self.form = FineTuneForm(viewer)
        self.live = LivePreview(viewer, workers, hardware)
        self.form.changed.connect(lambda: self.live.set_start(self.form.start))
        self.live.liveChosen.connect(self.form.set_live)
        self.live.networkWanted.connect(self.new_model.ask_network)
        self.reader = SummaryReader(workers, self)
        self.summary = note()
        self.summary.setAccessibleName("Training data")
        self.summary.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.bar = RunControls("Train", "training", CANCELLING)
        self.plot = TrainingPlot(viewer, workers)
        self.result = ResultPanel()
        self.rerun = RerunPanel(workers)
        self.comparison = ComparisonLayer(viewer, workers, self.result)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.new_model, self.form, self.live, self.summary, self.bar,
                       self.plot, self.result, self.rerun):  # fmt: skip
            layout.addWidget(widget)

    def set_image(self, image: Image | None) -> None:
        """Set the image of new labels."""
        self.new_model.set_image(image)

    def ask_decision(self, asked: bool) -> None:
        """Show the result instead of the form, or the form instead of the result."""
        for part in (self.new_model, self.form):
            part.setVisible(not asked)
        if not asked:
            self.result.hide()

    def block(self, why: str) -> None:
        """Set the work that prevents another one; empty: there is none."""
        self.rerun.set_blocked(why)
        self.live.set_blocked(why)

    def show_time(self, seconds: float) -> None:
        """Show the expected time of a training below the training data."""
        time = f"Expected time of the training: {format_seconds(seconds)}."
        self.summary.setText(f"{self.summary.text()}\n{time}")

    def stop_parts(self) -> None:
        """Disconnect the parts from the viewer."""
        for part in (
            self.form, self.live, self.reader, self.plot, self.comparison,
        ):  # fmt: skip
            part.stop()

    def scroll_to_rerun(self) -> None:
        """Scroll to the buttons of the next segmentation, once the layout is done."""
        QTimer.singleShot(SETTLED, self._scroll)

    def _scroll(self) -> None:
        reveal(self.rerun)
