"""Editor of the clean-up of labels: its settings, and a preview of the view."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget
from superqt.utils import qdebounced

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.types import CleanUp, Labels, Roi
from napari_uhrseg.ui.layers.label_layers import LabelsView, remove_later
from napari_uhrseg.ui.layers.viewport import view_rectangle
from napari_uhrseg.ui.widgets.clean_up_form import CleanUpForm
from napari_uhrseg.ui.widgets.layout import (
    column_of,
    form_of,
    note,
    push_button,
    row_of,
)
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

NAME = "Clean-up"
ZOOM_IN = "Zoom in for a preview. Apply cleans up the whole image."


class CleanUpEditor(QWidget):
    """Button that opens the settings of a clean-up; a layer shows it in the view."""

    applied = Signal(object)  # function of Corrections that cleans up the image

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self._viewer, self._workers = viewer, workers
        self._view: LabelsView | None = None
        self._layer: Any = None
        self._number = 0  # previews with another number are out of date
        self.button = push_button(
            "Clean up…",
            "Remove small objects, fill small holes, smooth borders.",
            self.open,
        )
        self.result = note()
        self.result.setAccessibleName("Clean-up")
        self.apply = push_button(
            "Apply to image",
            "Clean up the whole image. The changes are corrections; Undo reverts them.",
            self._apply,
        )
        self.discard = push_button("Discard", "Close without a change.", self.close_up)
        self.editor = self._lay_out()
        self.editor.hide()
        self.setLayout(column_of(self.button, self.editor))
        self._later = qdebounced(self._preview, timeout=300, parent=self)
        self.form.changed.connect(self._changed)
        camera = viewer.scene.camera.events
        self._camera = (camera.center, camera.zoom)

    def _lay_out(self) -> QWidget:
        form = QWidget()
        rows = form_of(form)
        self.form = CleanUpForm(rows)
        editor = QWidget()
        editor.setLayout(column_of(form, self.result, row_of(self.apply, self.discard)))
        return editor

    def set_view(self, view: LabelsView | None) -> None:
        """Set the labels to clean up; other labels close the editor."""
        if view is not self._view:
            self.close_up()
        self._view = view

    def open(self) -> None:
        """Open the settings."""
        if self._view is None or not self.editor.isHidden():
            return
        self.button.hide()
        self.editor.show()
        for event in self._camera:
            event.connect(self._changed)
        self._later()

    def close_up(self) -> None:
        """Close the settings and remove the preview."""
        self._number += 1
        self._later.cancel()
        self._remove_layer()
        if self.editor.isHidden():
            return
        for event in self._camera:
            event.disconnect(self._changed)
        self.editor.hide()
        self.button.show()

    def _changed(self, *_: object) -> None:
        """Preview again after a change of the settings or a move of the view."""
        self._later()

    def _preview(self) -> None:
        """Compute the clean-up of the view in a worker."""
        view = self._view
        if view is None or self.editor.isHidden():
            return
        self._number += 1
        number = self._number
        try:
            settings = self.form.settings()
        except UhrSegError as error:
            self._show_text(str(error))
            return
        seen = view_rectangle(self._viewer, view.layer)
        if not settings:
            self._show_text("Choose a filter or a size.")
            return
        from napari_uhrseg.io.cleanup.correct_labels import MAX_PREVIEW

        if seen is None or max(seen.height, seen.width) > MAX_PREVIEW:
            self._show_text(ZOOM_IN)
            return

        def found(changed: Labels) -> None:
            if number == self._number:
                self._show(view, seen, changed)

        def failed(error: Exception) -> None:
            if number == self._number:
                self._show_text(str(error))

        self._workers.call(
            _changes, view.store, settings, seen, returned=found, errored=failed
        )

    def _show(self, view: LabelsView, roi: Roi, cleaned: Labels) -> None:
        """Show the labels of the view after the clean-up."""
        under = view.layer
        pixel = np.asarray(under.scale)[-2:]
        place = np.asarray(under.translate)[-2:] + pixel * (roi.y, roi.x)
        self._remove_layer()
        chosen = self._viewer.layers.selection.active
        self._layer = LabelsLayer(
            cleaned,
            name=NAME,
            scale=pixel,
            translate=place,
            affine=under.affine.affine_matrix[-3:, -3:],
            units=under.units[-2:],
            colormap=view.colormap(),
            opacity=1.0,
        )
        self._layer.editable = False
        self._viewer.add_layer(self._layer)
        self._viewer.layers.selection.active = chosen
        self.result.setText(
            f"{formatted(int(np.count_nonzero(cleaned)))} pixels in view change; "
            "the layer Clean-up shows their new classes."
        )

    def _show_text(self, text: str) -> None:
        self._remove_layer()
        self.result.setText(text)

    def _remove_layer(self) -> None:
        if self._layer is not None:
            remove_later(self._viewer, self._layer)
        self._layer = None

    def _apply(self) -> None:
        try:
            settings = self.form.settings()
        except UhrSegError as error:
            self._show_text(str(error))
            return
        if not settings:
            self._show_text("Choose a filter or a size.")
            return
        from napari_uhrseg.io.cleanup.correct_labels import clean_corrections

        self.close_up()
        self.applied.emit(partial(clean_corrections, clean_up=settings))


def _changes(store: "LabelStore", settings: CleanUp, roi: Roi) -> Labels:
    """Return the new classes of the pixels that a clean-up changes; 0 for others."""
    from napari_uhrseg.io.cleanup.correct_labels import preview_clean_up

    cleaned = preview_clean_up(store, settings, roi)
    changed: Labels = np.where(cleaned != store.read_labels(roi), cleaned, 0)
    return changed.astype(np.uint8)
