"""The buttons of a run, its progress, and why a button is not to be pressed."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.ui.rows import note, push_button
from napari_uhrseg.units import format_seconds

STEPS = 1000
PAUSE, CONTINUE = "Pa&use", "Co&ntinue"  # Alt+P and Alt+C are taken


class RunBar(QWidget):
    """Segment, Pause or Continue, Cancel; a bar; a line on what is going on."""

    started = Signal()
    pauseToggled = Signal()
    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.start = push_button("&Segment", clicked=self.started.emit)
        self.pause = push_button(PAUSE, clicked=self.pauseToggled.emit)
        self.cancel = push_button("&Cancel", clicked=self.cancelled.emit)
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setTextVisible(True)
        self.bar.setAccessibleName("Progress of the run")
        self.status = note()
        buttons = QHBoxLayout()
        for button in (self.start, self.pause, self.cancel):
            button.setMinimumWidth(60)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        self.bar.hide()
        self.idle("")

    def idle(self, why_not: str, status: str = "") -> None:
        """No run goes on. ``why_not`` is why none can start; "" if one can."""
        self.start.setEnabled(not why_not)
        self.start.setToolTip(why_not or "Start the run as planned.")
        for button, verb in ((self.pause, "pause"), (self.cancel, "cancel")):
            button.setEnabled(False)
            button.setToolTip(f"There is no run to {verb}.")
        self.pause.setText(PAUSE)
        self._say(status or why_not)

    def running(self, status: str) -> None:
        """A run goes on."""
        self.start.setEnabled(False)
        self.start.setToolTip("A run is going on; cancel it to start another.")
        self.pause.setEnabled(True)
        self.pause.setText(PAUSE)
        self.pause.setToolTip("Stop for a while; what is done stays.")
        self.cancel.setEnabled(True)
        self.cancel.setToolTip("End the run; Segment goes on with it later.")
        self.bar.show()
        self._say(status)

    def paused(self, really: bool) -> None:
        """The run stands still, or will after the batch it is at."""
        self.pause.setText(CONTINUE)
        self.pause.setToolTip("Go on with the run.")
        self._say("Paused." if really else "Pausing after this batch…")

    def ending(self) -> None:
        """Cancel was pressed; the batch it is at still ends."""
        for button in (self.pause, self.cancel):
            button.setEnabled(False)
            button.setToolTip("The run is ending.")
        self._say("Ending after this batch…")

    def progress(self, done: int, total: int, seconds_left: float | None) -> None:
        self.bar.setValue(round(STEPS * done / max(1, total)))
        left = "" if seconds_left is None else f" – {format_seconds(seconds_left)} left"
        self.bar.setFormat(f"{100 * done / max(1, total):.0f} %{left}")

    def clear(self) -> None:
        self.bar.setValue(0)
        self.bar.setFormat("")
        self.bar.hide()

    def _say(self, text: str) -> None:
        self.status.setText(text)
        self.status.setVisible(bool(text))
