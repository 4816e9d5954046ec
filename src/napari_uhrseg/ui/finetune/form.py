"""Form of a training run: start, length, settings, and corrections to train on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.project.project_labels import ProjectLabels
from napari_uhrseg.types import FineTuneSettings, Roi
from napari_uhrseg.types.finetuning import FIRST_STEPS, QUICK_STEPS, THOROUGH_STEPS
from napari_uhrseg.ui.finetune.worker import FineTuneRequest, NewModel
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.layers.viewport import view_rectangle
from napari_uhrseg.ui.segment.hardware import HardwareForm
from napari_uhrseg.ui.widgets.form import Form
from napari_uhrseg.ui.widgets.layout import (
    CollapsibleSection,
    add_row,
    column_of,
    combo,
    form_of,
    push_button,
)

NO_LABELS = (
    "There are no labels to train on. Segment the image and correct it, or create new "
    "labels and paint."
)
FOLLOW, NEW = "follow", "new"  # data of the entries that are not paths
PROJECT = "project"  # data of the entry of a project's images
CUSTOM = "custom"
PROJECT_TIP = (
    "One model is trained on the corrections of these images. With at least three of "
    "them, whole images are held out for validation."
)
CUSTOM_FIELDS = ("steps", "learning_rate", "trainable", "batch_size")


class FineTuneForm(QWidget):
    """Form of a training run.

    ``start`` is the file of a checkpoint, a new model, or None if none is chosen.
    """

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._followed: Path | None = None
        self._new: NewModel | None = None
        self._several: ProjectLabels | None = None
        self.checkpoint = combo(
            "Checkpoint to start from: the one chosen under Segment, unless you choose "
            "another. It is not modified; the result is a new checkpoint."
        )
        self.checkpoint.addItem("", FOLLOW)
        other = self.other = push_button(
            "…", "Start from another checkpoint file.", self._browse
        )
        other.setAccessibleName("Choose the checkpoint to start from")
        other.setMaximumWidth(32)
        self.length = combo("More steps learn more and take longer.")
        self.length.addItem(f"Quick: {QUICK_STEPS} steps", QUICK_STEPS)
        self.length.addItem(f"From scratch: {FIRST_STEPS} steps", FIRST_STEPS)
        self.length.addItem(f"Thorough: {THOROUGH_STEPS} steps", THOROUGH_STEPS)
        self.length.addItem("Custom", CUSTOM)
        self.custom = Form(FineTuneSettings, CUSTOM_FIELDS)
        self.corrections = combo("Corrections to train on.")
        self.corrections.addItem("All corrections", None)
        self.corrections.addItem("Corrections in view", "view")
        self.distillation = Form(FineTuneSettings, ("distillation_weight",))
        above = QWidget()
        form = self._steps = form_of(above)
        add_row(form, "Start from", self.checkpoint, other)
        add_row(form, "Train on", self.corrections)
        add_row(form, "Length", self.length)
        self._lay_out(above)
        self.custom.hide()
        self.length.currentIndexChanged.connect(self._length_chosen)
        for box in (self.checkpoint, self.corrections):
            box.currentIndexChanged.connect(lambda _: self.changed.emit())
        for form_part in (self.custom, self.distillation):
            form_part.changed.connect(self.changed.emit)
        self.set_followed(None, "")
        camera = viewer.scene.camera.events
        self._camera = camera.center, camera.zoom
        for event in self._camera:
            event.connect(self._moved)

    def _lay_out(self, above: QWidget) -> None:
        """Put the rows below one another; rarely used ones are behind *More*."""
        rare = QWidget()  # `set_live` shows and hides its content
        rare.setLayout(column_of(self.distillation))
        more = CollapsibleSection("More", rare)
        self.setLayout(column_of(above, self.custom, more))

    def stop(self) -> None:
        """Disconnect from the viewer."""
        for event in self._camera:
            event.disconnect(self._moved)

    def _moved(self) -> None:
        if self.follows_view:
            self.changed.emit()

    def set_live(self, live: bool) -> None:
        """Hide the settings of trainings in steps for a model that has none."""
        self._steps.setRowVisible(self.length, not live)
        self.distillation.setVisible(not live)
        self.custom.setVisible(not live and self.length.currentData() == CUSTOM)

    @property
    def start(self) -> Path | NewModel | None:
        choice = self.checkpoint.currentData()
        if choice == FOLLOW:
            return self._followed
        return self._new if choice == NEW else Path(choice)

    @property
    def follows_view(self) -> bool:
        return bool(self.corrections.currentData() == "view")

    def set_several(self, several: ProjectLabels | None, *, chosen: bool) -> None:
        """Offer the corrected images of a project to train on.

        Parameters
        ----------
        several
            The images. None: none is offered.
        chosen
            True if the user chose them in the list.
        """
        count = 0 if several is None else len(several.images)
        title = f"{count} {'chosen' if chosen else 'corrected'} images"
        before, self._several = self._several, several
        box, row = self.corrections, self.corrections.findData(PROJECT)
        if several is None and row >= 0:
            if box.currentIndex() == row:
                box.setCurrentIndex(0)  # all corrections
            box.removeItem(row)
        elif several is not None and row < 0:
            box.addItem(title, PROJECT)
            box.setItemData(box.count() - 1, PROJECT_TIP, Qt.ItemDataRole.ToolTipRole)
        elif several is not None:
            box.setItemText(row, title)
        if before != several and box.currentData() == PROJECT:
            self.changed.emit()

    def set_followed(self, path: Path | None, name: str) -> None:
        """Set the checkpoint chosen in the Segment panel, and its title."""
        self._followed = path
        self.checkpoint.setItemText(0, (name or path.stem) if path else "none chosen")
        self.checkpoint.setItemData(
            0, "The checkpoint chosen under Segment.", Qt.ItemDataRole.ToolTipRole
        )
        self.changed.emit()

    def follow(self) -> None:
        """Start from the checkpoint chosen in the Segment panel."""
        self.checkpoint.setCurrentIndex(0)

    def use_new(self, model: NewModel) -> None:
        """Start from an untrained model."""
        self._new = model
        self.length.setCurrentIndex(self.length.findData(FIRST_STEPS))
        self._choose(f"{model.name}, {model.encoder.removeprefix('tu-')}", NEW)

    def use(self, path: Path) -> None:
        """Start from a checkpoint file, independent of the Segment panel."""
        self._choose(path.stem, str(path))

    def request(
        self, view: LabelsView | None, hardware: HardwareForm
    ) -> FineTuneRequest:
        """Return the request that the form describes.

        Raises
        ------
        PlanError
            If there are no labels, no start, or no device yet, or if the labels are
            out of view and only corrections in view are to be used.
        """
        if view is None:
            raise PlanError(NO_LABELS)
        if self.start is None:
            raise PlanError("Choose a checkpoint or a new model first.")
        if hardware.device is None:
            raise PlanError("Looking for devices…")
        return FineTuneRequest(
            view.image,
            view.store.path,
            self.start,
            self.settings(view.layer, hardware.device),
            hardware.budget_bytes,
            self._several if self.corrections.currentData() == PROJECT else None,
        )

    def choices(self) -> dict[str, Any]:
        """Return the length and the settings of a training by name."""
        values = {**self.custom.values(), **self.distillation.values()}
        return {"length": self.length.currentData(), **values}

    def set_choices(self, values: Mapping[str, Any]) -> None:
        """Show what `choices` has returned; unknown names have no effect."""
        row = self.length.findData(values.get("length"))
        if row >= 0:
            self.length.setCurrentIndex(row)
        for part in (self.custom, self.distillation):
            part.set_values({k: v for k, v in values.items() if k in part.widgets})

    def settings(self, layer: Any, device: str) -> FineTuneSettings:
        """Return the settings; ``layer`` shows the labels.

        Raises
        ------
        PlanError
            If the labels are out of view and only corrections in view are used.
        """
        values = self.distillation.values()
        length = self.length.currentData()
        values |= self.custom.values() if length == CUSTOM else {"steps": length}
        start = self.start
        compares = isinstance(start, NewModel) and start.compares
        return FineTuneSettings(
            device=device, regions=self._places(layer), compares=compares, **values
        )

    def _places(self, layer: Any) -> tuple[Roi, ...] | None:
        if not self.follows_view:
            return None
        seen = view_rectangle(self._viewer, layer)
        if seen is None:
            raise PlanError(
                "The corrected labels are not in view.",
                "Move them into view, or train on all corrections.",
            )
        return (seen,)

    def _choose(self, title: str, data: str) -> None:
        row = self.checkpoint.findData(data)
        if row < 0:
            self.checkpoint.addItem(title, data)
            row = self.checkpoint.count() - 1
        self.checkpoint.setItemText(row, title)
        self.checkpoint.setCurrentIndex(row)
        self.changed.emit()

    def _length_chosen(self) -> None:
        self.custom.setVisible(self.length.currentData() == CUSTOM)
        self.changed.emit()

    def _browse(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Start from a checkpoint", "", "Checkpoints (*.safetensors)"
        )
        if name:
            self.use(Path(name))
