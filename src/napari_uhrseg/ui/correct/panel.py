"""The Correct part: paint, take back, confirm, bring in, and find what to look at."""

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QMenu, QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_uhrseg.errors import PlanError
from napari_uhrseg.types import CorrectedRegion, Region, Roi
from napari_uhrseg.ui.correct.correction_list import (
    CorrectionList,
    CorrectionSummary,
    count_corrections,
)
from napari_uhrseg.ui.correct.import_annotations import AnnotationImport
from napari_uhrseg.ui.correct.paint_area import PaintArea
from napari_uhrseg.ui.correct.session import CorrectionSessions
from napari_uhrseg.ui.correct.write_queue import WriteQueue, undo_or_redo
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.layers.viewport import drawn_regions, look_at, view_rectangle
from napari_uhrseg.ui.widgets.layout import note, push_button
from napari_uhrseg.ui.widgets.task_progress import KEEP_TIP, REVERT_TIP, TaskProgress
from napari_uhrseg.ui.workers.worker import Worker, Workers, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_uhrseg.io.corrections.corrections import Corrections, Direction

NO_LABELS = (
    "There are no labels to correct. Segment an image, open labels, or press Correct "
    "to start with empty labels."
)
READY = "Press Correct to paint on the labels in view."


class CorrectPanel(QWidget):
    """Works on one `LabelsView`; opens its corrections when they are wanted."""

    wanted = Signal()  # Correct was pressed, and there are no labels
    counted = Signal(dict)  # corrected pixels by class id
    chosen = Signal(int)  # class id, on the canvas
    classesChanged = Signal()  # an import has added some

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self._viewer, self._workers = viewer, workers
        self._view: LabelsView | None = None
        self._class_id = 0
        self._flushed = False
        self._worker: Worker | None = None
        self._seen: list[Roi] = []
        self.writer = WriteQueue(self)
        self._sessions = CorrectionSessions(self.writer)
        self.area: PaintArea | None = None
        self._tally_later = qdebounced(self._count, timeout=200, parent=self)
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._layer_removed)
        self._build()
        self.annotation_import = AnnotationImport(self, workers)
        self.annotation_import.ready.connect(self._import)
        self.annotation_import.began.connect(self.bar.begin)
        self.annotation_import.progressed.connect(self.bar.progress)
        self.annotation_import.ended.connect(self.bar.end)
        self._show_state()

    def _build(self) -> None:
        tip = (
            "Paint on the labels with napari's brush, fill, polygon and eraser. Keys 1 "
            "to 9 choose the class, 0 the eraser; hold Space to move the view."
        )
        self.correct = push_button("Correct", tip)
        self.correct.setCheckable(True)
        self.correct.toggled.connect(self._toggled)
        undo = "Undo the last change, also of an earlier session (Ctrl+Z)."
        self.undo = push_button("Undo", undo, lambda: self._undo_or_redo("undo"))
        redo = "Redo the last undone change (Ctrl+Shift+Z)."
        self.redo = push_button("Redo", redo, lambda: self._undo_or_redo("redo"))
        self.status = note()
        self.status.setAccessibleName("Correction status")
        view = "Accept all labels in view as correct. They count as corrections."
        self.confirm_view = push_button("Confirm view", view, self._confirm_view)
        shape = "Accept the labels in the selected (or last) shape as correct."
        self.confirm_shape = push_button("Confirm shape", shape, self._confirm_shape)
        fill = "Set the selected shapes (or all shapes) to the chosen class."
        self.fill = push_button("Fill shapes", fill, self._fill_shapes)
        self.bring = push_button("Import", "Import corrections from a file.")
        menu = QMenu(self.bring)
        menu.addAction("&Polygons (GeoJSON)…", lambda: self._bring("polygons"))
        menu.addAction("&Mask (PNG, GeoTIFF)…", lambda: self._bring("mask"))
        self.bring.setMenu(menu)
        self.next = push_button(
            "Next uncertain region",
            "Go to the most uncertain region not visited yet.",
            self._next,
        )
        self.alone = QCheckBox("Show only corrections")
        self.alone.setToolTip("Hide the predictions.")
        self.alone.toggled.connect(self._show_alone)
        self.bar = TaskProgress()
        self.bar.stopped.connect(self._stop_job)
        self.places = CorrectionList()
        self.places.jumped.connect(lambda place: self._jump(place.roi))
        self.places.reverted.connect(self._revert)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for row in (
            (self.correct, self.undo, self.redo), self.status,
            (self.confirm_view, self.confirm_shape), (self.fill, self.bring),
            self.next, self.alone, self.bar, self.places,
        ):  # fmt: skip
            if isinstance(row, QWidget):
                layout.addWidget(row)
                continue
            buttons = QHBoxLayout()
            for button in row:
                button.setMinimumWidth(60)
                buttons.addWidget(button, 2 if button is self.correct else 1)
            layout.addLayout(buttons)

    # -- which labels -------------------------------------------------------------

    def set_view(self, view: LabelsView | None) -> None:
        """Correct these labels; None while there are none."""
        if view is self._view:
            self._tally_later()
            return
        self._let_go(later=True)
        self.alone.setChecked(False)  # of the labels that are left
        self._view, self._seen = view, []
        self.places.set_places((), ())  # no place of other labels can be reverted
        self._show_state()
        self._tally_later()

    @property
    def idle(self) -> bool:
        """Whether no change runs and no corrections are being opened."""
        return self._worker is None and not self._sessions.opening

    def choose(self, class_id: int) -> None:
        """Paint and fill with this class (it was chosen in the legend)."""
        self._class_id = class_id
        if self.area is not None:
            self.area.choose(class_id)

    def stop(self) -> None:
        """The panel is going: let go of the viewer, and flush."""
        if self._flushed:
            return
        self._removed.disconnect(self._layer_removed)
        self._tally_later.cancel()
        self._let_go()
        self.flush()

    def flush(self) -> None:
        """Write what waits and free the corrections, even where Qt is gone."""
        self._flushed = True
        if self._view is not None:
            self._sessions.leave(self._view)
        self.writer.close()

    def _let_go(self, *, later: bool = False) -> None:
        self._end_painting(later=later)
        self._stop_job()
        if self._view is not None:
            self._sessions.leave(self._view)

    def _layer_removed(self, event: Any) -> None:
        if self._view is not None and event.value is self._view.layer:
            self.set_view(None)

    def _with_corrections(self, act: "Callable[[Corrections], None]") -> None:
        if self._view is not None:
            self._sessions.use(self._view, act, self._not_opened)

    def _not_opened(self, error: Exception) -> None:
        self.correct.setChecked(False)
        report(error)

    # -- painting -----------------------------------------------------------------

    def _toggled(self, on: bool) -> None:
        if not on:
            self._end_painting()
        elif self._view is None:
            self.correct.setChecked(False)
            self.wanted.emit()
        else:
            self.status.setText("Opening the corrections…")
            self._with_corrections(self._paint)

    def _end_painting(self, *, later: bool = False) -> None:
        if self.area is not None:
            area, self.area = self.area, None
            area.stop(later=later)
        self.correct.setChecked(False)
        self._show_state()

    def _paint(self, corrections: "Corrections") -> None:
        if self._view is None or self.area is not None or not self.correct.isChecked():
            return
        self._view.show()
        self.area = area = PaintArea(self._viewer, self._view, corrections, self.writer)
        area.changed.connect(self._changed)
        area.moved.connect(self._say)
        area.chosen.connect(self._chosen)
        area.long.connect(partial(self._undo_with_progress, corrections))
        area.closed.connect(lambda: self._end_painting(later=True))
        if self._class_id:
            area.choose(self._class_id)
        self._chosen(int(area.layer.selected_label))

    def _chosen(self, class_id: int) -> None:
        if class_id:
            self._class_id = class_id
            self.chosen.emit(class_id)

    def _say(self, text: str) -> None:
        self.status.setText(text)

    def _undo_or_redo(self, way: "Direction") -> None:
        if self.area is not None:
            self.area.undo_or_redo(way)
        else:
            self._with_corrections(partial(self._undo_or_redo_in, way))

    def _undo_or_redo_in(self, way: "Direction", corrections: "Corrections") -> None:
        long = partial(self._undo_with_progress, corrections)
        undo_or_redo(self.writer, corrections, way, self._changed, long)

    def _undo_with_progress(self, corrections: "Corrections", way: "Direction") -> None:
        """With progress; strokes would wait until it has ended, so none are made."""
        view, painting = self._view, self.correct.isChecked()
        if view is None or view.corrections is not corrections:
            return  # it was asked for other labels than are shown now
        if self._worker is not None:
            self._say("Another change is running. Wait until it finishes, or stop it.")
            return

        def go_on() -> None:
            self.correct.setEnabled(True)
            self.correct.setChecked(painting and view is self._view)

        self.correct.setChecked(False)
        self.correct.setEnabled(False)
        title = "Undoing" if way == "undo" else "Redoing"
        self._work(title, lambda c: c.undo_or_redo(way), REVERT_TIP, go_on)

    def _changed(self, roi: Roi | None = None) -> None:
        """Corrections are others now; the work area shows its own already."""
        self._tally_later()
        if self._view is not None and (self.area is None or roi is None):
            self._view.refresh()

    # -- regions ------------------------------------------------------------------

    def _confirm_view(self) -> None:
        if self._view is None:
            return
        seen = view_rectangle(self._viewer, self._view.layer)
        if seen is None:
            report(PlanError("The image is not in view.", "Move it into view first."))
            return
        self._work("Confirming", lambda c: c.confirm(seen))

    def _confirm_shape(self) -> None:
        regions = self._shapes()
        if regions:
            self._work("Confirming", lambda c: c.confirm(regions[-1]))

    def _fill_shapes(self) -> None:
        regions, view = self._shapes(), self._view
        if not regions or view is None:
            return
        class_id = self._class_id or next((c.id for c in view.classes), 0)
        pairs = [(region, class_id) for region in regions]
        self._work("Filling", lambda c: c.fill_all(pairs))

    def _shapes(self) -> list[Region]:
        """The chosen shapes, else all, of the Shapes layer chosen, else the last."""
        if self._view is None:
            return []
        layers = [x for x in self._viewer.layers if type(x).__name__ == "Shapes"]
        layers.sort(key=lambda x: x is self._viewer.layers.selection.active)
        try:
            if not layers:
                raise PlanError(
                    "There is no Shapes layer.",
                    "Add one, and draw a rectangle or a polygon in it.",
                )
            return drawn_regions(self._viewer, layers[-1], self._view.layer)
        except PlanError as error:
            report(error)
            return []

    def _revert(self, place: CorrectedRegion) -> None:
        self._work("Reverting", lambda c: c.revert(place))

    # -- from files ---------------------------------------------------------------

    def _bring(self, what: str) -> None:
        if self._view is not None:
            self.annotation_import.ask(what, self._view, self._class_id)

    def _import(
        self, view: LabelsView, make: "Callable[[Corrections], Iterator[float]]"
    ) -> None:
        if view is not self._view:
            return
        if view.legend != view.store.legend:
            view.set_legend(view.store.legend)
            self.classesChanged.emit()
        self._work("Importing", make)

    # -- long work ----------------------------------------------------------------

    def _work(
        self,
        title: str,
        make: "Callable[[Corrections], Iterator[float]]",
        stop_tip: str = KEEP_TIP,
        then: "Callable[[], None]" = lambda: None,
    ) -> None:
        """Change much, on a thread of its own: strokes are written all the while."""

        def start(corrections: "Corrections") -> None:
            if self._worker is not None:
                return
            self.bar.begin(title, stop_tip)
            self._worker = self._workers.start(
                _made, make, corrections, yielded=progressed, finished=ended
            )
            self._show_state()

        def progressed(share: float) -> None:
            self.bar.progress(share)
            if self._view is not None:
                self._view.refresh()

        def ended() -> None:
            self._worker = None
            self.bar.end()
            self._changed()
            self._show_state()
            then()

        self._with_corrections(start)

    def _stop_job(self) -> None:
        if self._worker is not None:
            self._worker.quit()
        self.annotation_import.stop()

    # -- looking ------------------------------------------------------------------

    def _next(self) -> None:
        from napari_uhrseg.io.corrections.uncertain_regions import (
            find_uncertain_regions,
        )

        view = self._view
        if view is None:
            return

        def found(places: tuple[Any, ...]) -> None:
            if view is not self._view:
                return
            if not places:
                self._say("No uncertain region is left in the segmented area.")
                return
            self._seen.append(places[0].roi)
            self._jump(places[0].roi)
            left = len(places) - 1
            self._say(f"Uncertain region {len(self._seen)}; {left} more.")

        self._workers.call(
            find_uncertain_regions, view.store, tuple(self._seen), returned=found
        )

    def _jump(self, roi: Roi) -> None:
        if self._view is not None:
            look_at(self._viewer, self._view.layer, roi)

    def _show_alone(self, alone: bool) -> None:
        if self._view is not None:
            self._view.show_only_corrections(alone)
        if self.area is not None:
            self.area.refresh()

    # -- what there is ------------------------------------------------------------

    def _count(self) -> None:
        view = self._view
        if view is None:
            self._counted(CorrectionSummary())
            return

        def counted(found: CorrectionSummary) -> None:
            if view is self._view:
                self._counted(found)

        self.writer.submit(
            count_corrections, view.store, view.corrections, then=counted
        )

    def _counted(self, found: CorrectionSummary) -> None:
        classes = () if self._view is None else self._view.classes
        self.places.set_places(found.places, classes)
        self.counted.emit(dict(found.counts))
        going_on = self._worker is not None
        self.undo.setEnabled(found.can_undo and not going_on)
        self.redo.setEnabled(found.can_redo and not going_on)

    def _show_state(self) -> None:
        """Which buttons can be pressed, and why not."""
        there, idle = self._view is not None, self._worker is None
        why = NO_LABELS if not there else "" if idle else "Another change is running."
        for button in (self.confirm_view, self.confirm_shape, self.fill, self.bring,
                       self.next, self.alone):  # fmt: skip
            button.setEnabled(not why)
        if not there:
            self.undo.setEnabled(False)
            self.redo.setEnabled(False)
        if self.area is None:
            self._say(READY if there else NO_LABELS)


def _made(
    make: "Callable[[Corrections], Iterator[float]]", corrections: "Corrections"
) -> "Iterator[float]":
    """A generator, as workers want one."""
    yield from make(corrections)
