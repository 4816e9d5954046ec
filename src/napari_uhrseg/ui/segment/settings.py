"""Form of a run: model, hardware, region, settings and output."""

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QWidget

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import SegmentSettings
from napari_uhrseg.ui.segment.checkpoints.model_picker import ModelPicker
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.segment.output import OutputPicker, RegionPicker
from napari_uhrseg.ui.segment.tissue import TissueControl
from napari_uhrseg.ui.segment.worker import SegmentRequest, free_threads
from napari_uhrseg.ui.widgets.form import Form
from napari_uhrseg.ui.widgets.layout import (
    CollapsibleSection,
    add_row,
    column_of,
    form_of,
    narrow,
    on_edited,
)
from napari_uhrseg.ui.workers.worker import Workers

MORE = ("precision", "scale", "bands", "value_range", "skip_background")


class ClusterForm(QWidget):
    """Line for the address of a dask scheduler; empty: run on this machine."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.line = QLineEdit()
        narrow(self.line)
        self.line.setPlaceholderText("this machine")
        self.line.setToolTip(
            "Address of a dask scheduler, for example tcp://10.0.0.1:8786. The workers "
            "must find image, checkpoint and output at the same paths. Device then "
            "has no effect, and Memory is the budget of each worker."
        )
        add_row(form_of(self), "Cluster", self.line)
        on_edited(self.line, self.changed.emit)

    @property
    def scheduler(self) -> str:
        return str(self.line.text().strip())


class SegmentForm(QWidget):
    """Form of all parts of a request except the image."""

    changed = Signal()

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self.model = ModelPicker(workers)
        self.hardware = HardwareForm(workers)
        self.where = RegionPicker(viewer)
        self.overlap = Form(SegmentSettings, ("overlap",))
        self.more = Form(SegmentSettings, MORE)
        self.cluster = ClusterForm()
        self.tissue = TissueControl(viewer, workers)
        self.output = OutputPicker()
        where = QWidget()
        add_row(form_of(where), "R&egion", self.where)
        more_settings = QWidget()
        others = (self.hardware, self.overlap, self.more, self.cluster)
        more_settings.setLayout(column_of(*others, self.tissue))
        for other in others:  # the editor of the tissue needs their room
            self.tissue.editing.connect(other.setHidden)
        more = CollapsibleSection("More", more_settings)
        self.setLayout(column_of(self.model, where, self.output, more))
        self.cluster.changed.connect(
            lambda: self.hardware.set_remote(bool(self.cluster.scheduler))
        )
        for part in (self.model, self.hardware, self.where, self.overlap, self.more,
                     self.cluster, self.tissue, self.output):  # fmt: skip
            part.changed.connect(self.changed.emit)

    def request(self, image: Image | None, layer: Any) -> SegmentRequest:
        """Return the request for an image and the layer that shows it.

        Raises
        ------
        PlanError
            If an entry is missing or not valid. The message names it.
        """
        if image is None:
            raise PlanError("Open an image or choose an image layer first.")
        if self.model.path is None:
            raise PlanError("Choose a checkpoint first.")
        if self.hardware.device is None:
            raise PlanError("Looking for devices…")
        try:
            values = self.settings()
        except ValueError as error:
            raise PlanError(str(error)) from error
        scheduler = self.cluster.scheduler
        settings = SegmentSettings(
            device="auto" if scheduler else self.hardware.device,
            region=self.where.region(layer),
            threads=None if scheduler else free_threads(),
            tissue=self.tissue.run_mask,
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

    def settings(self) -> dict[str, Any]:
        """Return the values of `set_settings`.

        Raises
        ------
        ValueError
            If a line is not valid.
        """
        return {**self.overlap.values(), **self.more.values()}

    def set_settings(self, values: Mapping[str, Any]) -> None:
        """Show settings by the names of `SegmentSettings`; None is "auto"."""
        for part in (self.overlap, self.more):
            own = {k: v for k, v in values.items() if k in part.widgets}
            part.set_values(own)

    def set_running(self, running: bool) -> None:
        """Disable the form while a run is in progress; the tooltip gives the reason."""
        self.setEnabled(not running)
        tip = "A run is in progress: the settings cannot be changed." if running else ""
        self.setToolTip(tip)
