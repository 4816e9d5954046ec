"""The progress of a long change, the time left, and a button to stop it."""

import time

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QWidget

from napari_uhrseg.ui.widgets.layout import push_button
from napari_uhrseg.units import format_seconds

STEPS = 1000
STAYS = "Stop; what is done stays, and Undo takes it back."
WHOLE = "Stop; what was changed so far is put back."


class TaskProgress(QWidget):
    """Seen while something goes on."""

    stopped = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._title, self._began = "", 0.0
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setAccessibleName("Progress of the change")
        self.stop = push_button("Stop", STAYS, self._stop)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.stop)
        self.hide()

    def begin(self, title: str, tip: str = STAYS) -> None:
        """``tip`` says what Stop leaves."""
        self._title, self._began = title, time.monotonic()
        self.bar.setFormat(f"{title}, %p %")
        self.bar.setValue(0)
        self.stop.setToolTip(tip)
        self.stop.setEnabled(True)
        self.show()

    def progress(self, share: float) -> None:
        """Of what was begun, 0 to 1; from the first second on with the time left."""
        self.bar.setValue(round(STEPS * share))
        took = time.monotonic() - self._began
        if share > 0 and took > 1 and self.stop.isEnabled():
            left = format_seconds(took * (1 - share) / share)
            self.bar.setFormat(f"{self._title}, %p %, {left} left")

    def end(self) -> None:
        self.hide()

    def _stop(self) -> None:
        self.stop.setEnabled(False)
        self.bar.setFormat("Stopping…")
        self.stopped.emit()
