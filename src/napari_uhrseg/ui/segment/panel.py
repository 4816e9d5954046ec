"""Segment panel: choose a model and settings, see the plan, run it.

The panel is a state machine; ``state.py`` has its states and transitions.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QWidget
from superqt.utils import qdebounced

from napari_uhrseg.errors import PlanError, UhrSegError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.layers.label_layers import LabelsView, same_image
from napari_uhrseg.ui.segment import worker as work
from napari_uhrseg.ui.segment.outcomes import RunOutcomes, ShownPlan
from napari_uhrseg.ui.segment.restore_run import restore_run
from napari_uhrseg.ui.segment.run_controller import RunController
from napari_uhrseg.ui.segment.run_questions import decide
from napari_uhrseg.ui.segment.settings import SegmentForm
from napari_uhrseg.ui.segment.state import BUSY, SegmentState
from napari_uhrseg.ui.segment.view_history import ViewHistory
from napari_uhrseg.ui.widgets.class_list import ClassList
from napari_uhrseg.ui.widgets.layout import column_of, note
from napari_uhrseg.ui.widgets.run_controls import RunControls
from napari_uhrseg.ui.workers.worker import Worker, Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

PLANNING = "Planning…"
PREPARING = "Preparing the run…"


class SegmentPanel(QWidget):
    """Form of a run, its plan, its controls, and the class list of the labels."""

    viewChanged = Signal(object)  # LabelsView | None: the labels shown and corrected
    inputChanged = Signal(str)  # bands and value range of the planned run, or empty
    busyChanged = Signal(bool)  # True when a run is being prepared or is in progress

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self._viewer, self._workers = viewer, workers
        self._layer: Any = None
        self._image: Image | None = None
        self._state = SegmentState.PLANNING
        self._outcomes = RunOutcomes()  # of the last runs, until the form changes
        self._shown_plan = ShownPlan()
        self._plan_number = 0  # a plan with another number is out of date
        self._plan_is_current = False
        self._preparation: Worker | None = None
        self._prepared: work.PreparedRun | None = None
        self._run: RunController | None = None
        self.views = ViewHistory(viewer)
        self._view: LabelsView | None = None
        self._blocked = ""  # reason why no run can start
        self.form = SegmentForm(viewer, workers)
        self.model, self.output = self.form.model, self.form.output
        self.plan = note()
        self.plan.setAccessibleName("Plan")
        self.plan.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.bar = RunControls()
        self.legend = ClassList()
        self.setLayout(column_of(self.form, self.plan, self.bar, self.legend))
        self._later = qdebounced(self._replan, timeout=250, parent=self)
        self.form.changed.connect(self.replan)
        camera = viewer.scene.camera.events
        self._camera = (camera.center, camera.zoom)
        for event in self._camera:
            event.connect(self._moved)
        self.bar.started.connect(self.start)
        self.bar.cancelled.connect(self._cancel)
        self.legend.visibilityChanged.connect(self._show_class)
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._layer_removed)
        self.replan()

    @property
    def state(self) -> SegmentState:
        """State of the panel."""
        return self._state

    def set_image(self, layer: Any, image: Image | None) -> None:
        """Set the image to segment and the layer that shows it; None: no image."""
        other = not same_image(image, self._image)
        self._layer, self._image = layer, image
        self._outcomes.set_image(image)
        self.form.tissue.set_image(layer, image)
        if not other:
            self.replan()
            return
        plan = self._shown_plan.of(image)
        self.plan.setText(plan.text)
        self.plan.setVisible(bool(plan.text))
        self.inputChanged.emit(plan.input)
        with self._outcomes.kept():  # the form changes because of the image
            self.output.set_image(image)
            self.model.suit(image)
            self._show_view(self.views.of_image(image))
            self.replan()

    @property
    def view(self) -> LabelsView | None:
        """Displayed labels of the image, or None."""
        return self._view

    def segment_again(self, path: Path, only_likely: bool) -> None:
        """Segment again with a checkpoint, and replace the displayed labels.

        Corrections are kept.

        Parameters
        ----------
        path
            File of the checkpoint.
        only_likely
            If True, run only the current view and the regions whose labels will most
            likely change.
        """
        self.model.use(path, partial(self._segment_again, only_likely))

    def set_blocked(self, why: str) -> None:
        """Block runs for a reason; an empty text allows runs again."""
        self._blocked = why
        self.replan()

    def replan(self) -> None:
        """Plan again, after a short delay."""
        self._plan_is_current = False
        if self._state in BUSY:
            return  # the plan is made when the run ends
        self._plan_number += 1
        self._outcomes.clear()
        if self._blocked:
            self._render(SegmentState.BLOCKED, self._blocked)
        else:
            self._later()

    def start(self) -> None:
        """Prepare the run that the form describes, then run it."""
        try:
            request = self.form.request(self._image, self._layer)
        except PlanError as error:
            report(error)
            return
        self._begin(SegmentState.PREPARING)
        self._prepare(request, self._layer)

    def stop(self) -> None:
        """Disconnect from the viewer. Called when the panel closes."""
        self._later.cancel()
        self.form.where.stop()
        self.form.tissue.stop()
        for event in self._camera:
            event.disconnect(self._moved)
        self._removed.disconnect(self._layer_removed)
        if self._run is not None:
            self._run.stop()

    def _render(self, state: SegmentState, why_not: str = "") -> None:
        """Enter a state: set all widgets that depend on it.

        ``why_not`` is the reason of `BLOCKED` and `INCOMPLETE`.
        """
        self._state = state
        self.form.set_running(state in BUSY)
        if state in (SegmentState.PLANNING, SegmentState.INCOMPLETE):
            self.plan.setText("")
        self.plan.setVisible(bool(self.plan.text()))
        outcome = self._outcomes.text
        match state:
            case SegmentState.BLOCKED:
                self.bar.idle(why_not, outcome)
            case SegmentState.INCOMPLETE:
                self.bar.idle(why_not, f"{outcome} {why_not}".strip())
            case SegmentState.PLANNING:
                self.bar.idle(PLANNING, outcome)
            case SegmentState.READY:
                self.bar.idle("", outcome)
            case SegmentState.PREPARING:
                self.bar.preparing(PREPARING)
            case SegmentState.RUNNING:
                self.bar.running(PREPARING)

    def _moved(self) -> None:
        if self.form.where.follows_view:
            self.replan()

    def _replan(self) -> None:
        if self._state in BUSY or self._blocked:
            return
        try:
            request = self.form.request(self._image, self._layer)
        except PlanError as error:
            self._not_planned(error)
            return
        number = self._plan_number
        self._render(SegmentState.PLANNING)

        def if_current(act: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda x: act(x) if number == self._plan_number else None

        self._workers.call(
            work.plan,
            request,
            returned=if_current(self._planned),
            errored=if_current(self._not_planned),
        )

    def _planned(self, plan: Any) -> None:
        lines = ["Plan: " + plan.summary(), "Input: " + plan.input, *plan.warnings]
        lines += [question.text for question in plan.questions]
        self._shown_plan = ShownPlan(self._image, "\n".join(lines), plan.input)
        self.plan.setText(self._shown_plan.text)
        self.inputChanged.emit(plan.input)
        self._plan_is_current = True
        self._render(SegmentState.READY)

    def _not_planned(self, error: Exception) -> None:
        if not isinstance(error, UhrSegError):
            report(error)
        self._render(SegmentState.INCOMPLETE, str(error))

    def _set_prepared(self, prepared: work.PreparedRun) -> None:
        self._prepared = prepared

    def _prepare(self, request: work.SegmentRequest, layer: Any) -> None:
        view = self.views.at_output(request)
        self._preparation = self._workers.call(
            work.prepare,
            request,
            view.store if view is not None else None,
            returned=self._set_prepared,
            finished=partial(self._preparation_ended, layer, view),
        )

    def _preparation_ended(self, layer: Any, view: LabelsView | None) -> None:
        """Run after the user has decided; end if that failed or was cancelled."""
        self._preparation = None
        prepared, self._prepared = self._prepared, None
        decided = None if prepared is None else decide(self, prepared)
        if decided is None:
            self._end("")
            return
        self.form.set_settings(decided.answers)
        request = decided.request
        if decided.action == "prepare":
            self._prepare(request, layer)
            return
        if decided.action == "other":
            view = None
            self.output.use(request.output)
        self._start_run(request, layer, view, decided.action == "replace")

    def _start_run(
        self,
        request: work.SegmentRequest,
        layer: Any,
        view: LabelsView | None,
        replacing: bool,
    ) -> None:
        shown = view.store if view is not None and view.alive else None
        self.bar.name_subject(f"Segmenting {request.image.name}")
        run = self._run = RunController(self._viewer, layer, self.bar, self)
        run.view, run.image = view, request.image
        run.opened.connect(self._opened)
        run.counted.connect(self._counted)
        run.ended.connect(self._end)
        run.start(self._workers, request, replacing, shown)
        self._render(SegmentState.RUNNING)

    def _segment_again(self, only_likely: bool) -> None:
        view = self._view
        try:
            if view is None or self._blocked or self._state in BUSY:
                why = self._blocked or "There are no labels to segment again."
                raise PlanError(why)
            request = self.form.request(self._image, self._layer)
        except PlanError as error:
            report(error)
            return
        store = view.store
        region = store.runs[-1].region if store.runs else None
        request = replace(
            request,
            output=None if store.temporary else store.path,
            settings=replace(request.settings, region=region),
            only_likely=only_likely,
            accepted=True,
        )
        self._begin(SegmentState.RUNNING)
        self._start_run(request, self._layer, view, replacing=True)

    def _opened(self, view: LabelsView) -> None:
        """Show labels that were added to the viewer, if their image is chosen."""
        self.views.put_last(view)
        if same_image(view.image, self._image):
            self._show_view(view)
        else:
            view.hide()

    def _show_view(self, view: LabelsView | None) -> None:
        """Set the labels that this panel shows and the other panels correct."""
        self._view = view
        self.form.tissue.set_store(None if view is None else view.store)
        # Emit first: a comparison with other labels shows those labels when it ends.
        self.viewChanged.emit(view)
        if view is None:
            self.views.hide()
            self.output.set_shown(None)
            self.legend.set_legend(())
            return
        self.views.show_only(view)
        self.show_legend(view)
        path = None if view.store.temporary else view.store.path
        self.output.set_shown(path)
        self.output.use(path)

    def _counted(self, view: LabelsView, shares: dict[int, float], new: bool) -> None:
        if view is not self._view:
            return
        if new:
            self.legend.set_legend(view.classes, view.hidden)
        self.legend.set_shares(shares)

    def _layer_removed(self) -> None:
        self.views.remove_confidence()
        if self._view is not None and not self._view.alive:
            self._show_view(self.views.of_image(self._image))

    def show_labels(self, store: "LabelStore", image: Image) -> None:
        """Show labels from disk, which the next run then continues."""
        known = self.views.of_store(store.path)
        if known is not None:
            store.close()
        elif self._state not in BUSY:
            restore_run(self.form, self._workers, store, image)
            self.form.tissue.restore(store, image)
        self._opened(known or LabelsView(self._viewer, store, image))

    def show_legend(self, view: LabelsView) -> None:
        """Show the classes of these labels and their shares of the area."""
        self.legend.set_legend(view.classes, view.hidden)
        self.legend.set_shares(view.store.area_shares())

    def _begin(self, state: SegmentState) -> None:
        self._plan_number += 1  # a plan that is being made would end this state
        self._render(state)
        self.busyChanged.emit(True)

    def _end(self, outcome: str) -> None:
        """Leave a busy state, and show the outcome with its image."""
        if self._run is not None:
            self._run.deleteLater()
            self._outcomes.put(self._run.image, outcome)
        else:  # the run was not started
            self._outcomes.clear()
        self._run = None
        if self._blocked:
            self._render(SegmentState.BLOCKED, self._blocked)
        elif self._plan_is_current:
            self._render(SegmentState.READY)
        else:
            self._render(SegmentState.PLANNING)
            self._replan()
        self.busyChanged.emit(False)

    def _cancel(self) -> None:
        """Cancel the preparation; the controller of a run cancels the run."""
        if self._preparation is not None:
            self._preparation.quit()
            self.bar.ending()

    def _show_class(self, class_id: int, shown: bool) -> None:
        if self._view is not None:
            self._view.show_class(class_id, shown)
