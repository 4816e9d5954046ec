"""Panel of the plugin: sections below one another in a scroll area."""

from pathlib import Path
from typing import Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_uhrseg.errors import PlanError
from napari_uhrseg.ui.correct.panel import CorrectPanel
from napari_uhrseg.ui.finetune.panel import FineTunePanel
from napari_uhrseg.ui.image.image_switch import ImageSwitch
from napari_uhrseg.ui.image.open_labels import LabelOpener
from napari_uhrseg.ui.image.panel import ImagePanel
from napari_uhrseg.ui.labels.areas_panel import AreasPanel
from napari_uhrseg.ui.labels.class_editor import ClassEditor
from napari_uhrseg.ui.labels.export_panel import ExportPanel
from napari_uhrseg.ui.labels.selection import LabelsSelection
from napari_uhrseg.ui.layers.map_placement import MapPlacement
from napari_uhrseg.ui.layers.map_position import MapPositionLabel
from napari_uhrseg.ui.segment.panel import SegmentPanel
from napari_uhrseg.ui.widgets.focus_outline import FocusOutline
from napari_uhrseg.ui.widgets.layout import CollapsibleSection
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.workers.import_torch import keep_triton_out, thaw, thaw_for
from napari_uhrseg.ui.workers.worker import Workers, report

LAYOUT_DELAY_MS = 50  # time until an expanded section has its position
DRAW_DELAY_MS = 250  # time until the panel is drawn, which imports would delay


def plain_viewer(napari_viewer: Any) -> Any:
    """Return the viewer behind napari's proxy.

    The proxy wraps a layer again at each access, so layers could not be compared by
    identity. The plugin uses only public names of the viewer.
    """
    return getattr(napari_viewer, "__wrapped__", napari_viewer)


class Panel(QWidget):
    """Panel of the plugin: all sections and the list of classes."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        viewer = plain_viewer(napari_viewer)
        self._stopped = False
        FocusOutline(self)
        keep_triton_out()  # before any worker imports torch
        self.workers = Workers(self)
        self.placement = MapPlacement(viewer)
        self.position = MapPositionLabel(viewer, self)
        self.image = ImagePanel(viewer, self.workers)
        self.segment = SegmentPanel(viewer, self.workers)
        self.classes = ClassEditor(self.segment.legend, self.workers)
        self.correct = CorrectPanel(viewer, self.workers)
        self.finetune = FineTunePanel(viewer, self.workers, self.segment.form.hardware)
        self.shown = LabelsSelection(viewer, self)
        self.areas = AreasPanel(viewer, self.workers, self.shown)
        self.export = ExportPanel(self.workers, self.shown)
        self.labels = LabelOpener(viewer, self.workers, self.image, self.segment, self)
        self._wire()
        self._wire_finetune()
        self.image.changed.connect(self._image_changed)
        self.switch = ImageSwitch(viewer, self.image)
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._layer_removed)
        self.sections: dict[str, CollapsibleSection] = {}
        self.scroll_area = QScrollArea()
        self._lay_out()
        self.destroyed.connect(self.workers.close)
        correct = self.correct  # self.correct.flush would be a slot of a deleted object
        self.destroyed.connect(lambda: correct.flush())
        self._sought: CollapsibleSection | None = None
        self.segment.views.adopt()
        self._image_changed()
        QTimer.singleShot(DRAW_DELAY_MS, self._find)

    def _lay_out(self) -> None:
        """Put the sections below one another in the scroll area."""
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(2)
        sections = (
            ("Image", self.image, True),
            ("Segment", self.segment, True),
            ("Correct", self.correct, True),
            ("Fine-tune", self.finetune, False),
            ("Areas", self.areas, False),
            ("Export", self.export, False),
        )
        for title, panel, expanded in sections:
            section = CollapsibleSection(title, panel, expanded=expanded)
            self.sections[title] = section
            layout.addWidget(section)
            if panel is self.segment:  # also visible when Segment is collapsed
                layout.addWidget(self.classes)
        layout.addStretch(1)
        area = self.scroll_area
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # it follows the focus
        area.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.setMinimumWidth(330)

    @property
    def stopped(self) -> bool:
        """True when the panel has been closed."""
        return self._stopped

    def _find(self) -> None:
        """Find devices and formats, which imports large packages."""
        if not self._stopped:
            self.segment.form.hardware.list_devices()
            self.export.find_formats()

    def expand(self, title: str) -> None:
        """Expand a section."""
        self.sections[title].heading.setChecked(True)

    def show_section(self, title: str) -> None:
        """Expand a section and scroll its heading to the top."""
        self.expand(title)
        self._sought = self.sections[title]
        QTimer.singleShot(LAYOUT_DELAY_MS, self._scroll)

    def _scroll(self) -> None:
        if self._sought is not None:
            bar = required(self.scroll_area.verticalScrollBar())
            bar.setValue(self._sought.y())

    def _wire(self) -> None:
        """Connect the sections."""
        segment, correct, legend = self.segment, self.correct, self.segment.legend
        self.image.labelsWanted.connect(self.labels.ask)
        self.image.labelsAt.connect(self.labels.open)
        segment.output.labelsWanted.connect(self.labels.open)
        segment.inputChanged.connect(self.image.picture.set_input)
        segment.viewChanged.connect(self.image.found_labels.set_view)
        segment.viewChanged.connect(correct.set_view)
        segment.viewChanged.connect(self.classes.set_view)
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
            lambda busy: segment.set_blocked("Fine-tuning is running." if busy else "")
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
        self.labels.stop()
        self.switch.stop()
        self.placement.stop()
        self.position.stop()
        self.correct.stop()
        self.image.stop()
        self.segment.stop()
        self.areas.stop()
        self.shown.stop()
        self.finetune.stop()
        self._removed.disconnect(self._layer_removed)
        thaw()

    def event(self, event: QEvent | None) -> bool:
        # napari removes the widget from a dock that is closed
        moved = event is not None and event.type() == QEvent.Type.ParentChange
        if moved and self.parent() is None:
            self.stop()
        return bool(super().event(event))

    def _layer_removed(self, event: Any) -> None:
        thaw_for(event.value)

    def _image_changed(self) -> None:
        self.segment.set_image(self.image.layer, self.image.image)
        self.finetune.set_image(self.image.image)
