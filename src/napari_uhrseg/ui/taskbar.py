"""The progress of a long change, and a button to stop it."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QWidget

from napari_uhrseg.ui.rows import push_button

STEPS = 1000


class TaskBar(QWidget):
    """Seen while something goes on."""

    stopped = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setAccessibleName("Progress of the change")
        tip = "Stop; what is done stays, and Undo takes it back."
        self.stop = push_button("Stop", tip, self._stop)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.stop)
        self.hide()

    def begin(self, title: str) -> None:
        self.bar.setFormat(f"{title}, %p %")
        self.bar.setValue(0)
        self.stop.setEnabled(True)
        self.show()

    def progress(self, share: float) -> None:
        self.bar.setValue(round(STEPS * share))

    def end(self) -> None:
        self.hide()

    def _stop(self) -> None:
        self.stop.setEnabled(False)
        self.stopped.emit()
