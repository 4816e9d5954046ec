"""Labels that are on disk, or none yet: opened, begun, and followed while they fill."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.paths import Address, exists, is_url, unused_path
from napari_uhrseg.types import Legend
from napari_uhrseg.ui.image.new_labels_dialog import NewLabelsDialog
from napari_uhrseg.ui.image.panel import ImagePanel
from napari_uhrseg.ui.layers.label_layers import KEY, add_image, images_in
from napari_uhrseg.ui.segment.panel import SegmentPanel
from napari_uhrseg.ui.workers.worker import Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

FOLLOW = 2000  # milliseconds between two looks at labels that others may write


class LabelOpener(QObject):
    """Opens labels and gives them to `SegmentPanel`, their image to `ImagePanel`."""

    def __init__(
        self,
        viewer: Any,
        workers: Workers,
        image: ImagePanel,
        segment: SegmentPanel,
        window: QWidget,
    ) -> None:
        super().__init__(window)
        self._viewer, self._workers = viewer, workers
        self._image, self._segment, self._window = image, segment, window
        self._looking = False
        self._timer = QTimer()  # outlives the window, and so can be stopped after it
        self._timer.setInterval(FOLLOW)
        self._timer.timeout.connect(self._look)
        self._timer.start()

    def ask(self) -> None:
        name = QFileDialog.getExistingDirectory(
            self._window, "Labels to open (an OME-Zarr folder)"
        )
        if name:
            self.open(Path(name))

    def open(self, path: Address) -> None:
        """Show the labels of a run of yesterday, or of another program now."""
        images = [x.metadata.get(KEY) for x in images_in(self._viewer)]
        self._workers.call(
            _open, path, [i for i in images if i is not None], returned=self._opened
        )

    def begin(self, image: Image, output: Address | None) -> None:
        """Ask for classes, and show empty labels of the image."""
        dialog = NewLabelsDialog(self._window)
        dialog.chosen.connect(lambda legend: self.create(image, output, legend))
        dialog.open()

    def create(self, image: Image, output: Address | None, legend: Legend) -> None:
        """Show empty labels with these classes."""
        self._workers.call(
            _create, image, output, legend,
            returned=lambda store: self._opened((store, image)),
        )  # fmt: skip

    def stop(self) -> None:
        self._timer.stop()

    def _opened(self, found: "tuple[LabelStore, Image]") -> None:
        store, image = found
        if not self._image.choose(image):
            try:
                add_image(self._viewer, image)
            except OpenError as error:
                store.close()
                report(error)
                return
            self._image.choose(image)
        self._segment.show_labels(store, image)

    def _look(self) -> None:
        """Whether another process has written into what is shown."""
        view = self._segment.view
        if self._looking or view is None or not view.alive or view.store.writable:
            return
        self._looking = True

        def looked(changed: bool) -> None:
            if changed and view is self._segment.view:
                if view.legend != view.store.legend:
                    view.set_legend(view.store.legend)
                view.refresh()
                self._segment.show_legend(view)

        def ended() -> None:
            self._looking = False

        self._workers.call(
            view.store.reload_if_changed, returned=looked,
            errored=lambda _: None,  # it is being written: the next look will do
            finished=ended,
        )  # fmt: skip


def _open(path: Address, images: list[Image]) -> "tuple[LabelStore, Image]":
    """A store, and the image it belongs to: one that is open, else from its file."""
    from napari_uhrseg.io.labels.store import LabelStore

    store = LabelStore.open(path)
    info = store.info
    _read_coarsest(store)
    for image in images:
        same = image.fingerprint == info.fingerprint or (
            not info.fingerprint and image.name == info.name
        )
        if same and image.shape == store.shape:
            return store, image
    source = store.image_path
    if source is None or not (is_url(source) or source.exists()):
        raise OpenError(
            f"{path.name} holds the labels of {info.name}, which is not open"
            + (f" and no longer at {source}." if source else "."),
            "Open the image first, then its labels.",
        )
    image = open_image(source)
    if image.shape != store.shape:
        raise OpenError(
            f"{source.name} has other sides now than the labels in {path.name}.",
            "Open the image they were made of, then the labels.",
        )
    return store, image


def _create(image: Image, output: Address | None, legend: Legend) -> "LabelStore":
    from napari_uhrseg.io.labels.store import LabelStore

    path = unused_path(output) if output is not None and exists(output) else output
    store = LabelStore.create(path, image, legend)
    _read_coarsest(store)
    if not store.temporary:
        store.release()  # painting has a lock of its own
    return store


def _read_coarsest(store: "LabelStore") -> None:
    """What a view needs at once, so that the Qt thread does not have to read it."""
    store.coarsest_displayed()
    store.coarsest_corrections()
    store.coarsest_confidence()
