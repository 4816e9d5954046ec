"""Progress bar of a long change, with the time left and a Stop button."""

import time

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QWidget

from napari_uhrseg.ui.widgets.layout import push_button
from napari_uhrseg.units import format_seconds

STEPS = 1000
KEEP_TIP = "Stop. Finished changes are kept; Undo reverts them."
REVERT_TIP = "Stop and revert the changes made so far."


class TaskProgress(QWidget):
    """Progress bar and Stop button that are visible only during a change."""

    stopped = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._title, self._began = "", 0.0
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setAccessibleName("Progress of the change")
        self.stop = push_button("Stop", KEEP_TIP, self._stop)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.stop)
        self.hide()

    def begin(self, title: str, tip: str = KEEP_TIP) -> None:
        """Show the bar; ``tip`` is the tooltip of Stop."""
        self._title, self._began = title, time.monotonic()
        self.bar.setFormat(f"{title}, %p %")
        self.bar.setValue(0)
        self.stop.setToolTip(tip)
        self.stop.setEnabled(True)
        self.show()

    def progress(self, share: float) -> None:
        """Show the finished share (0 to 1) and, after a second, the time left."""
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
