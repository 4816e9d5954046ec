"""The form of a run: what is to be run, on what, where, and where to."""

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image import Image
from napari_uhrseg.types import SegmentSettings
from napari_uhrseg.ui.form import Form
from napari_uhrseg.ui.hardware import HardwarePart
from napari_uhrseg.ui.jobs import Jobs
from napari_uhrseg.ui.model import ModelPart
from napari_uhrseg.ui.output import OutputPart, WherePart
from napari_uhrseg.ui.rows import Fold, add_row, form_of
from napari_uhrseg.ui.run import Request, free_threads

MORE = ("precision", "scale", "bands", "value_range", "skip_glass")


class SettingsPart(QWidget):
    """All a request is made of, but the image."""

    changed = Signal()

    def __init__(self, viewer: Any, jobs: Jobs) -> None:
        super().__init__()
        self.model = ModelPart(jobs)
        self.hardware = HardwarePart(jobs)
        self.where = WherePart(viewer)
        self.overlap = Form(SegmentSettings, ("overlap",))
        self.more = Form(SegmentSettings, MORE)
        self.output = OutputPart()
        where = QWidget()
        add_row(form_of(where), "Wher&e", self.where)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for row in (self.model, self.hardware, where, self.overlap,
                    Fold("More settings", self.more), self.output):  # fmt: skip
            layout.addWidget(row)
        for part in (self.model, self.hardware, self.where, self.overlap, self.more,
                     self.output):  # fmt: skip
            part.changed.connect(self.changed.emit)

    def request(self, image: Image | None, layer: Any) -> Request:
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
        settings = SegmentSettings(
            device=self.hardware.device,
            region=self.where.region(layer),
            threads=free_threads(),
            **values,
        )
        return Request(
            image,
            self.model.path,
            settings,
            self.hardware.budget_bytes,
            self.output.path,
        )

    def set_running(self, running: bool) -> None:
        """Nothing can be changed while a run goes on, and the tooltip says so."""
        self.setEnabled(not running)
        tip = "A run is going on: its settings cannot change." if running else ""
        self.setToolTip(tip)
