"""Image panel: open an image, choose a layer, its properties and its slice."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QInputDialog,
    QMenu,
    QSpinBox,
    QWidget,
)

from napari_uhrseg.errors import OpenError, without_credentials
from napari_uhrseg.io.image.from_array import image_from_layer
from napari_uhrseg.io.image.geometry import describe_position
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.paths import PathOrUrl, to_path
from napari_uhrseg.samples import data_dir
from napari_uhrseg.ui.image.labels_offer import LabelsOffer
from napari_uhrseg.ui.image.picture_form import PictureForm
from napari_uhrseg.ui.layers.label_layers import (
    KEY,
    add_image,
    image_layers,
    images_in,
    replace_series,
    same_image,
)
from napari_uhrseg.ui.layers.picture import BAND
from napari_uhrseg.ui.layers.pyramid_progress import PyramidProgressBar
from napari_uhrseg.ui.layers.viewport import show_plane, shown_plane
from napari_uhrseg.ui.widgets.help_window import show_help
from napari_uhrseg.ui.widgets.layout import add_row, combo, form_of, note, push_button
from napari_uhrseg.ui.workers.worker import Workers, report
from napari_uhrseg.units import MB, formatted

MOST_READ = 64 * MB  # of the coarsest level that is read before it is shown
AXIS_TITLES = {"z": "Z slice", "t": "Time point"}


class ImagePanel(QWidget):
    """Form for the image; ``layer`` and ``image`` are None if none is chosen."""

    changed = Signal()
    labelsWanted = Signal()
    labelsAt = Signal(object)  # path or URL of a label store

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self._viewer, self._workers = viewer, workers
        self.layer: Any = None
        self.image: Image | None = None
        self._planes: dict[str, QSpinBox] = {}
        self.box = combo("Image layer to segment.")
        tip = "Open an image of any size, or labels."
        self.open = push_button("&Open…", tip, main=True)
        menu = QMenu(self.open)
        menu.addAction("&File…", self._choose_files)
        menu.addAction("OME-&Zarr folder…", self._choose_folder)
        menu.addAction("&Labels…", self.labelsWanted.emit)
        menu.addAction("Image or labels at a &URL…", self._ask_url)
        self.open.setMenu(menu)
        self.facts = note()
        self.overviews = PyramidProgressBar()
        self._form = form_of(self)
        add_row(self._form, "&Image", self.box, self.open)
        self.series = combo("Image of this file that is shown and segmented.")
        add_row(self._form, "Se&ries", self.series)
        self.series.activated.connect(self._series_chosen)
        self._form.addRow(self.facts)
        tip = "Open the sample scene, and the page with the first steps."
        self.sample = push_button("Start with a sample", tip)
        self.sample.clicked.connect(self._open_sample)
        self._form.addRow(self.sample)
        self.found_labels = LabelsOffer(workers)
        self.found_labels.wanted.connect(self.labelsAt.emit)
        self._form.addRow(self.found_labels)
        self.picture = PictureForm(viewer)
        self._form.addRow(self.picture)
        self._form.addRow(self.overviews)
        self.box.currentIndexChanged.connect(self._chosen)
        layers = viewer.layers.events
        self._events = (
            layers.inserted,
            layers.removed,
            layers.reordered,
            layers.renamed,
        )
        for event in self._events:
            event.connect(self._list_layers)
        viewer.dims.events.current_step.connect(self._step_changed)
        self._list_layers()

    def add_part(self, part: QWidget) -> None:
        """Add a part below the others."""
        self._form.addRow(part)

    def open_paths(self, paths: Sequence[PathOrUrl]) -> None:
        """Open images or labels in workers and show them."""
        for path in paths:
            self.facts.setText(f"Opening {path.name}…")
            self._workers.call(
                _open_any,
                path,
                returned=self._found,
                finished=self._show_facts,
            )

    def choose(self, image: Image) -> bool:
        """Choose the layer that shows this image; return False if there is none."""
        if same_image(self.image, image):
            return True
        row = self._row_of(image)
        if row >= 0:
            self.box.setCurrentIndex(row)
        return row >= 0

    def _row_of(self, image: Image | None) -> int:
        """Return the first row of an image in the list, or -1."""
        shown = (self.box.itemData(i).metadata for i in range(self.box.count()))
        rows = (i for i, x in enumerate(shown) if same_image(x.get(KEY), image))
        return -1 if image is None else next(rows, -1)

    def choose_layer(self, layer: Any) -> None:
        """Choose a layer of the viewer."""
        self.box.setCurrentIndex(self.row(layer))

    def row(self, layer: Any) -> int:
        """Return the row of a layer in the list, or -1 if it is not in the list."""
        rows = (i for i in range(self.box.count()) if self.box.itemData(i) is layer)
        return next(rows, -1)

    def stop(self) -> None:
        """Disconnect from the viewer. Called when the panel closes."""
        for event in self._events:
            event.disconnect(self._list_layers)
        self._viewer.dims.events.current_step.disconnect(self._step_changed)
        self.picture.stop()

    def _choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Open images")
        self.open_paths([Path(n) for n in names])

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Open an OME-Zarr folder")
        if name:
            self.open_paths([Path(name)])

    def _ask_url(self) -> None:
        url, given = QInputDialog.getText(
            self,
            "Open at a URL",
            "s3://…, https://… or another URL that fsspec supports:",
        )
        if given and url.strip():
            self.open_url(url.strip())

    def open_url(self, url: str) -> None:
        """Open the image or labels at a URL in a worker."""
        self.facts.setText(f"Opening {url}…")
        self._workers.call(
            _open_any, to_path(url), returned=self._found, finished=self._show_facts
        )

    def _found(self, found: Image | PathOrUrl) -> None:
        if isinstance(found, Image):
            self.show_image(found)
        else:
            self.labelsAt.emit(found)

    def show_image(self, image: Image) -> None:
        """Show an opened image in new layers and choose it; report errors."""
        try:
            layer = add_image(self._viewer, image)[0]
        except OpenError as error:
            report(error)
            return
        self.choose_layer(layer)

    def _series_chosen(self, number: int) -> None:
        """Replace the image by another one of the same file."""
        image = self.image
        if image is None or image.path is None or number == image.series_number:
            return
        self.facts.setText(f"Opening {self.series.currentText()}…")
        self._workers.call(
            open_for_display,
            image.path,
            number,
            returned=self._series_opened,
            finished=self._show_facts,
        )

    def _series_opened(self, image: Image) -> None:
        try:
            layer = replace_series(self._viewer, image)[0]
        except OpenError as error:
            report(error)
            return
        self.choose_layer(layer)

    def _list_layers(self) -> None:
        self.box.blockSignals(True)
        self.box.clear()
        for layer in images_in(self._viewer):
            image = layer.metadata.get(KEY)
            by_band = image is not None and BAND in layer.metadata
            self.box.addItem(image.name if by_band else layer.name, layer)
        row = self.row(self.layer)
        same = row if row >= 0 else self._row_of(self.image)
        self.box.setCurrentIndex(same if same >= 0 else self.box.count() - 1)
        self.box.blockSignals(False)
        self.box.setEnabled(self.box.count() > 0)
        if same < 0:
            self._chosen()
        elif row < 0:  # other layers show the image
            self.layer = self.box.currentData()
            self.changed.emit()

    def _chosen(self) -> None:
        self.layer, self.image = self.box.currentData(), None
        if self.layer is None:
            self._set_image(None)
            return
        layer = self.layer
        if KEY in layer.metadata:
            self._set_image(layer.metadata[KEY])
            return
        self.facts.setText("Reading the layer…")
        self.changed.emit()

        def found(image: Image) -> None:
            if layer is self.layer:
                self._set_image(image)

        self._workers.call(image_from_layer, layer, returned=found)

    def _set_image(self, image: Image | None) -> None:
        self.image = image
        self.picture.set_layer(self.layer)
        self._show_facts()
        self._make_planes()
        if image is not None and image.pixel_size is not None:
            self._viewer.canvas.overlays.scale_bar.visible = True
        self.overviews.set_image(image)
        self.found_labels.set_image(image)
        self.changed.emit()

    def _open_sample(self) -> None:
        self.open_paths([data_dir() / "scene.tif"])
        show_help("get-started.md", "Segment the scene")

    def _show_facts(self) -> None:
        self._form.setRowVisible(self.sample, self.image is None)
        if self.image is None:
            text = "No image yet. Open one, or drop a file into the window."
            self.facts.setText(text)
            self._form.setRowVisible(self.series, False)
        else:
            self._list_series(self.image)
            self.facts.setText(facts(self.image))
            path = without_credentials(str(self.image.path or ""))
            self.facts.setToolTip(path or "This image has no file.")

    def _list_series(self, image: Image) -> None:
        self.series.clear()
        for number, name in enumerate(image.series):
            self.series.addItem(f"{number}: {name}")
        self.series.setCurrentIndex(image.series_number)
        several = len(image.series) > 1 and image.path is not None
        self._form.setRowVisible(self.series, several)

    def _make_planes(self) -> None:
        for box in self._planes.values():
            self._form.removeRow(box)
        self._planes = {}
        if self.image is None:
            return
        if self.image.planes:  # the slice shown is segmented
            shown = shown_plane(self._viewer, self.layer, self.image)
            self.image = self.image.with_plane(**shown)
        for axis, size in self.image.planes.items():
            box = QSpinBox()
            box.setRange(0, size - 1)
            box.setValue(self.image.plane[axis])
            box.setSuffix(f" of 0 to {size - 1}")
            box.setToolTip(f"Index along {axis} that is shown and segmented.")
            box.valueChanged.connect(self._plane_chosen)
            add_row(self._form, AXIS_TITLES.get(axis, f"Axis {axis}"), box)
            self._planes[axis] = box

    def _plane_chosen(self) -> None:
        if self.image is None:
            return
        plane = {axis: box.value() for axis, box in self._planes.items()}
        self.image = self.image.with_plane(**plane)
        show_plane(self._viewer, self.layer, self.image)
        self.changed.emit()

    def _step_changed(self) -> None:
        if self.image is not None and self._planes:
            shown = shown_plane(self._viewer, self.layer, self.image)
            for axis, index in shown.items():
                self._planes[axis].setValue(index)


def facts(image: Image) -> str:
    """Return size, type, channels, pixel size, position and nodata as lines."""
    height, width = image.shape
    count = len(image.bands)
    bands = ", ".join(b.name for b in image.bands[:6])
    if count > 6:
        bands += f" and {count - 6} more"
    if image.rgb:
        bands = "RGB" if count <= 3 else f"{count} channels: {bands}"
    first = f"{formatted(width)} x {formatted(height)} pixels, {image.dtype}, {bands}"
    place = describe_position(image)
    second = _pixel_size(image)
    if "Coordinates" in place:
        second += f", {place.pop('Coordinates')}"
    others = [f"{name}: {text}" for name, text in place.items()]
    lines = [first, second, *others, _nodata(image), *image.warnings]
    return "\n".join(line for line in lines if line)


def _pixel_size(image: Image) -> str:
    if image.pixel_size is None:
        return "Pixel size unknown"
    unit = {"micrometer": "µm", "metre": "m", "meter": "m"}.get(image.unit, image.unit)
    return f"{formatted(image.pixel_size[0], '.4g')} {unit}/px"


def _nodata(image: Image) -> str:
    """Return the nodata value, or that of each band; empty without one."""
    values = [band.nodata for band in image.bands]
    known = [formatted(value, "g") for value in values if value is not None]
    if not known:
        return ""
    if len(known) == len(values) and len(set(known)) == 1:
        return f"Nodata: {known[0]}"
    named = (
        f"{b.name} {formatted(b.nodata, 'g')}"
        for b in image.bands
        if b.nodata is not None
    )
    return f"Nodata: {', '.join(named)}"


def _open_any(where: PathOrUrl) -> Image | PathOrUrl:
    """Open an image, or return the address unchanged if it is a label store."""
    from napari_uhrseg.io.labels.ome_metadata import is_store

    return where if is_store(where) else open_for_display(where)


def open_for_display(path: PathOrUrl, series: int | None = None) -> Image:
    """Open an image, and read what its layers show first; call this on a worker."""
    import_module("scipy.ndimage")  # else napari imports it on the Qt thread
    image = open_image(path, series=series)
    for data, options, _ in image_layers(image):  # makes dask arrays
        coarsest = data[-1] if options["multiscale"] else data
        if coarsest.nbytes <= MOST_READ:  # napari reads it from the cache then
            np.asarray(coarsest)
    return image
