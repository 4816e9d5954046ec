"""The Segment part: the form becomes a request, the request a plan, then a run."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_uhrseg.errors import PlanError, UhrSegError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import unused_path
from napari_uhrseg.ui.layers.label_layers import KEY, STORE, LabelsView, same_image
from napari_uhrseg.ui.segment import worker as work
from napari_uhrseg.ui.segment.run_controller import RunController
from napari_uhrseg.ui.segment.settings import SegmentForm
from napari_uhrseg.ui.widgets.class_list import ClassList
from napari_uhrseg.ui.widgets.dialogs import ask_replace_labels
from napari_uhrseg.ui.widgets.layout import note
from napari_uhrseg.ui.widgets.run_controls import RunControls
from napari_uhrseg.ui.workers.worker import Worker, Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

PLANNING = "Planning…"
PREPARING = "Preparing the run…"


class SegmentPanel(QWidget):
    """Model, device, place and output; the plan; the run; the legend."""

    viewChanged = Signal(object)  # LabelsView | None: what is shown and corrected
    busyChanged = Signal(bool)  # whether a run goes on

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self._viewer, self._workers = viewer, workers
        self._layer: Any = None
        self._image: Image | None = None
        self._plan_number = 0
        self._up_to_date = False  # whether the plan shown is of the form as it is
        self._outcome = ""  # of the last run, until something is changed after it
        self._running: RunController | None = None
        self._preparing: Worker | None = None
        self._ready: work.PreparedRun | None = None
        self._occupied = False  # from Segment pressed until the run has ended
        self._views: list[LabelsView] = []  # the one shown last comes last
        self._view: LabelsView | None = None
        self._blocked = ""  # why no run can start, other than the form
        self.form = SegmentForm(viewer, workers)
        self.model, self.output = self.form.model, self.form.output
        self.plan = note()
        self.plan.setAccessibleName("Plan")
        self.plan.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.bar = RunControls()
        self.legend = ClassList()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.form, self.plan, self.bar, self.legend):
            layout.addWidget(part)
        self._later = qdebounced(self._replan, timeout=250, parent=self)
        self.form.changed.connect(self.replan)
        camera = viewer.scene.camera.events
        self._camera = (camera.center, camera.zoom)
        for event in self._camera:
            event.connect(self._moved)
        self.bar.started.connect(self.start)
        self.bar.pauseToggled.connect(self._toggle_pause)
        self.bar.cancelled.connect(self._cancel)
        self.legend.visibilityChanged.connect(self._show_class)
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._layer_removed)
        self.replan()

    def set_image(self, layer: Any, image: Image | None) -> None:
        """Segment this image, shown by this layer; None while there is none."""
        other = not same_image(image, self._image)
        self._layer, self._image = layer, image
        if other:
            self.output.set_image(image)
            self._turn_to(self._view_of(image))
        self.replan()

    @property
    def view(self) -> LabelsView | None:
        """The labels that are shown of the image, if any."""
        return self._view

    def segment_again(self, path: Path, only_likely: bool) -> None:
        """Label what is shown again with this checkpoint, replacing others' labels.

        ``only_likely`` ends after what is in view and where labels will most likely
        be others. What was corrected stays.
        """
        self.model.use(path, partial(self._segment_again, only_likely))

    def set_blocked(self, why: str) -> None:
        """No run may start, and why; "" if one may again."""
        self._blocked = why
        self.replan()

    def replan(self) -> None:
        """The form has changed: plan again, a moment after the last change."""
        self._up_to_date = False
        if self._occupied:
            return  # made up for when the run ends
        self._plan_number += 1
        self._outcome = ""
        if self._blocked:
            self.bar.idle(self._blocked)
        else:
            self._later()

    def start(self) -> None:
        """Segment was pressed."""
        try:
            request = self.form.request(self._image, self._layer)
        except PlanError as error:
            report(error)
            return
        self._busy()
        view = self._view_at(request)
        self._preparing = self._workers.call(
            work.prepare,
            request,
            view.store if view is not None else None,
            returned=self._prepared,
            finished=partial(self._go_on, self._layer, view),
        )

    def stop(self) -> None:
        """The panel is going: let go of the viewer."""
        self._later.cancel()
        self.form.where.stop()
        for event in self._camera:
            event.disconnect(self._moved)
        self._removed.disconnect(self._layer_removed)
        if self._running is not None:
            self._running.stop()

    def _moved(self) -> None:
        if self.form.where.follows_view:
            self.replan()

    def _replan(self) -> None:
        if self._occupied or self._blocked:
            return
        try:
            request = self.form.request(self._image, self._layer)
        except PlanError as error:
            self._not_planned(error)
            return
        number = self._plan_number
        self.plan.hide()
        self.bar.idle(PLANNING, self._outcome)

        def mine(act: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda x: act(x) if number == self._plan_number else None

        self._workers.call(
            work.plan,
            request,
            returned=mine(self._planned),
            errored=mine(self._not_planned),
        )

    def _planned(self, plan: Any) -> None:
        self.plan.setText("\n".join(["Plan: " + plan.summary(), *plan.warnings]))
        self.plan.show()
        self._up_to_date = True
        self.bar.idle("", self._outcome)

    def _not_planned(self, error: Exception) -> None:
        if not isinstance(error, UhrSegError):
            report(error)
        self.plan.hide()
        self.bar.idle(str(error), f"{self._outcome} {error}".strip())

    def _prepared(self, prepared: work.PreparedRun) -> None:
        self._ready = prepared

    def _go_on(self, layer: Any, view: LabelsView | None) -> None:
        """The preparation has ended: run, ask, or (cancelled, failed) do nothing."""
        self._preparing = None
        prepared, self._ready = self._ready, None
        if prepared is None:
            self._idle("")
            return
        request, answer = prepared.request, ""
        if prepared.replaces:
            store = None if request.output is None else str(request.output)
            answer = ask_replace_labels(self, store, prepared.replaces) or "nothing"
        if answer == "other":
            view = None
            if request.output is not None:
                request = replace(request, output=unused_path(request.output))
                self.output.use(request.output)
        if answer == "nothing":
            self._idle("")
        else:
            self._run(request, layer, view, answer == "replace")

    def _run(
        self,
        request: work.SegmentRequest,
        layer: Any,
        view: LabelsView | None,
        replacing: bool,
    ) -> None:
        kept = view.store if view is not None and view.alive else None
        run = RunController(self._viewer, layer, self.bar, self)
        run.view = view
        run.opened.connect(self._opened)
        run.counted.connect(self._counted)
        run.ended.connect(self._idle)
        self._running = run
        run.start(self._workers, request, replacing, kept)
        self.bar.running(PREPARING)

    def _segment_again(self, only_likely: bool) -> None:
        view = self._view
        try:
            if view is None or self._blocked or self._occupied:
                why = self._blocked or "There is nothing to segment again."
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
        )
        self._busy()
        self._run(request, self._layer, view, replacing=True)

    def _opened(self, view: LabelsView) -> None:
        """Labels are in the viewer; those of another image wait until it is chosen."""
        self._views = [other for other in self._views if other is not view] + [view]
        if same_image(view.image, self._image):
            self._turn_to(view)
        else:
            view.hide()

    def _turn_to(self, view: LabelsView | None) -> None:
        """All that the panel says of labels it says of these from now on."""
        self._view = view
        # first of all: what was compared with other labels shows those as it ends
        self.viewChanged.emit(view)
        if view is None:
            self.legend.set_legend(())
            return
        self._views = [other for other in self._views if other is not view] + [view]
        for other in self._views[:-1]:  # two label layers would mix their colours
            other.hide()
        view.show()
        self.show_legend(view)
        self.output.use(None if view.store.temporary else view.store.path)

    def _counted(self, view: LabelsView, shares: dict[int, float], new: bool) -> None:
        if view is not self._view:
            return
        if new:
            self.legend.set_legend(view.classes, view.hidden)
        self.legend.set_shares(shares)

    def _view_of(self, image: Image | None) -> LabelsView | None:
        """The labels of an image that are in the viewer, the latest of them."""
        found = (
            view
            for view in reversed(self._views)
            if view.alive and same_image(view.image, image)
        )
        return next(found, None)

    def _view_at(self, request: work.SegmentRequest) -> LabelsView | None:
        """The labels in the viewer that are at the request's output, if any."""

        def there(view: LabelsView) -> bool:
            if request.output is None:
                return view.store.temporary and same_image(view.image, request.image)
            return str(view.store.path) == str(request.output.absolute())

        return next((v for v in reversed(self._views) if v.alive and there(v)), None)

    def _layer_removed(self) -> None:
        for view in self._views:
            if not view.alive:  # its confidence goes too, when napari is done removing
                QTimer.singleShot(0, view.remove)
        if self._view is not None and not self._view.alive:
            self._turn_to(self._view_of(self._image))

    def show_labels(self, store: "LabelStore", image: Image) -> None:
        """Show labels that are on disk; Segment then goes on in them."""
        known = next(
            (v for v in self._views if v.alive and v.store.path == store.path), None
        )
        if known is not None:
            store.close()
        self._opened(known or LabelsView(self._viewer, store, image))

    def adopt(self) -> None:
        """Take over the labels of a panel that was closed, those in sight last."""
        layers = [x for x in self._viewer.layers if type(x).__name__ == "Labels"]
        for layer in sorted(layers, key=lambda x: bool(x.visible)):
            store, image = (layer.metadata.get(key) for key in (STORE, KEY))
            if store is not None and image is not None:
                self._views.append(LabelsView(self._viewer, store, image, layer))

    def show_legend(self, view: LabelsView) -> None:
        """The classes of the labels shown, and their shares."""
        self.legend.set_legend(view.classes, view.hidden)
        self.legend.set_shares(view.store.area_shares())

    def _busy(self) -> None:
        self._occupied = True
        self._plan_number += 1  # a plan that is being made would say that none runs
        self.busyChanged.emit(True)
        self.form.set_running(True)
        self.bar.preparing(PREPARING)

    def _idle(self, status: str) -> None:
        if self._running is not None:
            self._running.deleteLater()
        self._running, self._occupied = None, False
        self.form.set_running(False)
        self._outcome = status
        self.bar.idle(self._blocked, status)
        if not self._up_to_date:
            self._replan()
        self.busyChanged.emit(False)

    def _toggle_pause(self) -> None:
        if self._running is not None:
            self._running.toggle_pause()

    def _cancel(self) -> None:
        if self._preparing is not None:
            self._preparing.quit()
            self.bar.ending()
        if self._running is not None:
            self._running.cancel()

    def _show_class(self, class_id: int, shown: bool) -> None:
        if self._view is not None:
            self._view.show_class(class_id, shown)
