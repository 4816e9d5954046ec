"""The dock: parts under one another, in a scroll area."""

from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_uhrseg.ui.areas import AreasPart
from napari_uhrseg.ui.export import ExportPart
from napari_uhrseg.ui.finetune import FineTunePart
from napari_uhrseg.ui.image import ImagePart
from napari_uhrseg.ui.jobs import Jobs
from napari_uhrseg.ui.loading import keep_triton_out, thaw
from napari_uhrseg.ui.rows import Fold
from napari_uhrseg.ui.segment import SegmentPart
from napari_uhrseg.ui.shown import ShownLabels

# napari's themes do not show where the keyboard is; orange is seen on both
FOCUS = """
QPushButton:focus, QComboBox:focus, QAbstractSpinBox:focus, QLineEdit:focus,
QCheckBox:focus, QTreeWidget:focus { border: 1px solid #e08a00; }
"""


class Panel(QWidget):
    """Image and Segment (later also Correct), and what Fine-tune says for now."""

    unfold_finetune = False

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        # napari hands out a proxy that wraps each layer anew at every access, so
        # that no layer would be itself; only public names are used all the same
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._stopped = False
        self.setStyleSheet(FOCUS)
        keep_triton_out()  # before any job imports torch
        self.jobs = Jobs(self)
        self.image = ImagePart(viewer, self.jobs)
        self.segment = SegmentPart(viewer, self.jobs)
        self.finetune = FineTunePart()
        self.shown = ShownLabels(viewer, self)
        self.areas = AreasPart(viewer, self.jobs, self.shown)
        self.export = ExportPart(self.jobs, self.shown)
        self.image.changed.connect(self._image_changed)
        self._removed = viewer.layers.events.removed
        self._removed.connect(thaw)  # a layer may hold much memory
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(2)
        parts = (
            ("Image", self.image, True),
            ("Segment", self.segment, True),
            ("Fine-tune", self.finetune, self.unfold_finetune),
            ("Areas", self.areas, False),
            ("Export", self.export, False),
        )
        for title, part, unfolded in parts:
            layout.addWidget(Fold(title, part, unfolded=unfolded))
        layout.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # it follows what has the focus
        area.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.setMinimumWidth(330)
        self.destroyed.connect(self.jobs.close)
        self._image_changed()

    def stop(self) -> None:
        """End all jobs and let go of the viewer. Called when the dock closes."""
        if self._stopped:
            return
        self._stopped = True
        self.jobs.close()
        self.image.stop()
        self.segment.stop()
        self.areas.stop()
        self.shown.stop()
        self._removed.disconnect(thaw)
        thaw()

    def event(self, event: QEvent) -> bool:
        # napari takes the widget out of a dock that is closed for good
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.stop()
        return bool(super().event(event))

    def _image_changed(self) -> None:
        self.segment.set_image(self.image.layer, self.image.image)


class FineTunePanel(Panel):
    """The same dock from the other menu entry."""

    unfold_finetune = True
