"""Correct panel: paint, undo, confirm, import, and find uncertain regions."""

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from superqt.utils import qdebounced

from napari_uhrseg.errors import PlanError
from napari_uhrseg.types import CorrectedRegion, Region, Roi
from napari_uhrseg.ui.correct import widgets as parts
from napari_uhrseg.ui.correct.annotation_regions import AnnotationRegions
from napari_uhrseg.ui.correct.clean_up import CleanUpEditor
from napari_uhrseg.ui.correct.correction_list import (
    CorrectionSummary,
    count_corrections,
)
from napari_uhrseg.ui.correct.import_annotations import AnnotationImport
from napari_uhrseg.ui.correct.paint_area import PaintArea
from napari_uhrseg.ui.correct.session import CorrectionSessions
from napari_uhrseg.ui.correct.uncertain_tour import UncertainTour
from napari_uhrseg.ui.correct.write_queue import WriteQueue, undo_or_redo
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.layers.viewport import look_at, selected_shapes, view_rectangle
from napari_uhrseg.ui.widgets.task_progress import KEEP_TIP, REVERT_TIP
from napari_uhrseg.ui.workers.worker import Worker, Workers, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.corrections.undo import Direction


class CorrectPanel(parts.CorrectWidgets):
    """Correction tools of one `LabelsView`.

    The corrections are opened when they are first needed.
    """

    wanted = Signal()  # Correct was pressed although there are no labels
    changed = Signal(object)  # Roi of changed corrections, or None for all
    counted = Signal(object)  # dict; PySide6 passes no int keys as Signal(dict)
    chosen = Signal(int)  # class id, on the canvas
    classesChanged = Signal()  # an import has added classes

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self._viewer, self._workers = viewer, workers
        self._view: LabelsView | None = None
        self._class_id = 0
        self._flushed = False
        self._worker: Worker | None = None
        self.tour = UncertainTour(self.elsewhere, workers, self)
        self.writer = WriteQueue(self)
        self._sessions = CorrectionSessions(self.writer)
        self.area: PaintArea | None = None
        self._count_later = qdebounced(self._count, timeout=200, parent=self)
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._layer_removed)
        self.annotation_import = AnnotationImport(self, workers)
        self.clean_up = CleanUpEditor(viewer, workers)
        self.clean_place.addWidget(self.clean_up)
        self.annotations = AnnotationRegions(viewer, workers, self.writer)
        self.clean_place.addWidget(self.annotations)
        self._wire()
        self._show_state()

    def _wire(self) -> None:
        self.correct.toggled.connect(self._toggled)
        for button, act in (
            (self.undo, partial(self._undo_or_redo, "undo")),
            (self.redo, partial(self._undo_or_redo, "redo")),
            (self.confirm_view, self._confirm_view),
            (self.confirm_shape, self._confirm_shape),
            (self.fill_shapes, self._fill_shapes),
            (self.next_uncertain, self.tour.go),
        ):
            button.clicked.connect(lambda _, act=act: act())
        self.tools.wanted.connect(partial(self.correct.setChecked, True))
        self.tools.status.connect(self.status.setText)
        self.importWanted.connect(self._ask_for_import)
        self.clean_up.applied.connect(partial(self._work_alone, "Cleaning up"))
        self.tour.reached.connect(self._show_uncertain)
        self.only_corrections.toggled.connect(self._show_only_corrections)
        self.bar.stopped.connect(self._stop_job)
        self.regions.jumped.connect(lambda region: self._jump(region.roi))
        self.regions.reverted.connect(self._revert)
        self.annotation_import.ready.connect(self._import)
        self.annotation_import.began.connect(self.bar.begin)
        self.annotation_import.progressed.connect(self.bar.progress)
        self.annotation_import.ended.connect(self.bar.end)

    # -- which labels -------------------------------------------------------------

    def set_view(self, view: LabelsView | None) -> None:
        """Set the labels to correct; None if there are none."""
        if view is self._view:
            self._count_later()
            return
        self._let_go(later=True)
        self.only_corrections.setChecked(False)  # this belongs to the earlier labels
        self._view = view
        self.clean_up.set_view(view)
        self.annotations.set_view(view)
        self.tour.set_view(view)
        self.regions.set_regions((), ())  # regions of other labels cannot be reverted
        self.counted.emit({})  # the counts of these labels follow
        self._show_state()
        self._count_later()

    @property
    def idle(self) -> bool:
        """True if no change runs and no corrections are being opened."""
        return self._worker is None and not self._sessions.opening

    def choose(self, class_id: int) -> None:
        """Paint and fill with a class, as chosen in the class list."""
        self._class_id = class_id
        if self.area is not None:
            self.area.choose(class_id)

    def stop(self) -> None:
        """Disconnect from the viewer and flush."""
        if self._flushed:
            return
        self._removed.disconnect(self._layer_removed)
        self.clean_up.close_up()
        self._count_later.cancel()
        self._let_go()
        self.flush()

    def flush(self) -> None:
        """Write waiting changes and close the corrections, also after Qt has ended."""
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
            self.tools.detach()
            area.stop(later=later)
        self.correct.setChecked(False)
        self._show_state()

    def _paint(self, corrections: "Corrections") -> None:
        if self._view is None or self.area is not None or not self.correct.isChecked():
            return
        self._view.show()
        self.area = area = PaintArea(self._viewer, self._view, corrections, self.writer)
        area.changed.connect(self._changed)
        area.moved.connect(self.status.setText)
        area.chosen.connect(self._chosen)
        area.long.connect(partial(self._undo_with_progress, corrections))
        area.closed.connect(lambda: self._end_painting(later=True))
        if self._class_id:
            area.choose(self._class_id)
        self._chosen(int(area.layer.selected_label))
        keys = {parts.CONFIRM_KEY: self._confirm_view, parts.NEXT_KEY: self.tour.go}
        self.tools.attach(self._viewer, self._view, area, self._workers, keys)

    def _chosen(self, class_id: int) -> None:
        if class_id:
            self._class_id = class_id
            self.chosen.emit(class_id)

    def _undo_or_redo(self, way: "Direction") -> None:
        if self.area is not None:
            self.area.undo_or_redo(way)
        else:
            self._with_corrections(lambda c: undo_or_redo(
                self.writer, c, way, self._changed, partial(self._undo_with_progress, c)
            ))  # fmt: skip

    def _undo_with_progress(self, corrections: "Corrections", way: "Direction") -> None:
        """Undo or redo with progress; no painting meanwhile, as strokes would wait."""
        if self._view is None or self._view.corrections is not corrections:
            return  # other labels are shown now
        title = "Undoing" if way == "undo" else "Redoing"
        self._work_alone(title, lambda c: c.undo_or_redo(way), REVERT_TIP)

    def _work_alone(
        self,
        title: str,
        make: "Callable[[Corrections], Iterator[float]]",
        tip: str = KEEP_TIP,
    ) -> None:
        """Make a long change as `_work` does, without painting meanwhile."""
        view, painting = self._view, self.correct.isChecked()
        if self._worker is not None:
            self.status.setText(f"{parts.BUSY} Wait until it finishes, or stop it.")
            return

        def go_on() -> None:
            self.correct.setEnabled(True)
            self.correct.setChecked(painting and view is self._view)

        self.correct.setChecked(False)
        self.correct.setEnabled(False)
        self._work(title, make, tip, go_on)

    def _changed(self, roi: Roi | None = None) -> None:
        """Show changed corrections; the paint area shows its own changes already."""
        self._count_later()
        self.changed.emit(roi)
        if self.area is not None and self.annotations.locks:
            self.area.refresh()  # a stroke has no effect in a locked region
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
        """Return the selected (or all) shapes of a Shapes layer; report errors."""
        if self._view is None:
            return []
        try:
            return selected_shapes(self._viewer, self._view.layer)
        except PlanError as error:
            report(error)
            return []

    def _revert(self, place: CorrectedRegion) -> None:
        self._work("Reverting", lambda c: c.revert(place))

    def _ask_for_import(self, what: str) -> None:
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

    # -- long changes -------------------------------------------------------------

    def _work(
        self,
        title: str,
        make: "Callable[[Corrections], Iterator[float]]",
        stop_tip: str = KEEP_TIP,
        then: "Callable[[], None]" = lambda: None,
    ) -> None:
        """Make a long change on a worker thread. Strokes are still written meanwhile.

        Parameters
        ----------
        title
            Text of the progress bar.
        make
            Function that makes the change and yields its progress, from 0 to 1.
        stop_tip
            Tooltip of Stop, which describes the effect of stopping.
        then
            Function that is called after the change has ended.
        """

        def start(corrections: "Corrections") -> None:
            if self._worker is not None:
                return
            self.bar.begin(title, stop_tip)
            self._worker = self._workers.start(
                make, corrections, yielded=progressed, finished=ended
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

    def _show_uncertain(self, roi: Roi | None, text: str) -> None:
        if roi is not None:
            self._jump(roi)
        self.status.setText(text)

    def _jump(self, roi: Roi) -> None:
        if self._view is not None:
            look_at(self._viewer, self._view.layer, roi)

    def _show_only_corrections(self, only: bool) -> None:
        if self._view is not None:
            self._view.show_only_corrections(only)
        if self.area is not None:
            self.area.refresh()

    # -- state of the corrections -------------------------------------------------

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
        self.regions.set_regions(found.places, classes)
        self.annotations.count()
        self.counted.emit(dict(found.counts))
        running = self._worker is not None
        self.undo.setEnabled(found.can_undo and not running)
        self.redo.setEnabled(found.can_redo and not running)

    def _show_state(self) -> None:
        """Enable the buttons that can be used now."""
        there, idle = self._view is not None, self._worker is None
        why = parts.NO_LABELS if not there else "" if idle else parts.BUSY
        for button in (self.confirm_view, self.confirm_shape, self.fill_shapes,
                       self.import_button, self.next_uncertain, self.tools,
                       self.only_corrections, self.clean_up.button):  # fmt: skip
            button.setEnabled(not why)
        if not there:
            self.undo.setEnabled(False)
            self.redo.setEnabled(False)
        if self.area is None:
            self.status.setText(parts.READY if there else parts.NO_LABELS)
