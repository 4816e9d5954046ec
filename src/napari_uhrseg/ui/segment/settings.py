"""The form of a run: what is to be run, on what, where, and where to."""

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import SegmentSettings
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.segment.model_picker import ModelPicker
from napari_uhrseg.ui.segment.output import OutputPicker, RegionPicker
from napari_uhrseg.ui.segment.worker import SegmentRequest, free_threads
from napari_uhrseg.ui.widgets.form import Form
from napari_uhrseg.ui.widgets.layout import (
    CollapsibleSection,
    add_row,
    form_of,
    narrow,
    on_edited,
)
from napari_uhrseg.ui.workers.worker import Workers

MORE = ("precision", "scale", "bands", "value_range", "skip_background")


class ClusterForm(QWidget):
    """The address of a scheduler; empty: this machine does the work."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.line = QLineEdit()
        narrow(self.line)
        self.line.setPlaceholderText("this machine")
        self.line.setToolTip(
            "The scheduler of a dask cluster, such as tcp://10.0.0.1:8786. Its workers "
            "must see image, checkpoint and output at the same paths. Device is then "
            "theirs, and Memory what each of them may take."
        )
        add_row(form_of(self), "Cluster", self.line)
        on_edited(self.line, self.changed.emit)

    @property
    def scheduler(self) -> str:
        return str(self.line.text().strip())


class SegmentForm(QWidget):
    """All a request is made of, but the image."""

    changed = Signal()

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self.model = ModelPicker(workers)
        self.hardware = HardwareForm(workers)
        self.where = RegionPicker(viewer)
        self.overlap = Form(SegmentSettings, ("overlap",))
        self.more = Form(SegmentSettings, MORE)
        self.cluster = ClusterForm()
        self.output = OutputPicker()
        where = QWidget()
        add_row(form_of(where), "Wher&e", self.where)
        folded = QWidget()
        column = QVBoxLayout(folded)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.more)
        column.addWidget(self.cluster)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        rows = (
            self.model,
            self.hardware,
            where,
            self.overlap,
            CollapsibleSection("More settings", folded),
            self.output,
        )
        for row in rows:
            layout.addWidget(row)
        self.cluster.changed.connect(
            lambda: self.hardware.set_remote(bool(self.cluster.scheduler))
        )
        for part in (self.model, self.hardware, self.where, self.overlap, self.more,
                     self.cluster, self.output):  # fmt: skip
            part.changed.connect(self.changed.emit)

    def request(self, image: Image | None, layer: Any) -> SegmentRequest:
        """What the form says now, for an image and the layer that shows it.

        Raises
        ------
        PlanError
            Something is missing or cannot be; the message says what.
        """
        if image is None:
            raise PlanError("Open an image, or choose an image layer, first.")
        if self.model.path is None:
            raise PlanError("Choose a checkpoint first.")
        if self.hardware.device is None:
            raise PlanError("Looking for devices…")
        try:
            values = self.overlap.values() | self.more.values()
        except ValueError as error:
            raise PlanError(str(error)) from error
        scheduler = self.cluster.scheduler
        settings = SegmentSettings(
            device="auto" if scheduler else self.hardware.device,
            region=self.where.region(layer),
            threads=None if scheduler else free_threads(),
            **values,
        )
        return SegmentRequest(
            image,
            self.model.path,
            settings,
            self.hardware.budget_bytes,
            self.output.path,
            scheduler=scheduler,
        )

    def set_running(self, running: bool) -> None:
        """Nothing can be changed while a run goes on, and the tooltip says so."""
        self.setEnabled(not running)
        tip = "A run is going on: its settings cannot change." if running else ""
        self.setToolTip(tip)
