"""Controller of one training run in the window."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_uhrseg.engine import events
from napari_uhrseg.ui.finetune import worker as work
from napari_uhrseg.ui.finetune.training_plot import TrainingPlot
from napari_uhrseg.ui.widgets.run_controls import RunControls
from napari_uhrseg.ui.workers.job_controller import JobController
from napari_uhrseg.ui.workers.worker import Workers, report

if TYPE_CHECKING:
    from collections.abc import Mapping

WITHIN = "Training. Slower, to stay within the memory budget."
LEARNING, CHECKING = "Training.", "Validating…"
GATHERING = "Collecting the corrections…"


class TrainingController(JobController):
    """Controller that trains a request on a worker thread and shows the progress.

    ``ended`` emits a message and `events.FineTuneFinished`, or None if there is no
    model to keep.
    """

    ended = Signal(str, object)

    def __init__(
        self,
        bar: RunControls,
        plot: TrainingPlot,
        request: work.FineTuneRequest,
        parent: QObject,
    ) -> None:
        super().__init__(bar, "", parent)
        self.request = request
        self._plot = plot
        self._workers: Workers | None = None
        self._output = Path()
        self._summary: Any = None
        self._before: Mapping[str, float] = {}
        self._compared: events.FineTuneFinished | None = None
        self._done = self._total = 0
        self._ending, self._learning = "Cancelled", LEARNING

    def start(self, workers: Workers, output: Path) -> None:
        """Start the training, which writes to ``output``; that file must not exist."""
        self._workers, self._output = workers, output
        self._plot.begin()
        new = isinstance(self.request.start, work.NewModel)
        self._say("Loading ImageNet weights…" if new else GATHERING)
        self._worker = workers.start(
            work.train,
            self._stopping,
            self.request,
            output,
            yielded=self._event,
            errored=self._error,
            finished=self._finished,
        )
        self._worker.paused.connect(lambda: self._bar.paused(True))

    def best_so_far(self) -> events.FineTuneFinished | None:
        """Return the best model so far, if there is one; the training may still run."""
        if self._summary is None:
            return None
        return work.best_so_far(self._output, self._summary, self._before)

    def _event(self, event: Any) -> None:
        match event:
            case events.DatasetReady(summary=summary):
                self._summary = summary
                self._plot.held_out = summary.has_validation
                self._say(CHECKING if summary.has_validation else LEARNING)
            case events.MemoryPlanned(limited=cut):
                self._learning = WITHIN if cut else LEARNING
            case events.Progress(seconds_left=None):
                self._say(CHECKING)
            case events.Progress(done=done, total=total, seconds_left=left):
                self._done, self._total = done, total
                self._plot.total = total
                self._bar.progress(done, total, left)
                self._say(self._learning)
            case events.StepLogged(step=step, losses=losses):
                self._plot.add_loss(step, losses["loss"])
            case events.Validated(step=step, metrics=metrics):
                if step == 0:
                    self._before = metrics
                if "miou" in metrics:
                    self._plot.add_score(step, metrics["miou"])
            case events.FineTuneFinished():
                self._compared = event

    def _say(self, status: str) -> None:
        """Show a status, unless it is shown already or the training pauses or ends."""
        changed, self._status = status != self._status, status
        worker = self._worker
        held = worker is not None and (
            worker.pausing or worker.is_paused or worker.abort_requested
        )
        if changed and not held:
            self._bar.running(status)

    def _error(self, error: Exception) -> None:
        self._ending = "Ended with an error"
        report(error)

    def _finished(self) -> None:
        self._bar.clear()
        done = f"Done: {self._total} steps."
        if self._compared is not None and not self._compared.saved:
            text = self._compared.comparison
            self.ended.emit(f"{done} {text[:1].upper()}{text[1:]}.", None)
            return
        if self._compared is not None:
            self.ended.emit(done, self._compared)
            return
        assert self._workers is not None
        found: list[events.FineTuneFinished] = []
        self._workers.call(
            work.best_so_far,
            self._output,
            self._summary,
            self._before,
            returned=lambda best: found.append(best) if best else None,
            finished=lambda: self._ended_early(found),
        )

    def _ended_early(self, found: list[events.FineTuneFinished]) -> None:
        text = f"{self._ending} after {self._done} steps. "
        if found:
            self.ended.emit(text + "The best model so far is offered.", found[0])
        else:
            self.ended.emit(text + "There is nothing to keep yet.", None)
