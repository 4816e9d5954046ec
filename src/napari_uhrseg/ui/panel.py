"""Panel of the plugin: a tab for each step, and a strip for the running task."""

from pathlib import Path
from typing import Any

from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut, QVBoxLayout, QWidget

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.project.project_labels import ProjectLabels
from napari_uhrseg.ui.correct.panel import CorrectPanel
from napari_uhrseg.ui.finetune.panel import SEGMENTING, TRAINING, FineTunePanel
from napari_uhrseg.ui.image.image_switch import ImageSwitch
from napari_uhrseg.ui.image.open_labels import LabelOpener
from napari_uhrseg.ui.image.panel import ImagePanel
from napari_uhrseg.ui.labels.areas_panel import AreasPanel
from napari_uhrseg.ui.labels.changes_panel import ChangesPanel
from napari_uhrseg.ui.labels.class_editor import ClassEditor
from napari_uhrseg.ui.labels.export_panel import ExportPanel
from napari_uhrseg.ui.labels.objects_panel import ObjectsPanel
from napari_uhrseg.ui.labels.selection import LabelsSelection
from napari_uhrseg.ui.layers.fitted_view import FittedView
from napari_uhrseg.ui.layers.map_placement import MapPlacement
from napari_uhrseg.ui.layers.map_position import MapPositionLabel
from napari_uhrseg.ui.layers.viewport import hide_brush_background
from napari_uhrseg.ui.project.evaluation_panel import EvaluationPanel
from napari_uhrseg.ui.project.panel import ProjectPanel
from napari_uhrseg.ui.segment.panel import SegmentPanel
from napari_uhrseg.ui.session.keeper import SessionKeeper
from napari_uhrseg.ui.step_marks import StepMarks
from napari_uhrseg.ui.widgets.focus_outline import FocusOutline
from napari_uhrseg.ui.widgets.help_window import show_help
from napari_uhrseg.ui.widgets.layout import heading
from napari_uhrseg.ui.widgets.pages import Pages
from napari_uhrseg.ui.widgets.step_tabs import SharedPlace, StepTabs
from napari_uhrseg.ui.workers.import_torch import keep_triton_out, thaw, thaw_for
from napari_uhrseg.ui.workers.worker import Workers, report

WIDTH = 330  # pixels
EVALUATING = "A checkpoint is being evaluated."
SEGMENTING_MANY = "Images of the project are being segmented."
HELP = {
    "Image": "how-to/image-formats.md",
    "Segment": "how-to/window.md",
    "Correct": "how-to/fine-tune.md",
    "Train": "how-to/fine-tune.md",
    "Results": "exporting.md",
}
"""Page of the documentation for each tab."""
DRAW_DELAY_MS = 250  # time until the panel is drawn, which imports would delay


def plain_viewer(napari_viewer: Any) -> Any:
    """Return the viewer behind napari's proxy.

    The proxy wraps a layer again at each access, so layers could not be compared by
    identity. The plugin uses only public names of the viewer.
    """
    return getattr(napari_viewer, "__wrapped__", napari_viewer)


class Panel(QWidget):
    """Panel of the plugin: the tabs of all steps, and the parts in them."""

    closed = Signal()  # the dock of the panel was closed

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        viewer = plain_viewer(napari_viewer)
        self._stopped = False
        FocusOutline(self)
        hide_brush_background(viewer)
        keep_triton_out()  # before any worker imports torch
        self.workers = Workers(self)
        self.placement = MapPlacement(viewer)
        self.fitted = FittedView(viewer)
        self.position = MapPositionLabel(viewer, self)
        self.image = ImagePanel(viewer, self.workers)
        self.segment = SegmentPanel(viewer, self.workers)
        self.classes = ClassEditor(self.segment.legend, self.workers)
        self.correct = CorrectPanel(viewer, self.workers)
        self.finetune = FineTunePanel(viewer, self.workers, self.segment.form.hardware)
        self.shown = LabelsSelection(viewer, self)
        self.areas = AreasPanel(viewer, self.workers, self.shown)
        self.objects = ObjectsPanel(
            viewer, self.workers, self.shown, lambda: self.image.image
        )
        self.changes = ChangesPanel(viewer, self.workers, self.shown)
        self.export = ExportPanel(self.workers, self.shown)
        self.labels = LabelOpener(viewer, self.workers, self.image, self.segment, self)
        self._wire()
        self._wire_finetune()
        self.project = ProjectPanel(self.workers)
        self.evaluation = EvaluationPanel(self.workers, self.segment.form.hardware)
        self._wire_project()
        self.image.changed.connect(self._image_changed)
        self.switch = ImageSwitch(viewer, self.image)
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._layer_removed)
        self.tabs = StepTabs()
        self.session = SessionKeeper(
            viewer, self.workers, self.tabs, self.image, self.segment,
            {
                "train": self.finetune.form, "areas": self.areas,
                "export": self.export,
            },
            self.labels,
        )  # fmt: skip
        self._lay_out()
        StepMarks(
            self.tabs, self.image, self.segment, self.correct, self.finetune,
            self.export,
        )  # fmt: skip
        self.destroyed.connect(self.workers.close)
        correct = self.correct  # self.correct.flush would be a slot of a deleted object
        self.destroyed.connect(lambda: correct.flush())
        self.segment.views.adopt()
        self._image_changed()
        QTimer.singleShot(DRAW_DELAY_MS, self._find)

    def _lay_out(self) -> None:
        """Put the parts into the tabs, and the strips of runs below the tabs."""
        classes = self.classes
        place = SharedPlace(classes, self.correct.confirm_view)
        for part in (place, self.finetune.live):
            self.correct.class_place.addWidget(part)
        tables = Pages(
            "Areas, objects and changes",
            {"Areas": self.areas, "Objects": self.objects, "Changes": self.changes},
        )
        for title, *parts in (
            ("Image", self.session.offer, self.image),
            ("Segment", self.segment, SharedPlace(classes, self.segment.bar.start)),
            ("Correct", self.correct),
            ("Train", self.finetune),
            ("Results", tables, heading("Export"), self.export),
        ):
            self.tabs.add_step(title, *parts)
        self.tabs.help.clicked.connect(self._show_help)
        shortcut = QShortcut(QKeySequence(QKeySequence.StandardKey.HelpContents), self)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(self._show_help)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2)
        outer.addWidget(self.tabs, 1)
        strips = (
            self.segment.bar.strip, self.finetune.bar.strip, self.project.progress,
            self.evaluation.progress,
        )  # fmt: skip
        for strip in strips:  # visible from every tab
            outer.addWidget(strip)
        self.setMinimumWidth(WIDTH)

    def _show_help(self) -> None:
        show_help(HELP[self.tabs.shown])

    @property
    def stopped(self) -> bool:
        """True when the panel has been closed."""
        return self._stopped

    def _find(self) -> None:
        """Find devices and formats, which imports large packages."""
        if not self._stopped:
            self.segment.form.hardware.list_devices()
            self.export.find_formats()
            self.session.find()

    def show_step(self, title: str) -> None:
        """Show the tab with this title."""
        self.tabs.show_step(title)

    def _wire(self) -> None:
        """Connect the parts."""
        segment, correct, legend = self.segment, self.correct, self.segment.legend
        self.image.labelsWanted.connect(self.labels.ask)
        self.image.labelsAt.connect(self.labels.open)
        segment.output.labelsWanted.connect(self.labels.open)
        segment.inputChanged.connect(self.image.picture.set_input)
        segment.viewChanged.connect(self.image.found_labels.set_view)
        segment.viewChanged.connect(correct.set_view)
        segment.viewChanged.connect(self.classes.set_view)
        self.classes.classesDeleted.connect(self._class_deleted)
        legend.classChosen.connect(correct.choose)
        correct.chosen.connect(legend.choose)
        correct.counted.connect(legend.set_corrected)
        correct.classesChanged.connect(self._classes_changed)
        correct.wanted.connect(self._begin_labels)

    def _wire_finetune(self) -> None:
        """Connect Segment and Fine-tune, which do not import each other."""
        segment, finetune, model = self.segment, self.finetune, self.segment.model
        segment.viewChanged.connect(finetune.set_view)
        segment.busyChanged.connect(finetune.set_segmenting)
        self.correct.counted.connect(lambda _: finetune.refresh())
        finetune.busyChanged.connect(
            lambda busy: segment.set_blocked(TRAINING if busy else "")
        )
        finetune.segmentAgain.connect(segment.segment_again)
        finetune.checkpointWanted.connect(model.use)
        finetune.labelsWanted.connect(self._begin_labels)
        self._wire_live()

        def chosen() -> None:
            name = model.card.name if model.card is not None else ""
            finetune.set_checkpoint(model.path, name, model.folders)

        model.changed.connect(chosen)
        chosen()

    def _wire_project(self) -> None:
        """Connect the list of a project, which is a part of Image."""
        project, segment = self.project, self.segment
        self.image.add_part(project)
        self.image.add_part(self.evaluation)
        project.imageWanted.connect(self.labels.open_image)
        self.classes.deleted.connect(project.class_deleted)
        self.classes.changed.connect(project.classes_changed)

        def observe(*_: object) -> None:
            if segment.view is not None:
                project.observe(segment.view.store.path)

        def chosen() -> None:
            project.set_checkpoint(segment.model.path)
            self.evaluation.set_checkpoint(segment.model.path)

        self._wire_busy()
        project.labelledChanged.connect(self._labelled)
        tour = self.correct.tour
        tour.othersWanted.connect(project.uncertain.start)
        tour.imageWanted.connect(project.open_image)
        project.uncertain.found.connect(tour.set_others)
        project.busyChanged.connect(lambda _: tour.forget_others())
        self.correct.counted.connect(observe)
        segment.busyChanged.connect(lambda busy: None if busy else observe())
        segment.model.changed.connect(chosen)
        chosen()

    def _wire_busy(self) -> None:
        """Let only one part at a time use the memory budget for images of a project."""
        project, evaluation, segment = self.project, self.evaluation, self.segment

        def working_on(reason: str, other: ProjectPanel | EvaluationPanel) -> Any:
            def busy(working: bool) -> None:
                why = reason if working else ""
                segment.set_blocked(why)
                other.set_blocked(why)
                self.finetune.set_segmenting(working)

            return busy

        project.busyChanged.connect(working_on(SEGMENTING_MANY, evaluation))
        evaluation.busyChanged.connect(working_on(EVALUATING, project))
        for part, why in ((segment, SEGMENTING), (self.finetune, TRAINING)):
            for other in (project, evaluation):
                part.busyChanged.connect(
                    lambda busy, why=why, other=other: other.set_blocked(
                        why if busy else ""
                    )
                )

    def _labelled(self, labels: ProjectLabels | None, chosen: bool) -> None:
        """Offer the corrected images of the project for training and evaluation."""
        self.finetune.form.set_several(labels, chosen=chosen)
        self.evaluation.set_labels(labels, chosen=chosen)

    def _wire_live(self) -> None:
        """Connect Correct and the live preview, which do not import each other."""
        live, correct = self.finetune.live, self.correct
        correct.correct.toggled.connect(live.set_painting)
        correct.changed.connect(live.painted)
        correct.counted.connect(live.set_counts)
        live.covered.connect(correct.only_corrections.setChecked)

        def kept(path: Path) -> None:
            self.finetune.form.follow()
            self.segment.segment_again(path, only_likely=False)

        live.kept.connect(kept)

    def _classes_changed(self) -> None:
        if self.segment.view is not None:
            self.segment.show_legend(self.segment.view)

    def _class_deleted(self) -> None:
        """Count the corrections again, and read those that can be painted."""
        self.correct.set_view(self.segment.view)
        if self.correct.area is not None:
            self.correct.area.refresh()

    def _begin_labels(self) -> None:
        if self.image.image is None:
            report(PlanError("There is no image to label.", "Open an image first."))
            return
        try:
            output = self.segment.output.path
        except PlanError as error:
            report(error)
            return
        self.labels.begin(self.image.image, output)

    def stop(self) -> None:
        """End all workers and disconnect from the viewer, when the dock closes."""
        if self._stopped:
            return
        self._stopped = True
        self.workers.close()
        self.session.stop()
        self.labels.stop()
        self.switch.stop()
        self.placement.stop()
        self.fitted.stop()
        self.position.stop()
        self.correct.stop()
        self.image.stop()
        self.project.stop()
        self.evaluation.stop()
        self.segment.stop()
        self.areas.stop()
        self.changes.stop()
        self.shown.stop()
        self.finetune.stop()
        self._removed.disconnect(self._layer_removed)
        thaw()

    def event(self, event: QEvent | None) -> bool:
        # napari removes the widget from a dock that is closed
        moved = event is not None and event.type() == QEvent.Type.ParentChange
        if moved and self.parent() is None:
            self.closed.emit()
            self.stop()
        return bool(super().event(event))

    def _layer_removed(self, event: Any) -> None:
        thaw_for(event.value)

    def _image_changed(self) -> None:
        self.segment.set_image(self.image.layer, self.image.image)
        self.finetune.set_image(self.image.image)
