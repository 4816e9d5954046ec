"""Opening and creating of labels, and updates of those another process writes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.paths import (
    PathOrUrl,
    exists,
    is_url,
    on_another_server,
    unused_path,
)
from napari_uhrseg.types import Legend
from napari_uhrseg.ui.image.new_labels_dialog import NewLabelsDialog
from napari_uhrseg.ui.image.panel import ImagePanel
from napari_uhrseg.ui.layers.label_layers import KEY, add_image, images_in
from napari_uhrseg.ui.segment.panel import SegmentPanel
from napari_uhrseg.ui.widgets.dialogs import ask_image_at_url
from napari_uhrseg.ui.workers.worker import Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

REFRESH_INTERVAL_MS = 2000  # for labels that another process may write


class LabelOpener(QObject):
    """Opener that shows labels in `SegmentPanel` and their image in `ImagePanel`."""

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
        self._timer.setInterval(REFRESH_INTERVAL_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()

    def ask(self) -> None:
        """Ask for a label store and open it."""
        name = QFileDialog.getExistingDirectory(
            self._window, "Labels to open (an OME-Zarr folder)"
        )
        if name:
            self.open(Path(name))

    def open(self, path: PathOrUrl, trusted: bool = False) -> None:
        """Open a label store in a worker and show it with its image.

        An image at a URL on another server is opened only after a question, unless
        the store is ``trusted``.
        """
        images = [x.metadata.get(KEY) for x in images_in(self._viewer)]

        def errored(error: Exception) -> None:
            if not isinstance(error, _ImageElsewhereError):
                report(error)
            elif ask_image_at_url(self._window, path.name, str(error)):
                self.open(path, trusted=True)

        self._workers.call(
            _open, path, [i for i in images if i is not None], trusted,
            returned=self._opened, errored=errored,
        )  # fmt: skip

    def begin(self, image: Image, output: PathOrUrl | None) -> None:
        """Ask for classes and show empty labels of the image."""
        dialog = NewLabelsDialog(self._window)
        dialog.chosen.connect(lambda legend: self.create(image, output, legend))
        dialog.open()

    def create(self, image: Image, output: PathOrUrl | None, legend: Legend) -> None:
        """Create empty labels and show them.

        Parameters
        ----------
        image
            Image that the labels belong to.
        output
            Label store. A number is appended if it exists. None: temporary.
        legend
            Classes of the labels.
        """
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
        """Refresh the displayed labels if another process has changed them."""
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
            errored=lambda _: None,  # another process is writing: try again later
            finished=ended,
        )  # fmt: skip


class _ImageElsewhereError(Exception):
    """Error: the image of a store is at a URL, and the user was not asked."""


def _open(
    path: PathOrUrl, images: list[Image], trusted: bool
) -> "tuple[LabelStore, Image]":
    """Return a store and its image, which is opened unless it is in ``images``.

    Raises _ImageElsewhereError for an image on another server if not ``trusted``.
    """
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
            f"{path.name} contains the labels of {info.name}, which is not open"
            + (f" and was not found at {source}." if source else "."),
            "Open the image first, then its labels.",
        )
    if not trusted and on_another_server(source, path):
        store.close()
        raise _ImageElsewhereError(str(source))
    image = open_image(source)
    if image.shape != store.shape:
        raise OpenError(
            f"{source.name} does not have the size of the labels in {path.name}.",
            "Open the image that the labels belong to, then the labels.",
        )
    return store, image


def _create(image: Image, output: PathOrUrl | None, legend: Legend) -> "LabelStore":
    from napari_uhrseg.io.labels.store import LabelStore

    path = unused_path(output) if output is not None and exists(output) else output
    store = LabelStore.create(path, image, legend)
    _read_coarsest(store)
    if not store.temporary:
        store.release()  # painting acquires the lock itself
    return store


def _read_coarsest(store: "LabelStore") -> None:
    """Read the levels that a view needs immediately, on a worker thread."""
    store.coarsest_displayed()
    store.coarsest_corrections()
    store.coarsest_confidence()
