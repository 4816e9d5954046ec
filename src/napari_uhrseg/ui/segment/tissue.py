"""Control of the tissue mask: detect it, correct it, and use it in runs."""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QLineEdit, QWidget
from superqt.utils import qdebounced

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import AreaSize, TissueMask, TissueSettings
from napari_uhrseg.ui.layers.label_layers import same_image
from napari_uhrseg.ui.segment.tissue_layer import TissueLayer
from napari_uhrseg.ui.widgets.form import Form
from napari_uhrseg.ui.widgets.layout import (
    add_row,
    column_of,
    form_of,
    narrow,
    note,
    on_edited,
    push_button,
    row_of,
)
from napari_uhrseg.ui.widgets.number_text import local, plain
from napari_uhrseg.ui.widgets.task_progress import TaskProgress
from napari_uhrseg.ui.workers.worker import Worker, Workers, report
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.tissue.detect import CoarseColours

PAINTED = "corrected by the user"


class ImageTissue(NamedTuple):
    """Mask of an image, and whether runs use it."""

    mask: TissueMask | None = None
    used: bool = False


class TissueControl(QWidget):
    """Check box for runs in tissue only, and the editor of the mask.

    The editor shows a layer that follows the settings and that the user can paint.
    """

    changed = Signal()  # the mask of the next run
    editing = Signal(bool)  # the editor opens or closes

    def __init__(self, viewer: Any, workers: Workers) -> None:
        super().__init__()
        self._viewer, self._workers = viewer, workers
        self._under: Any = None  # layer of the image
        self._image: Image | None = None
        self._store: LabelStore | None = None  # displayed labels of the image
        self._known: WeakKeyDictionary[Image, ImageTissue] = WeakKeyDictionary()
        self._reading: Worker | None = None
        self._colours: CoarseColours | None = None
        self._detected: TissueMask | None = None  # as the settings give it
        self._layer: TissueLayer | None = None
        self._number = 0  # results with another number are out of date
        self.only = QCheckBox("Only tissue")
        self.only.setToolTip(
            "Label only the tissue of this image. Windows without tissue do not run."
        )
        self.detect = push_button(
            "Detect tissue…",
            "Find the tissue by its colour. You can paint the result.",
            self.open,
        )
        self.progress = TaskProgress()
        self.progress.stopped.connect(self.close_editor)
        self.editor = self._make_editor()
        self.setLayout(column_of(row_of(self.only, self.detect), self.progress,
                                 self.editor))  # fmt: skip
        self.editor.hide()
        self.only.toggled.connect(self._use)
        self._later = qdebounced(self._detect, timeout=200, parent=self)
        self._show_state()

    def _make_editor(self) -> QWidget:
        """Return the settings, the result and the buttons of the editor."""
        self.form = Form(TissueSettings, ("saturation", "density", "smoothing"))
        self.piece, self.hole = QLineEdit(), QLineEdit()
        sizes = QWidget()
        rows = form_of(sizes)
        for line, title, tip in (
            (self.piece, "Smallest piece", "Smaller pieces of tissue are removed."),
            (self.hole, "Largest hole", "Smaller holes in tissue are filled."),
        ):
            narrow(line)
            line.setPlaceholderText(local("auto (e.g. 0.1 mm2)"))
            areas = local("5000 um2 or 0.1 mm2")
            line.setToolTip(f"{tip} An area such as {areas}, or a number of pixels.")
            add_row(rows, title, line)
            on_edited(line, self._settings_changed)
        self.form.changed.connect(self._settings_changed)
        self.result = note()
        self.result.setAccessibleName("Tissue")
        self.apply = push_button(
            "Apply", "Use this mask, and keep it with the labels.", self._apply
        )
        self.discard = push_button(
            "Discard", "Close without a change of the mask.", self.close_editor
        )
        editor = QWidget()
        editor.setLayout(
            column_of(self.form, sizes, self.result, row_of(self.apply, self.discard))
        )
        return editor

    @property
    def run_mask(self) -> TissueMask | None:
        """Mask of the next run; None: all pixels get labels."""
        known = self._state()
        return known.mask if known.used else None

    def set_image(self, layer: Any, image: Image | None) -> None:
        """Set the image and the layer that shows it; another image closes the editor.

        Parameters
        ----------
        layer
            Layer of the image.
        image
            The image; None: no image.
        """
        before = self._image
        if not same_image(image, before):
            self.close_editor()
        elif image is not None and before is not None and image is not before:
            self._known[image] = self._state()  # another plane
        self._under, self._image = layer, image
        self._show_state()

    def set_store(self, store: "LabelStore | None") -> None:
        """Set the displayed labels of the image, which keep an applied mask."""
        self._store = store

    def restore(self, store: "LabelStore", image: Image) -> None:
        """Use the mask of opened labels as their last run did."""

        def found(mask: TissueMask | None) -> None:
            if mask is None:
                return
            used = not store.runs or store.runs[-1].tissue == mask.id
            self._known[image] = ImageTissue(mask, used)
            if image is self._image:
                self._show_state()
                self.changed.emit()

        self._workers.call(_read_mask, store, returned=found)

    def open(self) -> None:
        """Open the editor with the mask of the image, or detect a first one."""
        if self._image is None or self._layer is not None or self._reading is not None:
            return
        self._number += 1
        self.detect.setEnabled(False)
        self.progress.begin("Reading the image", "Stop and change nothing.")
        self._reading = self._workers.start(
            _read_colours,
            self._image,
            yielded=self._current(self.progress.progress),
            returned=self._current(self._opened),
            errored=self._current(self._failed),
        )

    def stop(self) -> None:
        """End the detection and remove its layer.

        A panel that closes calls this method; its widgets may be deleted already.
        """
        self._number += 1
        self._later.cancel()
        if self._reading is not None:
            self._reading.quit()
        if self._layer is not None:
            self._viewer.layers.events.removed.disconnect(self._layer_removed)
            self._layer.remove()
        self._reading = self._colours = self._detected = self._layer = None

    def close_editor(self) -> None:
        """Close the editor, and forget what it shows."""
        self.stop()
        self.progress.end()
        self.editor.hide()
        self.editing.emit(False)
        self._show_state()

    def settings(self) -> TissueSettings:
        """Return the settings of the form.

        Raises
        ------
        UhrSegError
            If a size is not an area.
        """
        piece, hole = (
            AreaSize.parse(plain(line.text())) if line.text().strip() else None
            for line in (self.piece, self.hole)
        )
        values = TissueSettings(**self.form.values())
        return replace(values, smallest_piece=piece, largest_hole=hole)

    def _state(self) -> ImageTissue:
        none = ImageTissue()
        return none if self._image is None else self._known.get(self._image, none)

    def _show_state(self) -> None:
        known = self._state()
        self.only.blockSignals(True)
        self.only.setChecked(known.used)
        self.only.blockSignals(False)
        self.only.setEnabled(known.mask is not None)
        image = self._image
        self.detect.setEnabled(image is not None and image.rgb and self._layer is None)
        if known.mask is not None:
            self.only.setText(f"Only tissue ({formatted(known.mask.share, '.0%')})")
        else:
            self.only.setText("Only tissue")

    def _use(self, used: bool) -> None:
        if self._image is not None:
            self._known[self._image] = self._state()._replace(used=used)
            self.changed.emit()

    def _current(self, act: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a callback that ignores results that are out of date."""
        number = self._number
        return lambda value: act(value) if number == self._number else None

    def _failed(self, error: Exception) -> None:
        self.close_editor()
        report(error)

    def _opened(self, colours: "CoarseColours") -> None:
        """Show the mask that the image has, with its settings, or detect one."""
        self._reading, self._colours = None, colours
        self.progress.end()
        self.editor.show()
        self.editing.emit(True)
        mask = self._state().mask
        if mask is None:
            self._detect()
            return
        if mask.settings is not None:
            self._show_settings(mask.settings)
        self._show_mask(mask)

    def _show_settings(self, settings: TissueSettings) -> None:
        names = ("saturation", "density", "smoothing")
        self.form.blockSignals(True)
        self.form.set_values({name: getattr(settings, name) for name in names})
        self.form.blockSignals(False)
        sizes = settings.smallest_piece, settings.largest_hole
        for line, size in zip((self.piece, self.hole), sizes, strict=True):
            line.setText("" if size is None else local(str(size)))

    def _settings_changed(self) -> None:
        if self._colours is not None:
            self._later()

    def _detect(self) -> None:
        """Detect the tissue by the settings in a worker."""
        colours = self._colours
        if colours is None:
            return
        try:
            settings = self.settings()
        except UhrSegError as error:
            self.result.setText(str(error))
            return
        self._number += 1
        self._workers.call(
            _tissue_of,
            colours,
            settings,
            returned=self._current(self._show_mask),
            errored=self._current(lambda error: self.result.setText(str(error))),
        )

    def _show_mask(self, mask: TissueMask) -> None:
        """Show a mask in the layer, which is made for the first one."""
        self._detected = mask
        if self._layer is None:
            assert self._image is not None
            self._layer = TissueLayer(
                self._viewer, self._under, self._image, mask.pixels
            )
            self._viewer.layers.events.removed.connect(self._layer_removed)
        else:
            self._layer.put(mask.pixels)
        self.result.setText(
            f"Tissue: {formatted(mask.share, '.1%')} of the image. "
            f"{local(mask.source.capitalize())}. "
            "Paint the layer Tissue to correct it; another setting replaces this."
        )

    def _layer_removed(self) -> None:
        """Discard the mask if the user has removed its layer."""
        if self._layer is not None and not self._layer.alive:
            self.close_editor()

    def _apply(self) -> None:
        """Use the mask as it is painted, and keep it in the displayed labels."""
        image, layer, mask = self._image, self._layer, self._detected
        if image is None or layer is None or mask is None:
            return
        painted = TissueMask.of(layer.mask, image.shape, PAINTED)
        chosen = mask if painted == mask else painted
        self._known[image] = ImageTissue(chosen, used=True)
        self.close_editor()
        if self._store is not None:
            self._workers.call(_keep_mask, self._store, chosen)
        self.changed.emit()


def _read_colours(
    image: Image,
) -> Generator[float, None, "CoarseColours | None"]:
    """Yield the progress of reading; return the colours of the image."""
    from napari_uhrseg.io.tissue.detect import read_colours

    for step in read_colours(image):
        if not isinstance(step, float):
            return step
        yield step
    return None


def _tissue_of(colours: "CoarseColours", settings: TissueSettings) -> TissueMask:
    from napari_uhrseg.io.tissue.detect import tissue_of

    return tissue_of(colours, settings)


def _read_mask(store: "LabelStore") -> TissueMask | None:
    from napari_uhrseg.io.tissue.stored_mask import read_tissue

    return read_tissue(store.path, store.shape)


def _keep_mask(store: "LabelStore", mask: TissueMask) -> None:
    """Write a mask into displayed labels."""
    from napari_uhrseg.io.tissue.stored_mask import write_tissue

    store.acquire()
    try:
        write_tissue(store, mask)
    finally:
        store.release()
