"""Start button of a run, and the strip that shows its progress."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_uhrseg.ui.widgets.layout import note, push_button
from napari_uhrseg.units import format_seconds, formatted

STEPS = 1000
PAUSE, CONTINUE = "Pa&use", "Co&ntinue"  # Alt+P and Alt+C have other uses


class RunStrip(QFrame):
    """Status line and progress bar of a run, with Pause and Cancel."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.status = note()
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setTextVisible(True)
        self.bar.setAccessibleName(f"Progress of the {what}")
        self.pause, self.cancel = push_button(""), push_button("")
        buttons = QHBoxLayout()
        buttons.addWidget(self.bar, 1)
        for button in (self.pause, self.cancel):
            button.setMinimumWidth(60)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(4)
        layout.addWidget(self.status)
        layout.addLayout(buttons)
        self.hide()


class RunControls(QWidget):
    """Start button and status line of a run, and a strip that is shown during it.

    The strip has the progress bar, Pause or Continue, and Cancel. It can be moved to a
    place that is always visible.

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
        self._subject = ""
        self.start = push_button(start, clicked=self.started.emit, main=True)
        self.strip = RunStrip(what)
        self.bar, self.pause, self.cancel = (
            self.strip.bar,
            self.strip.pause,
            self.strip.cancel,
        )
        self.pause.clicked.connect(lambda _: self.pauseToggled.emit())
        self.cancel.clicked.connect(lambda _: self.cancelled.emit())
        self.cancel.setText(self._title("&Cancel"))
        self.status = note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.start, self.status, self.strip):
            layout.addWidget(part)
        self.idle("")

    def name_subject(self, subject: str) -> None:
        """Set the text before the status in the strip, such as "Segmenting a.tif"."""
        self._subject = subject

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
        self.strip.hide()
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
        self.strip.show()
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
        self.bar.setFormat(f"{formatted(100 * done / max(1, total), '.0f')} %{left}")

    def clear(self) -> None:
        self.bar.setValue(0)
        self.bar.setFormat("")

    def _title(self, title: str) -> str:
        return title if self._letters else title.replace("&", "")

    def _say(self, text: str) -> None:
        """Show a status: in the strip during a run, else below the button."""
        running = not self.strip.isHidden()
        self.strip.status.setText(": ".join(filter(None, (self._subject, text))))
        self.status.setText(text)
        self.status.setVisible(bool(text) and not running)
