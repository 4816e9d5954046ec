"""Reader of the summary of the training data on a worker thread."""

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_uhrseg.ui.finetune import worker as work
from napari_uhrseg.ui.workers.worker import Workers

if TYPE_CHECKING:
    from napari_uhrseg.types import TrainingSummary


class SummaryReader(QObject):
    """Worker that summarizes one request at a time.

    A request that arrives while another is read replaces all earlier ones: only the
    result of the last request is emitted.
    """

    found = Signal(object)  # TrainingSummary
    failed = Signal(object)  # Exception

    def __init__(self, workers: Workers, parent: QObject) -> None:
        super().__init__(parent)
        self._workers = workers
        self._reading = False
        self._next: work.FineTuneRequest | None = None

    def read(self, request: work.FineTuneRequest) -> None:
        """Summarize the training data of a request, after the one being read."""
        self._next = request
        if not self._reading:
            self._start(request)

    def _start(self, request: work.FineTuneRequest) -> None:
        self._next, self._reading = None, True
        self._workers.call(
            work.summarize,
            request,
            returned=self._returned,
            errored=self._errored,
            finished=self._finished,
        )

    def _returned(self, summary: "TrainingSummary") -> None:
        if self._next is None:
            self.found.emit(summary)

    def _errored(self, error: Exception) -> None:
        if self._next is None:
            self.failed.emit(error)

    def _finished(self) -> None:
        self._reading = False
        if self._next is not None:
            self._start(self._next)
