"""Fine-tune panel: train on corrections, then keep or discard the trained model.

The form becomes a request. A worker summarizes the training data. Train runs the
request and writes a draft. Keep saves the draft as a checkpoint; nothing else replaces
a file. The panel is a state machine; ``state.py`` has its states and transitions.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import Signal
from qtpy.QtGui import QShowEvent
from superqt.utils import qdebounced

from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.errors import PlanError, UhrSegError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.ui.finetune import drafts
from napari_uhrseg.ui.finetune import worker as work
from napari_uhrseg.ui.finetune.run_controller import TrainingController
from napari_uhrseg.ui.finetune.state import (
    DECIDE,
    DECIDE_THERE,
    EARLIER,
    NOT_SAVED,
    FineTuneState,
    Outcome,
    Outcomes,
    TrainedModel,
    save_best,
    save_draft_or_report,
)
from napari_uhrseg.ui.finetune.widgets import FineTuneWidgets
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.widgets.dialogs import ask_checkpoint
from napari_uhrseg.ui.workers.worker import Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.types import TrainingSummary

READING = "Reading the corrections…"
SEGMENTING = "A segmentation is running."
TRAINING = "A training is running."


class FineTunePanel(FineTuneWidgets):
    """Panel that trains a model and offers to keep or discard it."""

    segmentAgain = Signal(object, bool)  # checkpoint's path; only likely changes
    checkpointWanted = Signal(object)  # path of the checkpoint to choose
    labelsWanted = Signal()  # empty labels to paint on
    busyChanged = Signal(bool)  # True while a training runs
    stateChanged = Signal()

    def __init__(self, viewer: Any, workers: Workers, hardware: HardwareForm) -> None:
        super().__init__(viewer, workers, hardware)
        self._workers, self._hardware = workers, hardware
        self._view: LabelsView | None = None
        self._checkpoint: Path | None = None
        self._folders: tuple[Path, ...] = ()
        self._state = FineTuneState.OUTDATED
        self._blocked = ""  # reason from outside why no training can start
        self._status = ""  # result of the last training
        self.kept = False  # True if a model of the shown labels was kept
        self._training: TrainingController | None = None
        self._trained: TrainedModel | None = None
        self._elsewhere: work.FineTuneRequest | None = None  # see `_status_text`
        self._drafts = tempfile.TemporaryDirectory(
            prefix="napari-uhrseg-", ignore_cleanup_errors=True
        )
        self._outcomes = Outcomes()
        self._drafts_of = drafts.DraftSearch(workers, hardware, self)
        self._read_later = qdebounced(self._read_summary, timeout=400, parent=self)
        self._wire()

    def _wire(self) -> None:
        self.new_model.labelsWanted.connect(self.labelsWanted.emit)
        self.new_model.modelChosen.connect(self.form.use_new)
        self.form.changed.connect(self.refresh)
        self._hardware.changed.connect(self.refresh)
        self._drafts_of.found.connect(self._draft_found)
        self.reader.found.connect(self._summary_found)
        self.reader.failed.connect(self._summary_failed)
        self.reader.timed.connect(self.show_time)
        self.bar.started.connect(self.start)
        self.result.changesWanted.connect(self._toggle_comparison)
        self.result.kept.connect(self._ask_name)
        self.result.discarded.connect(self.discard)
        self.rerun.again.connect(self.segmentAgain.emit)
        self.rerun.goBack.connect(self.checkpointWanted.emit)
        self.bar.idle(READING)

    @property
    def state(self) -> FineTuneState:
        """State of the panel."""
        return self._state

    @property
    def trained(self) -> TrainedModel | None:
        """Trained model to keep or discard; None in other states than UNDECIDED."""
        return self._trained

    def _render(self, state: FineTuneState, why_not: str = "", data: str = "") -> None:
        """Enter a state: set all widgets that depend on it.

        ``why_not``: why no training can start (BLOCKED); ``data``: its data (READY).
        """
        self._state = state
        self.stateChanged.emit()
        self.reader.stop()  # the next summary starts it again
        training = state is FineTuneState.TRAINING
        self.ask_decision(state is FineTuneState.UNDECIDED)
        self.form.setEnabled(not training)
        self.block(TRAINING if training else self._blocked)
        if training or state is FineTuneState.OUTDATED:
            return  # the controls show the training or the last summary
        if state is FineTuneState.SUMMARIZING:
            self.bar.idle(READING, self._status_text())
            return
        if state is FineTuneState.UNDECIDED:
            why_not = self._blocked or DECIDE
        self.summary.setText(data)
        self.summary.setVisible(bool(data))
        self.bar.idle(why_not, self._status_text())

    def _status_text(self) -> str:
        """Return the result of the last training, and what awaits a decision.

        A model that was trained on labels that are not displayed is named until they
        are displayed or another training starts.
        """
        texts = [self._status]
        if self._elsewhere is not None:
            texts.append(DECIDE_THERE.format(self._elsewhere.image.name))
        return " ".join(filter(None, texts))

    # -- input from the other panels ----------------------------------------------

    def set_view(self, view: LabelsView | None) -> None:
        """Set the labels whose corrections are trained on."""
        before, self._view = self._view, view
        if self._elsewhere is not None and self._elsewhere.is_of(view):
            self._elsewhere = None
        if view is not before:
            self.summary.hide()
            self.rerun.clear()
            self._show_outcome(None if before is None else before.store.path)
        self.new_model.set_view(view)
        self.live.set_view(view)
        self.refresh()
        self.refresh_provenance()

    def set_checkpoint(
        self, path: Path | None, name: str = "", folders: tuple[Path, ...] = ()
    ) -> None:
        """Set the checkpoint chosen in the Segment panel.

        Parameters
        ----------
        path
            File of the checkpoint. None: none is chosen.
        name
            Title of the checkpoint. Empty: the file's name.
        folders
            Folders in which its earlier versions are searched.
        """
        self._folders = folders
        if path != self._checkpoint:
            self._checkpoint = path
            self.form.set_followed(path, name)
            self.refresh_provenance()

    def set_segmenting(self, segmenting: bool) -> None:
        """Block training while a segmentation uses the memory budget."""
        self._blocked = SEGMENTING if segmenting else ""
        if self._state is not FineTuneState.TRAINING:
            self.block(self._blocked)
            if segmenting:
                self.bar.idle(self._blocked)
        self.refresh()
        if not segmenting:
            self.refresh_provenance()

    def refresh(self) -> None:
        """Summarize the training data again, after a short delay."""
        if self._state is FineTuneState.TRAINING:
            return
        if self._state is FineTuneState.UNDECIDED:
            self._render(FineTuneState.UNDECIDED)
            return
        self._render(FineTuneState.OUTDATED)
        if self.isVisible():
            self._read_later()

    def refresh_provenance(self) -> None:
        """Update the text on the checkpoints that made the labels."""
        if self.isVisible():
            store = self._view.store.path if self._view is not None else None
            self.rerun.set_state(self._checkpoint, store, self._folders)

    def showEvent(self, event: QShowEvent | None) -> None:
        super().showEvent(event)
        self.refresh()
        self.refresh_provenance()

    def stop(self) -> None:
        """Disconnect from the viewer, and save the best model of a training."""
        if self._training is not None:
            save_best(self._training)
        self._read_later.cancel()
        self.stop_parts()
        self._drafts.cleanup()

    # -- before a training --------------------------------------------------------

    def request(self) -> work.FineTuneRequest:
        """Return the request that the form describes.

        Raises
        ------
        PlanError
            If something is missing. The message names it.
        """
        if self._blocked:
            raise PlanError(self._blocked)
        if self._trained is not None:
            raise PlanError(DECIDE)
        return self.form.request(self._view, self._hardware)

    def _read_summary(self) -> None:
        if self._state is not FineTuneState.OUTDATED:
            return
        try:
            request = self.request()
        except PlanError as error:
            self._render(FineTuneState.BLOCKED, str(error))
            return
        self._render(FineTuneState.SUMMARIZING)
        self.reader.read(request)

    def _summary_found(self, summary: "TrainingSummary") -> None:
        if self._state is FineTuneState.SUMMARIZING:
            self.live.set_regions(summary.regions)
            self._render(FineTuneState.READY, data=work.describe(summary))
            self.reader.start_timing()

    def _summary_failed(self, error: Exception) -> None:
        if self._state is FineTuneState.SUMMARIZING:
            if not isinstance(error, UhrSegError):
                report(error)
            self._render(FineTuneState.BLOCKED, str(error))

    # -- a training ---------------------------------------------------------------

    def start(self) -> None:
        """Start the training that the form describes."""
        try:
            request = self.request()
        except PlanError as error:
            report(error)
            return
        self._status, self._elsewhere = "", None
        self.bar.name_subject(f"Training on {request.subject}")
        self._training = TrainingController(self.bar, self.plot, request, self)
        self._training.ended.connect(self._ended)
        self._render(FineTuneState.TRAINING)
        self.busyChanged.emit(True)
        name = work.next_version(request).name
        draft = drafts.new_draft(request.store, name, Path(self._drafts.name))
        self._training.start(self._workers, draft)

    def _ended(self, status: str, result: FineTuneFinished | None) -> None:
        training, self._training = self._training, None
        if training is None:
            return
        training.deleteLater()
        request, self._status = training.request, status
        if result is not None:
            self._trained = TrainedModel(result, request)
            save_draft_or_report(self._trained)
        self._state = FineTuneState.OUTDATED
        if not request.is_of(self._view):  # other labels are shown now
            self._elsewhere = request if result is not None else None
            self._show_outcome(request.store)
        if self._trained is not None:
            self._show_result()
        else:
            self._render(FineTuneState.OUTDATED)
            self.bar.idle("", self._status_text())
            self.refresh()
        self.busyChanged.emit(False)

    # -- the trained model --------------------------------------------------------

    def _show_outcome(self, before: PathOrUrl | None) -> None:
        """Show the last training on the displayed labels instead of another one.

        ``before`` is the store whose outcome has been shown, or None.
        """
        view, training = self._view, self._training
        if training is not None:
            self.plot.setVisible(training.request.is_of(view))
            return
        shown = Outcome(self._status, self.kept, self.plot.curves)
        self._outcomes.put(before, shown)
        if self._put_away() or self._trained is None:
            shown = self._outcomes.of(None if view is None else view.store.path)
            self._status, self.kept = shown.status, shown.kept
            self.plot.show_curves(shown.curves)
            self.bar.idle(READING, self._status_text())
        self._drafts_of.look(view)

    def _put_away(self) -> bool:
        """Hide a trained model whose draft is offered again with its own labels."""
        self.comparison.remove(later=True)
        if self._trained is None:
            return False
        self.result.set_here(self._trained.request.is_of(self._view))
        if not drafts.is_with_labels(self._trained.result.path):
            return False
        self._trained, self._status = None, ""
        self._render(FineTuneState.OUTDATED)
        return True

    def _draft_found(
        self, view: LabelsView, result: FineTuneFinished, request: work.FineTuneRequest
    ) -> None:
        """Offer the undecided draft of the displayed labels."""
        busy = self._state in (FineTuneState.TRAINING, FineTuneState.UNDECIDED)
        if view is self._view and not busy:
            self.offer(result, request)
            show_info(NOT_SAVED)

    def offer(self, result: FineTuneFinished, request: work.FineTuneRequest) -> None:
        """Offer a model of an earlier session to be kept or discarded."""
        self._trained = TrainedModel(result, request)
        self._status = EARLIER
        self._show_result(into_sight=False)

    def _show_result(self, *, into_sight: bool = True) -> None:
        if (trained := self._trained) is None:
            return
        shown = trained.request.is_of(self._view)
        legend = self._view.legend if self._view is not None and shown else None
        self._render(FineTuneState.UNDECIDED)
        self.result.set_here(shown)
        self.result.compares = trained.request.compares
        self.result.show_outcome(trained.result, legend, into_sight=into_sight)

    def discard(self) -> None:
        """Delete the trained model."""
        self._decided("Discarded. The original checkpoint is unchanged.")

    def keep(self, target: Path) -> None:
        """Save the trained model as a checkpoint and choose it in the Segment panel."""
        if self._trained is None:
            return
        draft = self._trained.result.path
        self.result.setEnabled(False)
        self._workers.call(
            work.save_as, draft, target,
            returned=lambda path: self._kept(path, draft),
            finished=lambda: self.result.setEnabled(True),
        )  # fmt: skip

    def _ask_name(self) -> None:
        if self._trained is not None:
            target = self._trained.target
            path = ask_checkpoint(self, "Save checkpoint as", target)
            if path is not None:
                self.keep(path)

    def _kept(self, path: Path, draft: Path) -> None:
        if self._trained is not None and self._trained.result.path == draft:
            self.kept = True
            self._decided(f"Saved as {path.name} and chosen under Segment.")
        else:  # other labels are shown now, with another draft
            drafts.delete_draft(draft)
        self.form.follow()
        self.checkpointWanted.emit(path)

    def _decided(self, status: str) -> None:
        if self._trained is not None:
            drafts.delete_draft(self._trained.result.path)
        self._trained, self._status = None, status
        self.comparison.remove()
        self._render(FineTuneState.OUTDATED)
        self.bar.idle(READING, self._status_text())
        self.refresh()
        self.scroll_to_rerun()

    def _toggle_comparison(self) -> None:
        view, trained = self._view, self._trained
        if view is not None and trained is not None and trained.request.is_of(view):
            self.comparison.toggle(view, trained.request, trained.result.path)
