"""The Segment part: the form becomes a request, the request a plan, then a run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_uhrseg.errors import PlanError, UhrSegError
from napari_uhrseg.io.image import Image
from napari_uhrseg.types import SegmentSettings
from napari_uhrseg.ui import run as work
from napari_uhrseg.ui.form import Form
from napari_uhrseg.ui.hardware import HardwarePart
from napari_uhrseg.ui.jobs import Job, Jobs, report
from napari_uhrseg.ui.layers import LabelsView
from napari_uhrseg.ui.legend import LegendList
from napari_uhrseg.ui.model import ModelPart
from napari_uhrseg.ui.output import OutputPart, WherePart, ask_about, free_name
from napari_uhrseg.ui.rows import add_row, fold, form_of, note
from napari_uhrseg.ui.runbar import RunBar
from napari_uhrseg.ui.running import Running

MORE = ("precision", "scale", "bands", "value_range", "skip_glass")


class SegmentPart(QWidget):
    """Model, device, place and output; the plan; the run; the legend."""

    def __init__(self, viewer: Any, jobs: Jobs) -> None:
        super().__init__()
        self._viewer, self._jobs = viewer, jobs
        self._layer: Any = None
        self._image: Image | None = None
        self._plan_number = 0
        self._running: Running | None = None
        self._preparing: Job | None = None
        self._occupied = False  # from Segment pressed until the run has ended
        self._views: dict[str, LabelsView] = {}  # by output, or by image
        self._view: LabelsView | None = None
        self._key = ""
        self.model = ModelPart(jobs)
        self.hardware = HardwarePart(jobs)
        self.where = WherePart(viewer)
        self.overlap = Form(SegmentSettings, ("overlap",))
        self.more = Form(SegmentSettings, MORE)
        self.output = OutputPart()
        self.plan = note()
        self.plan.setAccessibleName("Plan")
        self.plan.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.bar = RunBar()
        self.legend = LegendList()
        self._form = QWidget()
        self._lay_out()
        self._later = qdebounced(self._replan, timeout=250, parent=self)
        for part in (
            self.model, self.hardware, self.where, self.overlap, self.more, self.output,
        ):  # fmt: skip
            part.changed.connect(self.replan)
        camera = viewer.scene.camera.events
        self._camera = (camera.center, camera.zoom)
        for event in self._camera:
            event.connect(self._moved)
        self.bar.started.connect(self.start)
        self.bar.pauseToggled.connect(self._toggle_pause)
        self.bar.cancelled.connect(self._cancel)
        self.legend.visibilityChanged.connect(self._show_class)
        self.replan()

    def set_image(self, layer: Any, image: Image | None) -> None:
        """Segment this image, shown by this layer; None while there is none."""
        if _identity(image) != _identity(self._image):
            self.output.set_image(image)
        self._layer, self._image = layer, image
        self.replan()

    def request(self) -> work.Request:
        """What the form says now.

        Raises
        ------
        PlanError
            Something is missing or cannot be; the message says what.
        """
        if self._image is None:
            raise PlanError("Open an image, or choose an image layer, first.")
        if self.model.path is None:
            raise PlanError("Choose a checkpoint first.")
        if self.hardware.device is None:
            raise PlanError("Looking for devices…")
        try:
            values = self.overlap.values() | self.more.values()
        except ValueError as error:
            raise PlanError(str(error)) from error
        settings = SegmentSettings(
            device=self.hardware.device,
            region=self.where.region(self._layer),
            threads=work.free_threads(),
            **values,
        )
        return work.Request(
            self._image,
            self.model.path,
            settings,
            self.hardware.budget_bytes,
            self.output.path,
        )

    def replan(self) -> None:
        """The form has changed: plan again, a moment after the last change."""
        if not self._occupied:
            self._plan_number += 1
            self._later()

    def start(self) -> None:
        """Segment was pressed."""
        try:
            request = self.request()
        except PlanError as error:
            report(error)
            return
        self._busy("Preparing the run…")
        self._preparing = self._jobs.call(
            work.prepare, request, returned=self._prepared, finished=self._not_prepared
        )

    def stop(self) -> None:
        """The panel is going: let go of the viewer."""
        self._later.cancel()
        self.where.stop()
        for event in self._camera:
            event.disconnect(self._moved)
        if self._running is not None:
            self._running.stop()

    def _lay_out(self) -> None:
        form = form_of(self._form)
        form.addRow(self.model)
        form.addRow(self.hardware)
        add_row(form, "&Where", self.where)
        form.addRow(self.overlap)
        form.addRow(fold("More settings", self.more))
        form.addRow(self.output)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self._form, self.plan, self.bar, self.legend):
            layout.addWidget(part)

    def _moved(self) -> None:
        if self.where.follows_view:
            self.replan()

    def _replan(self) -> None:
        if self._occupied:
            return
        try:
            request = self.request()
        except PlanError as error:
            self.plan.hide()
            self.bar.idle(str(error))
            return
        number = self._plan_number
        self.plan.setText("Planning…")
        self.plan.show()

        def mine(act: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda x: act(x) if number == self._plan_number else None

        self._jobs.call(
            work.plan,
            request,
            returned=mine(self._planned),
            errored=mine(self._not_planned),
        )

    def _planned(self, plan: Any) -> None:
        self.plan.setText("\n".join(["Plan: " + plan.summary(), *plan.warnings]))
        self.bar.idle("")

    def _not_planned(self, error: Exception) -> None:
        if not isinstance(error, UhrSegError):
            report(error)
        self.plan.hide()
        self.bar.idle(str(error))

    def _not_prepared(self) -> None:
        """The preparation has ended; where no run followed, nothing goes on."""
        self._preparing = None
        if self._running is None:
            self._idle("")

    def _prepared(self, prepared: work.Prepared) -> None:
        request, replacing = prepared.request, False
        if prepared.replaces and request.output is not None:
            answer = ask_about(self, request.output, prepared.replaces)
            if answer is None:
                return
            replacing = answer == "replace"
            if answer == "other":
                request = replace(request, output=free_name(request.output))
        self._run(request, replacing)

    def _run(self, request: work.Request, replacing: bool) -> None:
        self._key = str(request.output or request.image.fingerprint)
        view = self._views.get(self._key)
        kept = view.store if view and view.alive and view.store.temporary else None
        run = Running(self._viewer, self._layer, self.bar, self.legend, self)
        run.view = view if kept else None
        run.opened.connect(self._opened)
        run.ended.connect(self._idle)
        self._running = run
        run.start(self._jobs, request, replacing, kept)

    def _opened(self, view: LabelsView) -> None:
        before = self._views.get(self._key)
        if before is not None and before is not view:
            before.remove()
        self._views[self._key] = self._view = view

    def _busy(self, status: str) -> None:
        self._occupied = True
        self._form.setEnabled(False)
        self._form.setToolTip("A run is going on: its settings cannot change.")
        self.bar.running(status)

    def _idle(self, status: str) -> None:
        self._running, self._occupied = None, False
        self._form.setEnabled(True)
        self._form.setToolTip("")
        self.bar.idle("", status)

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


def _identity(image: Image | None) -> object:
    """The same for all planes of an image."""
    return None if image is None else (image.path, image.fingerprint)
