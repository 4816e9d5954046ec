"""Live preview: labels of what is in view, from a pixel classifier, while one paints.

::

    stroke written, or view at rest -> request; a running job ends at its next step
    job (one worker)                -> features, training, labels part by part
    Keep and segment all            -> checkpoint, then a run of all (by the panel)
"""

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_uhrseg.engine.events import LiveLabels, LiveView
from napari_uhrseg.models.registry import LIVE_MODEL
from napari_uhrseg.types import FineTuneSettings, Roi
from napari_uhrseg.ui.finetune import live_worker
from napari_uhrseg.ui.finetune.live_layer import LiveLayer
from napari_uhrseg.ui.finetune.worker import FineTuneRequest, NewModel, next_version
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.layers.viewport import view_rectangle
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.widgets.layout import note, push_button, row_of
from napari_uhrseg.ui.workers.worker import Worker, Workers, report
from napari_uhrseg.units import formatted

NO_LABELS = "Create new labels first, then paint two classes."
NOT_PAINTING = "Press Correct and paint two classes to see labels of the view."
OFF = "Live preview is off."
NO_CLASS = "Paint two classes to see labels."
ONE_CLASS = "Paint a second class to see labels."
WORKING, SHOWN = "Updating the labels…", "The labels of the view are up to date."
MIDDLE = "The view is too large: labels are shown in its middle. Zoom in to see all."
READING = "The features of the view are being computed."
NOT_IN_VIEW = "The image is not in view."
RESTED_MS = 200  # time until a view that was moved is at rest
REGIONS_FOR_NETWORK = 4  # regions of corrections, as many as validation needs


class LivePreview(QWidget):
    """Switch, status and buttons of the live preview; hidden for other models.

    It is active while the user paints, if the model to train is a pixel classifier.
    """

    kept = Signal(object)  # path of the checkpoint with which all is to be segmented
    networkWanted = Signal()
    liveChosen = Signal(bool)  # True: the chosen model is trained while painting
    covered = Signal(bool)  # True: labels of a run would hide the live labels

    def __init__(self, viewer: Any, workers: Workers, hardware: HardwareForm) -> None:
        super().__init__()
        self._viewer, self._workers, self._hardware = viewer, workers, hardware
        self._view: LabelsView | None = None
        self._start: Path | NewModel | None = None
        self._fits = self._painting = self._stopped = False
        self._blocked, self._outcome = "", ""
        self._counts: dict[int, int] = {}
        self._session: live_worker.LiveSession | None = None
        self._classes: tuple[int, ...] = ()  # of the session
        self._layer: LiveLayer | None = None
        self._worker: Worker | None = None
        self._again = self._keeping = self._covering = False
        self._stroke: Roi | None = None
        self._shown = SHOWN  # status between two jobs
        self._lay_out()
        self._rested = qdebounced(self._request, timeout=RESTED_MS, parent=self)
        camera, canvas = viewer.scene.camera.events, viewer.canvas.events
        self._events = (camera.center, camera.zoom, canvas.size)
        for event in self._events:
            event.connect(self._moved)
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._layer_removed)

    def _make_switch(self) -> QCheckBox:
        switch = QCheckBox("Live preview")
        switch.setToolTip(
            "Show the labels of what is in view while you paint. They are predicted by "
            "a pixel classifier, which is trained after each stroke."
        )
        switch.setChecked(True)
        switch.toggled.connect(lambda _: self._update())
        return switch

    def _lay_out(self) -> None:
        self.switch = self._make_switch()
        self.status = note()
        self.status.setAccessibleName("Live preview status")
        self.keep = push_button(
            "Keep and segment all",
            "Save the pixel classifier as a checkpoint, and segment the image with it.",
            self._keep,
        )
        self.network = push_button(
            "Train a network…",
            "Train a network from the same corrections, and compare it with the pixel "
            "classifier on regions that neither was trained on.",
            self.networkWanted.emit,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.switch, self.status, row_of(self.keep, self.network)):
            layout.addWidget(widget)
        self.network.hide()
        self.hide()

    @property
    def layer(self) -> Any:
        """Layer of the live labels, or None while the preview is not active."""
        return self._layer.layer if self._layer is not None else None

    @property
    def working(self) -> bool:
        """True while a worker computes or saves."""
        return self._worker is not None

    # -- input from the panels ----------------------------------------------------

    def set_view(self, view: LabelsView | None) -> None:
        """Set the labels that are painted on."""
        if view is self._view:
            return
        if self._view is not None:
            self._view.legendChanged.disconnect(self._update)
        self._end(later=True)
        self._view, self._counts, self._outcome = view, {}, ""
        if view is not None:
            view.legendChanged.connect(self._update)
        self._update()

    def set_start(self, start: Path | NewModel | None) -> None:
        """Set the model that is chosen for training."""
        if start == self._start:
            return
        self._end()
        self._start, self._fits = start, False
        if isinstance(start, NewModel):
            self._fits = start.method == LIVE_MODEL
        elif start is not None:

            def found(fits: bool) -> None:
                if start == self._start:
                    self._fits = fits
                    self._update()

            # an unreadable checkpoint is reported where it is chosen
            self._workers.call(
                live_worker.is_pixel_classifier, start, returned=found,
                errored=lambda _: None,
            )  # fmt: skip
        self._update()

    def set_painting(self, painting: bool) -> None:
        """Set whether the user paints corrections."""
        self._painting = painting
        self._update()

    def set_blocked(self, why: str) -> None:
        """Set the work that needs the memory budget; empty: there is none."""
        self._blocked = why
        self._update()

    def set_counts(self, counts: dict[int, int]) -> None:
        """Set the number of painted pixels by class id."""
        self._counts = {i: n for i, n in counts.items() if n}
        self._tell()

    def set_regions(self, count: int) -> None:
        """Offer a network if the corrections have enough separate regions."""
        self.network.setVisible(count >= REGIONS_FOR_NETWORK)

    def painted(self, stroke: Roi | None) -> None:
        """Train again after a change of the corrections."""
        self._stroke, self._outcome = stroke, ""
        self._request()

    def stop(self) -> None:
        """Disconnect from the viewer, and remove the layer."""
        self._stopped = True
        self._rested.cancel()
        for event in self._events:
            event.disconnect(self._moved)
        self._removed.disconnect(self._layer_removed)
        self._end()

    # -- state --------------------------------------------------------------------

    def _why_not(self) -> str:
        """Return why the preview is not active; empty: it is active."""
        if self._view is None:
            return NO_LABELS
        if not self.switch.isChecked():
            return OFF
        if self._blocked:
            return f"{self._blocked} Labels appear again when it has ended."
        return "" if self._painting else NOT_PAINTING

    def _update(self) -> None:
        """Begin or end the preview, as the inputs require."""
        self.setVisible(self._fits)
        self.liveChosen.emit(self._fits)
        active = self._fits and not self._why_not() and not self._stopped
        classes = tuple(c.id for c in self._view.classes) if self._view else ()
        if self._session is not None and (not active or classes != self._classes):
            self._end()
        if active and self._session is None:
            self._begin(classes)
        self._tell()

    def _begin(self, classes: tuple[int, ...]) -> None:
        view, start = self._view, self._start
        if view is None or start is None:
            return
        self._classes, self._session = classes, self._new_session(view, start)
        self._layer = LiveLayer(self._viewer, view)
        self._stroke = None
        self._request()

    def _new_session(
        self, view: LabelsView, start: Path | NewModel
    ) -> live_worker.LiveSession:
        hardware = self._hardware
        budget = hardware.budget_bytes if hardware.device == "cpu" else 0
        return live_worker.LiveSession(view.image, view.store, start, budget)

    def _end(self, *, later: bool = False) -> None:
        """End the preview: cancel the job, free the features, remove the layer."""
        if self._worker is not None and not self._keeping:
            self._worker.quit()
        layer, self._layer, self._session = self._layer, None, None
        self._again = False
        if layer is not None:
            layer.remove(later=later)
        self._cover(False)

    def _tell(self, text: str = "") -> None:
        """Show what the preview does, and the number of painted pixels."""
        names = {c.id: c.name for c in self._view.classes} if self._view else {}
        known = {names[i]: n for i, n in self._counts.items() if i in names}
        ready = len(known) > 1
        why_not = self._why_not()
        if not why_not and not text:
            text = WORKING if self.working else self._shown
        if not ready:
            text = ONE_CLASS if known else NO_CLASS
            text += f" {READING}" if self.working else ""
        painted = ", ".join(f"{name} {formatted(n)}" for name, n in known.items())
        parts = self._outcome, f"Painted pixels: {painted}." if known else ""
        self.status.setText(" ".join(filter(None, (*parts, why_not or text))))
        self.keep.setEnabled(ready and not self._blocked and not self._keeping)
        self.network.setEnabled(not self._blocked)

    def _moved(self) -> None:
        if self._session is not None:
            self._rested()

    def _layer_removed(self, event: Any) -> None:
        if self._layer is not None and event.value is self._layer.layer:
            self.switch.setChecked(False)

    # -- jobs ---------------------------------------------------------------------

    def _request(self) -> None:
        """Start a job for the view, after the end of a running one."""
        if self._session is None or self._view is None:
            return
        if self._worker is not None:
            self._again = True
            if not self._keeping:
                self._worker.quit()
            return
        seen = view_rectangle(self._viewer, self._view.layer)
        if seen is None:
            self._tell(NOT_IN_VIEW)
            return
        session, stroke, self._stroke = self._session, self._stroke, None
        self._worker = self._workers.start(
            live_worker.follow, session, seen, stroke,
            yielded=lambda part: self._got(part, session), errored=self._failed,
            finished=self._finished,
        )  # fmt: skip
        self._tell()

    def _got(
        self,
        part: LiveView | LiveLabels | None,
        session: live_worker.LiveSession,
    ) -> None:
        layer, view = self._layer, self._view
        if layer is None or view is None or session is not self._session:
            return
        if isinstance(part, LiveLabels):
            layer.put(part)
        elif isinstance(part, LiveView):
            layer.cover(part)
            self._shown = SHOWN if part.whole else MIDDLE
            self._cover(bool(view.store.runs))

    def _cover(self, covering: bool) -> None:
        if covering != self._covering:
            self._covering = covering
            self.covered.emit(covering)

    def _failed(self, error: Exception) -> None:
        report(error)
        self.switch.setChecked(False)

    def _finished(self) -> None:
        self._worker, again = None, self._again
        self._again = False
        if self._keeping:
            self._save()
        elif again:
            self._request()
        self._tell()

    def _keep(self) -> None:
        self._keeping = True
        self._tell()
        if self._worker is not None:
            self._worker.quit()
        else:
            self._save()

    def _save(self) -> None:
        view, start = self._view, self._start
        if view is None or start is None:
            self._keeping = False
            return
        session = self._session or self._new_session(view, start)
        request = FineTuneRequest(
            view.image, view.store.path, start, FineTuneSettings(), 0
        )
        self._worker = self._workers.call(
            live_worker.save, session, next_version(request),
            returned=lambda path: self._saved(path, view),
            finished=self._saving_ended,
        )  # fmt: skip

    def _saved(self, path: Path, view: LabelsView) -> None:
        if view is self._view:
            self._outcome = f"Saved as {path.name}, chosen under Segment."
        self.kept.emit(path)

    def _saving_ended(self) -> None:
        self._keeping = False
        self._finished()
