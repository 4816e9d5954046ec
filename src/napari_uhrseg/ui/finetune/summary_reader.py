"""Reader of the summary of the training data, and of the expected time, in workers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from superqt.utils import qdebounced

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.ui.finetune import worker as work
from napari_uhrseg.ui.segment.worker import budget_of, free_threads
from napari_uhrseg.ui.workers.import_torch import load_torch
from napari_uhrseg.ui.workers.worker import Worker, Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.types import TrainingSummary


RESTED_MS = 1000  # after a summary, until the time is measured


def expected_seconds(
    stop: Callable[[], bool], request: work.FineTuneRequest
) -> Iterator[float]:
    """Yield the expected seconds of a training, measured on one core fewer than all.

    Nothing is yielded for a pixel classifier, which is trained within seconds.
    """
    load_torch()
    from napari_uhrseg.engine.events import Progress
    from napari_uhrseg.engine.finetuning.finetune import plan_fine_tuning
    from napari_uhrseg.engine.network.device import cpu_threads
    from napari_uhrseg.models.checkpoint import load_checkpoint

    settings, new = request.settings, request.start
    budget = budget_of(settings.device, request.budget_bytes)
    with work.opened(request) as data, cpu_threads(free_threads()):
        start = (
            load_checkpoint(new)
            if isinstance(new, Path)
            else work.started(request, data)
        )
        plan = plan_fine_tuning(data.images, start, data.stores, settings, budget, stop)
        for event in plan:
            if isinstance(event, Progress) and event.seconds_left is not None:
                yield event.seconds_left


class SummaryReader(QObject):
    """Worker that summarizes one request at a time, and another that times it.

    A request that arrives while another is read replaces all earlier ones: only the
    result of the last request is emitted. The expected time is measured when no request
    has arrived for a second after the summary.
    """

    found = Signal(object)  # TrainingSummary
    failed = Signal(object)  # Exception
    timed = Signal(float)  # expected seconds of the training

    def __init__(self, workers: Workers, parent: QObject) -> None:
        super().__init__(parent)
        self._workers = workers
        self._reading = False
        self._next: work.FineTuneRequest | None = None
        self._request: work.FineTuneRequest | None = None
        self._timing: Worker | None = None
        self._stop = Event()
        self._rested = qdebounced(self._time, timeout=RESTED_MS, parent=self)

    def read(self, request: work.FineTuneRequest) -> None:
        """Summarize the training data of a request, after the one being read."""
        self._next = request
        if not self._reading:
            self._start(request)

    def _start(self, request: work.FineTuneRequest) -> None:
        self._next, self._reading, self._request = None, True, request
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

    def start_timing(self) -> None:
        """Measure the expected time of the last request after a second."""
        self._rested()

    def stop(self) -> None:
        """End the measurement of the expected time."""
        self._rested.cancel()
        self._stop.set()

    def _time(self) -> None:
        request = self._request
        if self._timing is not None:  # it has been stopped, and is about to end
            self._rested()
            return
        stop = self._stop = Event()
        self._timing = self._workers.start(
            expected_seconds,
            stop.is_set,
            request,
            yielded=lambda seconds: None if stop.is_set() else self.timed.emit(seconds),
            errored=_report_other,
            finished=self._timing_ended,
        )

    def _timing_ended(self) -> None:
        self._timing = None


def _report_other(error: Exception) -> None:
    """Report an error that the training would not report."""
    if not isinstance(error, UhrSegError):
        report(error)
