"""The Fine-tune part: from corrections to a checkpoint that the person keeps or not.

The form becomes a request; a worker says what it would learn from; Train runs it and
leaves a draft; Keep makes the draft a checkpoint, and nothing else replaces anything.
"""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.errors import PlanError, UhrSegError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import FineTuneSettings
from napari_uhrseg.ui.finetune import drafts
from napari_uhrseg.ui.finetune import worker as work
from napari_uhrseg.ui.finetune.comparison_layer import ComparisonLayer
from napari_uhrseg.ui.finetune.form import FineTuneForm
from napari_uhrseg.ui.finetune.new_model import NewModelForm
from napari_uhrseg.ui.finetune.rerun import LIKELY, RerunPanel
from napari_uhrseg.ui.finetune.result import ResultPanel
from napari_uhrseg.ui.finetune.run_controller import TrainingController
from napari_uhrseg.ui.finetune.training_plot import TrainingPlot
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.widgets.dialogs import ask_checkpoint
from napari_uhrseg.ui.widgets.layout import note, scroll_to
from napari_uhrseg.ui.widgets.run_controls import RunControls
from napari_uhrseg.ui.workers.worker import Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.types import TrainingSummary

LOOKING = "Reading the corrections…"
NO_LABELS = (
    "There are no labels to train on. Segment the image and correct it, or create new "
    "labels and paint."
)
LEFT = (
    "A model trained on these labels has not been saved yet. Keep or discard it under "
    "Fine-tune."
)
UNDECIDED = "Keep or discard the trained model first."
DECIDE_THERE = "To keep or discard the model, show the labels of "
CANCELLING = "The best model so far is offered."


class FineTunePanel(QWidget):
    """The form, the lesson, the training, its outcome, and what may follow."""

    segmentAgain = Signal(object, bool)  # checkpoint's path; only what likely changes
    checkpointWanted = Signal(object)  # path: kept, or gone back to
    labelsWanted = Signal()  # empty ones, to paint in
    busyChanged = Signal(bool)  # whether a training goes on

    def __init__(self, viewer: Any, workers: Workers, hardware: HardwareForm) -> None:
        super().__init__()
        self._viewer, self._workers, self._hardware = viewer, workers, hardware
        self._view: LabelsView | None = None
        self._checkpoint: Path | None = None
        self._folders: tuple[Path, ...] = ()
        self._blocked = self._status = ""  # the last one: how the last training went
        self._number = 0  # of the last look at the corrections
        self._looking = self._stale = False
        self._training: TrainingController | None = None
        self._target = Path()  # the name that Keep proposes
        self._trained: work.FineTuneRequest | None = None  # what the outcome came from
        self._outcome: FineTuneFinished | None = None
        self._drafts = tempfile.TemporaryDirectory(
            prefix="napari-uhrseg-", ignore_cleanup_errors=True
        )
        self.form = FineTuneForm(viewer)
        self.new_model = NewModelForm()
        self.summary = note()
        self.summary.setAccessibleName("Training data")
        self.summary.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.bar = RunControls("Train", "training", CANCELLING)
        self.plot = TrainingPlot(viewer, workers)
        self.result = ResultPanel()
        self.rerun = RerunPanel(workers)
        self.comparison = ComparisonLayer(viewer, workers, self.result)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.new_model, self.form, self.summary, self.bar, self.plot,
                     self.result, self.rerun):  # fmt: skip
            layout.addWidget(part)
        self._later = qdebounced(self._look, timeout=400, parent=self)
        self.new_model.labelsWanted.connect(self.labelsWanted.emit)
        self.new_model.modelChosen.connect(self.form.use_new)
        self.form.changed.connect(self.refresh)
        hardware.changed.connect(self.refresh)
        self._camera = (
            viewer.scene.camera.events.center,
            viewer.scene.camera.events.zoom,
        )
        for event in self._camera:
            event.connect(self._moved)
        self.bar.started.connect(self.start)
        self.bar.pauseToggled.connect(self._toggle_pause)
        self.bar.cancelled.connect(self._cancel)
        self.result.changesWanted.connect(self._toggle_changes)
        self.result.kept.connect(self._ask_name)
        self.result.discarded.connect(self.discard)
        self.rerun.again.connect(
            lambda path, how: self.segmentAgain.emit(path, how == LIKELY)
        )
        self.rerun.goBack.connect(self.checkpointWanted.emit)

    # -- what the other parts say ------------------------------------------------

    def set_image(self, image: Image | None) -> None:
        """The image that new labels would be of."""
        self.new_model.set_image(image)

    def set_view(self, view: LabelsView | None) -> None:
        """The labels shown, whose corrections teach."""
        another, self._view = view is not self._view, view
        if another and self._training is None:
            self._put_away()
            self._ask_undecided()
        self.new_model.set_view(view)
        self.refresh()
        self.refresh_standing()

    def set_checkpoint(
        self, path: Path | None, name: str = "", folders: tuple[Path, ...] = ()
    ) -> None:
        """The checkpoint chosen in the Segment part; ancestors may lie in folders."""
        self._folders = folders
        if path != self._checkpoint:
            self._checkpoint = path
            self.form.set_followed(path, name)
            self.refresh_standing()

    def set_segmenting(self, segmenting: bool) -> None:
        """A segmentation goes on, or has ended: one takes all of the memory allowed."""
        self._blocked = "A segmentation is running." if segmenting else ""
        self.rerun.set_blocked(self._blocked)
        if segmenting and self._training is None:
            self.bar.idle(self._blocked)
        self.refresh()
        if not segmenting:
            self.refresh_standing()

    def refresh(self) -> None:
        """The form or the corrections have changed: look again, a moment later."""
        if self._training is None:
            self._number += 1
            self._stale = True
            if self.isVisible():
                self._later()

    def refresh_standing(self) -> None:
        """What segmenting again would do may be something else now."""
        if self.isVisible():
            store = self._view.store.path if self._view is not None else None
            self.rerun.set_state(self._checkpoint, store, self._folders)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refresh()
        self.refresh_standing()

    def stop(self) -> None:
        """The panel is going: let go of the viewer; what was learnt is kept."""
        if self._training is not None:
            with suppress(UhrSegError):  # it cannot be read
                best = self._training.best_so_far()
                if best is not None:
                    self._remember(best)
        self._later.cancel()
        for event in self._camera:
            event.disconnect(self._moved)
        self.plot.stop()
        self.comparison.stop()
        self._drafts.cleanup()

    # -- before a training -------------------------------------------------------

    def request(self) -> work.FineTuneRequest:
        """What the form says now.

        Raises
        ------
        PlanError
            Something is missing; the message says what.
        """
        if self._blocked:
            raise PlanError(self._blocked)
        if self._outcome is not None:
            raise PlanError(UNDECIDED)
        if self._view is None:
            raise PlanError(NO_LABELS)
        if self.form.start is None:
            raise PlanError("Choose a checkpoint or a new model first.")
        if self._hardware.device is None:
            raise PlanError("Looking for devices…")
        return work.FineTuneRequest(
            self._view.image,
            self._view.store.path,
            self.form.start,
            self.form.settings(self._view.layer, self._hardware.device),
            self._hardware.budget_bytes,
        )

    def _moved(self) -> None:
        if self.form.follows_view:
            self.refresh()

    def _look(self) -> None:
        """Ask a worker for the lesson; one at a time, and the last one counts."""
        if self._training is not None or self._looking:
            return
        self._stale = False
        try:
            request = self.request()
        except PlanError as error:
            self._idle(str(error))
            return
        number, self._looking = self._number, True
        self.bar.idle(LOOKING, self._status)
        self._workers.call(
            work.summarize,
            request,
            returned=lambda found: self._found(found, number),
            errored=lambda error: self._not_found(error, number),
            finished=self._looked,
        )

    def _found(self, lesson: "TrainingSummary", number: int) -> None:
        if number == self._number:
            self._idle("", work.describe(lesson))

    def _not_found(self, error: Exception, number: int) -> None:
        if number == self._number:
            if not isinstance(error, UhrSegError):
                report(error)
            self._idle(str(error))

    def _looked(self) -> None:
        self._looking = False
        if self._stale and self.isVisible():
            self._later()

    def _idle(self, why_not: str, lesson: str = "") -> None:
        """Nothing goes on: how the last training went, or why none can begin."""
        self.summary.setText(lesson)
        self.summary.setVisible(bool(lesson))
        self.bar.idle(why_not, self._status)

    # -- a training --------------------------------------------------------------

    def start(self) -> None:
        """Train was pressed."""
        try:
            request = self.request()
        except PlanError as error:
            report(error)
            return
        self._trained, self._status = request, ""
        self._target = work.next_version(request)
        self._training = TrainingController(self.bar, self.plot, self)
        self._training.ended.connect(self._ended)
        self.form.setEnabled(False)
        self.rerun.set_blocked("A training is running.")
        self.busyChanged.emit(True)
        draft = drafts.new_draft(
            request.store, self._target.name, Path(self._drafts.name)
        )
        self._training.start(self._workers, request, draft)

    def _toggle_pause(self) -> None:
        if self._training is not None:
            self._training.toggle_pause()

    def _cancel(self) -> None:
        if self._training is not None:
            self._training.cancel()

    def _ended(self, status: str, compared: FineTuneFinished | None) -> None:
        if self._training is not None:
            self._training.deleteLater()
        self._training, self._outcome, self._status = None, compared, status
        self.form.setEnabled(True)
        self.rerun.set_blocked("")
        if compared is not None:
            self._remember(compared)
        if not self._here:  # other labels have been shown meanwhile
            if self._put_away() and self._trained is not None:
                self._status = f"{status} {DECIDE_THERE}{self._trained.image.name}."
            self._ask_undecided()
        self.bar.idle(UNDECIDED if self._outcome else "", self._status)
        self.refresh()
        if self._outcome is not None:
            self._show_outcome(self._outcome)
        self.busyChanged.emit(False)

    # -- what came out -----------------------------------------------------------

    def _remember(self, compared: FineTuneFinished) -> None:
        """So that it is offered again where the window closes before the decision."""
        if self._trained is not None:
            try:
                drafts.save_draft(compared, self._trained.start)
            except OSError as error:
                report(error)

    @property
    def _here(self) -> bool:
        """Whether the labels are shown that the last training has learnt from."""
        view, trained = self._view, self._trained
        return bool(view and trained and view.store.path == trained.store)

    def _put_away(self) -> bool:
        """Other labels are shown; what is kept with these is offered with them."""
        self.comparison.remove(later=True)
        self.result.set_here(self._here)
        if self._outcome is None or not drafts.is_with_labels(self._outcome.path):
            return False
        self._outcome, self._status = None, ""
        self.result.hide()
        return True

    def _ask_undecided(self) -> None:
        view = self._view
        if view is None:
            return

        def found(
            draft: "tuple[FineTuneFinished, Path | work.NewModel] | None",
        ) -> None:
            busy = self._training is not None or self._outcome is not None
            if draft is not None and view is self._view and not busy:
                self._offer(view, *draft)

        self._workers.call(drafts.find_draft, view.store.path, returned=found)

    def _offer(
        self, view: LabelsView, draft: FineTuneFinished, start: "Path | work.NewModel"
    ) -> None:
        """Let the person decide on what an earlier window has learnt."""
        settings = FineTuneSettings(device=self._hardware.device or "auto")
        self._trained = work.FineTuneRequest(
            view.image, view.store.path, start, settings, self._hardware.budget_bytes
        )
        self._target = work.next_version(self._trained)
        self._status = (
            "A model was trained earlier on these labels: keep or discard it."
        )
        self._show_outcome(draft, into_sight=False)
        self.bar.idle(UNDECIDED, self._status)
        show_info(LEFT)

    def _show_outcome(
        self, outcome: FineTuneFinished, *, into_sight: bool = True
    ) -> None:
        self._outcome = outcome
        self.result.set_here(self._here)
        legend = self._view.legend if self._view and self._here else None
        self.result.show_outcome(outcome, legend, into_sight=into_sight)

    def discard(self) -> None:
        """Forget what was learnt."""
        self._decided("Discarded. The original checkpoint is unchanged.")

    def keep(self, target: Path) -> None:
        """Make what was learnt a checkpoint there, and choose it."""
        outcome = self._outcome
        if outcome is not None:
            self.result.setEnabled(False)
            self._workers.call(
                work.save_as,
                outcome.path,
                target,
                returned=lambda path: self._kept(path, outcome.path),
                finished=lambda: self.result.setEnabled(True),
            )

    def _ask_name(self) -> None:
        path = ask_checkpoint(self, "Save checkpoint as", self._target)
        if path is not None:
            self.keep(path)

    def _kept(self, path: Path, draft: Path) -> None:
        if self._outcome is not None and self._outcome.path == draft:
            self._decided(f"Saved as {path.name} and chosen under Segment.")
        else:  # other labels are shown by now, with what was learnt from those
            drafts.delete_draft(draft)
        self.form.follow()
        self.checkpointWanted.emit(path)

    def _decided(self, status: str) -> None:
        if self._outcome is not None:
            drafts.delete_draft(self._outcome.path)
        self._outcome = None
        self.comparison.remove()
        self.result.hide()
        self._status = status
        self.bar.idle(LOOKING, status)
        self.refresh()
        QTimer.singleShot(50, self._after_into_sight)  # when the layout has changed

    def _after_into_sight(self) -> None:
        scroll_to(self.rerun)

    def _toggle_changes(self) -> None:
        view, outcome, request = self._view, self._outcome, self._trained
        if view and outcome and request and self._here:
            self.comparison.toggle(view, request, outcome.path)
