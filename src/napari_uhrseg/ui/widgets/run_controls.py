"""Buttons, progress bar and status line of a run."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.ui.widgets.layout import note, push_button
from napari_uhrseg.units import format_seconds

STEPS = 1000
PAUSE, CONTINUE = "Pa&use", "Co&ntinue"  # Alt+P and Alt+C have other uses


class RunControls(QWidget):
    """Buttons, progress bar and status line of a run.

    The buttons are Start, Pause or Continue, and Cancel.

    The tooltip of a disabled button gives the reason.

    Parameters
    ----------
    start
        Title of the first button. The others have Alt letters only if it has one.
    what
        Noun for the task, for example "run".
    cancelling
        Tooltip of Cancel, a sentence that describes its effect.
    """

    started = Signal()
    pauseToggled = Signal()
    cancelled = Signal()

    def __init__(
        self,
        start: str = "&Segment",
        what: str = "run",
        cancelling: str = "Segment can continue it later.",
    ) -> None:
        super().__init__()
        self._what, self._cancelling = what, cancelling
        self._letters = "&" in start
        self.start = push_button(start, clicked=self.started.emit)
        self.pause = push_button("", clicked=self.pauseToggled.emit)
        self.cancel = push_button(self._title("&Cancel"), clicked=self.cancelled.emit)
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setTextVisible(True)
        self.bar.setAccessibleName(f"Progress of the {what}")
        self.status = note()
        self._lay_out()
        self.bar.hide()
        self.idle("")

    def _lay_out(self) -> None:
        """Put the buttons in a row, above the bar and the status line."""
        buttons = QHBoxLayout()
        for button in (self.start, self.pause, self.cancel):
            button.setMinimumWidth(60)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)

    def idle(self, why_not: str, status: str = "") -> None:
        """Show that no run is in progress.

        ``why_not`` is the reason why none can start, or an empty text.
        """
        self.start.setEnabled(not why_not)
        self.start.setToolTip(why_not or f"Start the {self._what} as planned.")
        for button, verb in ((self.pause, "pause"), (self.cancel, "cancel")):
            button.setEnabled(False)
            button.setToolTip(f"There is no {self._what} to {verb}.")
        self.pause.setText(self._title(PAUSE))
        self._say(status or why_not)

    def running(self, status: str) -> None:
        """Show that a run is in progress."""
        self.start.setEnabled(False)
        self.start.setToolTip(
            f"A {self._what} is in progress; cancel it to start another."
        )
        self.pause.setEnabled(True)
        self.pause.setText(self._title(PAUSE))
        self.pause.setToolTip("Pause; finished work is kept.")
        self.cancel.setEnabled(True)
        self.cancel.setToolTip(f"End the {self._what}. {self._cancelling}")
        self.bar.show()
        self._say(status)

    def preparing(self, status: str) -> None:
        """Show that a run is being prepared. It can be cancelled, but not paused."""
        self.running(status)
        self.pause.setEnabled(False)
        self.pause.setToolTip(f"The {self._what} has not started yet.")

    def paused(self, really: bool) -> None:
        """Show that the run is paused (True) or will pause after this batch (False)."""
        self.pause.setText(self._title(CONTINUE))
        self.pause.setToolTip(f"Continue the {self._what}.")
        self._say("Paused." if really else "Pausing after this batch…")

    def ending(self) -> None:
        """Show that the run will end after this batch."""
        for button in (self.pause, self.cancel):
            button.setEnabled(False)
            button.setToolTip(f"The {self._what} is stopping.")
        self._say("Stopping after this batch…")

    def progress(self, done: int, total: int, seconds_left: float | None) -> None:
        """Show the progress of a run.

        Parameters
        ----------
        done
            Number of finished windows, frames or steps.
        total
            Number of all windows, frames or steps.
        seconds_left
            Estimated time to the end in seconds. None: it is not known yet.
        """
        self.bar.setValue(round(STEPS * done / max(1, total)))
        left = "" if seconds_left is None else f" – {format_seconds(seconds_left)} left"
        self.bar.setFormat(f"{100 * done / max(1, total):.0f} %{left}")

    def clear(self) -> None:
        self.bar.setValue(0)
        self.bar.setFormat("")
        self.bar.hide()

    def _title(self, title: str) -> str:
        return title if self._letters else title.replace("&", "")

    def _say(self, text: str) -> None:
        self.status.setText(text)
        self.status.setVisible(bool(text))
