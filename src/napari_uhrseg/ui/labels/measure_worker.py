"""Worker of a panel that measures labels: one button starts and stops it."""

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QLabel, QPushButton

from napari_uhrseg.ui.workers.worker import Worker, Workers, report
from napari_uhrseg.units import formatted


class MeasureWorker:
    """At most one worker, whose progress a status line shows.

    Parameters
    ----------
    workers
        Workers of the panel.
    button
        Button that starts the worker; it reads *Stop* while the worker runs.
    status
        Status line.
    doing
        Present participle for the status line, such as "Measuring".
    ended
        Function that is called last, with the outcome. It enables the buttons.

    Attributes
    ----------
    outcome
        Sentence about the end of the worker: that it was stopped, an error, or what
        the function for its result sets.
    """

    def __init__(
        self,
        workers: Workers,
        button: QPushButton,
        status: QLabel,
        doing: str,
        ended: Callable[[str], None],
    ) -> None:
        self._workers, self._button, self._status = workers, button, status
        self._doing, self._when_ended = doing, ended
        self._worker: Worker | None = None
        self.outcome = ""

    @property
    def running(self) -> bool:
        """True until the worker has ended."""
        return self._worker is not None

    def quit(self) -> None:
        """Request the end of the worker, if one runs."""
        if self._worker is not None:
            self._worker.quit()

    def stopped(self) -> bool:
        """Request the end of the worker and report it; return False if none runs."""
        if self._worker is None:
            return False
        self._worker.quit()
        self._status.setText("Stopping…")
        return True

    def run(self, work: Any, *arguments: Any, returned: Callable[[Any], None]) -> None:
        """Run a generator function that yields the finished fraction.

        Parameters
        ----------
        work
            Generator function.
        *arguments
            Its arguments.
        returned
            Function that takes the return value.
        """
        self.outcome = "Stopped."
        self._button.setText("Stop")
        self._button.setToolTip(f"Stop {self._doing.lower()}.")
        self._button.setEnabled(True)
        self._worker = self._workers.start(
            work,
            *arguments,
            yielded=lambda done: self._status.setText(
                f"{self._doing}: {formatted(done, '.0%')}"
            ),
            returned=returned,
            errored=self._error,
            finished=self._ended,
        )

    def _error(self, error: Exception) -> None:
        self.outcome = str(error)
        report(error)

    def _ended(self) -> None:
        self._worker = None
        self._when_ended(self.outcome)
