"""Widgets for the region to segment and the output folder."""

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QWidget,
)

from napari_uhrseg.errors import OpenError, PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import PathOrUrl, is_url, parent_or_home, to_path
from napari_uhrseg.samples import is_sample
from napari_uhrseg.types import Region
from napari_uhrseg.ui.layers.viewport import drawn_region, view_rectangle
from napari_uhrseg.ui.widgets.layout import (
    add_row,
    form_of,
    narrow,
    note,
    on_edited,
    push_button,
)

WHOLE, VIEW = "whole", "view"


class RegionPicker(QComboBox):
    """List of regions: whole image, current view, or a shape of a Shapes layer."""

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        narrow(self)
        self._viewer = viewer
        self.setToolTip(
            "To segment a part of the image, draw a rectangle or a polygon in a Shapes "
            "layer."
        )
        self.addItem("Whole image", WHOLE)
        self.addItem("Current view", VIEW)
        self._removed = ""  # name of the chosen layer, which was removed just now
        self._forget = QTimer(self)
        self._forget.setSingleShot(True)
        self._forget.setInterval(0)
        self._forget.timeout.connect(self._forget_removed)
        self._list_shapes()
        layers = viewer.layers.events
        self._events = (layers.inserted, layers.removed, layers.renamed)
        for event in self._events:
            event.connect(self._list_shapes)
        self.currentIndexChanged.connect(lambda _: self.changed.emit())

    def region(self, layer: Any) -> Region | None:
        """Return the region in level-0 pixels of the layer; None is the whole image.

        Raises
        ------
        PlanError
            If the image is out of view, or if the Shapes layer has no shape.
        """
        choice = self.currentData()
        if choice == WHOLE:
            return None
        if choice == VIEW:
            seen = view_rectangle(self._viewer, layer)
            if seen is None:
                raise PlanError(
                    "The image is not in view.", "Move it into view, or press Home."
                )
            return seen
        return drawn_region(self._viewer, choice, layer)

    @property
    def follows_view(self) -> bool:
        return bool(self.currentData() == VIEW)

    def stop(self) -> None:
        for event in self._events:
            event.disconnect(self._list_shapes)
        for layer in self._shapes():
            layer.events.data.disconnect(self._drawn)
            layer.events.name.disconnect(self._list_shapes)

    def _shapes(self) -> list[Any]:
        return [x for x in self._viewer.layers if type(x).__name__ == "Shapes"]

    def _list_shapes(self) -> None:
        before = self.currentData()
        self.blockSignals(True)
        while self.count() > 2:
            self.removeItem(2)
        for layer in self._shapes():
            self.addItem(f"Shape in {layer.name}", layer)
            layer.events.data.connect(self._drawn)
            layer.events.name.connect(self._list_shapes)
        row = self._row_of(before)
        if row is None:
            self._removed = before.name
            self._forget.start()
        self.setCurrentIndex(row or 0)
        self.blockSignals(False)
        if self.currentData() != before:
            self.changed.emit()

    def _row_of(self, choice: Any) -> int | None:
        """Return the row of a choice, or of the layer that replaces a removed one."""
        rows = range(self.count())
        if self._removed:
            names = [getattr(self.itemData(i), "name", "") for i in rows]
            if self._removed in names:
                found, self._removed = names.index(self._removed), ""
                return found
        return next((i for i in rows if self.itemData(i) == choice), None)

    def _forget_removed(self) -> None:
        """Do not choose a layer of this name that is added later."""
        self._removed = ""

    def _drawn(self, event: Any) -> None:
        if event.source is self.currentData():
            self.changed.emit()


class OutputPicker(QWidget):
    """Line for the path of the label store; empty: a temporary store.

    A button opens labels that exist there, unless they are shown already.
    """

    changed = Signal()
    labelsWanted = Signal(object)  # path of labels to open

    def __init__(self) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setToolTip("Folder (OME-Zarr) that the labels are written to.")
        browse = self.browse = push_button("…", "Choose where the labels are written.")
        menu = QMenu(browse)
        menu.addAction("&New labels…", self._new)
        menu.addAction("&Existing labels to continue…", self._existing)
        browse.setMenu(menu)
        browse.setAccessibleName("Choose output")
        browse.setMaximumWidth(32)
        self.note = note()
        tip = "Open and show the labels in the output folder."
        self.open = push_button("Open them", tip, self._open)
        self._existing_path: PathOrUrl | None = None
        self._shown: PathOrUrl | None = None
        form = form_of(self)
        add_row(form, "Outpu&t", self.line, browse)
        found = QHBoxLayout()
        found.addWidget(self.note, 1)
        found.addWidget(self.open, 0, Qt.AlignmentFlag.AlignTop)
        form.addRow(found)
        on_edited(self.line, self._edited)
        self.set_image(None)

    @property
    def path(self) -> PathOrUrl | None:
        """Return the path, or None if the line is empty.

        Raises
        ------
        PlanError
            If the path is not valid.
        """
        text = self.line.text().strip()
        try:
            return to_path(text) if text else None
        except OpenError as error:
            raise PlanError(error.message) from error

    def set_image(self, image: Image | None) -> None:
        """Propose a store beside the image, or none if the image is not a file."""
        text = ""
        if image is not None and image.path is not None:
            text = str(default_output(image.path, image.series_number))
        self.line.setText(text)
        self.line.setPlaceholderText("labels are not saved")
        self._edited()

    def use(self, path: PathOrUrl | None) -> None:
        text = "" if path is None else str(path)
        if text != self.line.text():
            self.line.setText(text)
            self._edited()

    def set_shown(self, path: PathOrUrl | None) -> None:
        """Set the path of the labels that are shown; None: no labels of a path."""
        self._shown = path
        self._offer_to_open()

    def _offer_to_open(self) -> None:
        existing = self._existing_path
        self.open.setVisible(
            existing is not None and existing.absolute() != self._shown
        )

    def _open(self) -> None:
        self.labelsWanted.emit(self._existing_path)

    def _edited(self) -> None:
        self._existing_path = None
        try:
            path = self.path
        except PlanError:
            path = Path()  # the form reports it
        if path is None:
            text = "No output folder: the labels are lost when the window closes."
        elif is_url(path):
            text = "Labels at a URL can be shown but not corrected."
        elif path.exists():
            self._existing_path = path
            text = (
                "Labels exist here: a run continues them, or asks before it replaces "
                "them."
            )
        else:
            text = ""
        self.note.setText(text)
        self.note.setVisible(bool(text))
        self._offer_to_open()
        self.changed.emit()

    def _new(self) -> None:
        start = self.line.text().strip() or "labels.zarr"
        name, _ = QFileDialog.getSaveFileName(
            self,
            "Save the labels as",
            start,
            "Label stores (*.zarr)",
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if name:
            self.use(Path(name if name.endswith(".zarr") else f"{name}.zarr"))

    def _existing(self) -> None:
        start = str(Path(self.line.text().strip()).parent)
        title = "Labels to continue (an OME-Zarr folder)"
        name = QFileDialog.getExistingDirectory(self, title, start)
        if name:
            self.use(Path(name))


def default_output(path: PathOrUrl, series: int = 0) -> Path:
    """Return ``<name>_labels.zarr``, or ``<name>_2_labels.zarr`` for series 2.

    The path is beside the image. It is in the home folder for an image at a URL, and
    for a sample image, which is in the folder of this program.
    """
    stem = path.name
    for ending in (".ome.zarr", ".ome.tif", ".ome.tiff", path.suffix):
        if ending and stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
            break
    number = f"_{series}" if series else ""
    folder = Path.home() if is_sample(path) else parent_or_home(path)
    return folder / f"{stem}{number}_labels.zarr"
