"""Opening and creating of labels, and updates of those another process writes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import (
    PathOrUrl,
    exists,
    is_url,
    on_another_server,
    unused_path,
)
from napari_uhrseg.types import Legend
from napari_uhrseg.ui.image.listed_images import ListedImages
from napari_uhrseg.ui.image.new_labels_dialog import NewLabelsDialog
from napari_uhrseg.ui.image.panel import ImagePanel, open_for_display
from napari_uhrseg.ui.image.view_memory import restore_view
from napari_uhrseg.ui.layers.label_layers import KEY, add_image, images_in
from napari_uhrseg.ui.segment.panel import SegmentPanel
from napari_uhrseg.ui.segment.state import BUSY
from napari_uhrseg.ui.widgets.dialogs import ask_image_at_url
from napari_uhrseg.ui.workers.worker import Workers, report

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

SHOWN_MS = 100  # in which an image is drawn, before others are removed
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
        self._wanted: PathOrUrl | None = None  # image of the last `open_image`
        self._listed = ListedImages(viewer)  # those of `open_image`
        self._remove_later = QTimer()
        self._remove_later.setSingleShot(True)
        self._remove_later.setInterval(SHOWN_MS)
        self._remove_later.timeout.connect(self._remove_others)
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

    def open(
        self,
        path: PathOrUrl,
        trusted: bool = False,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Open a label store in a worker and show it with its image.

        Parameters
        ----------
        path
            Label store.
        trusted
            False: an image at a URL on another server is opened only after a question.
        then
            Function that is called after the labels have been shown, or an error.
        """
        images = [x.metadata.get(KEY) for x in images_in(self._viewer)]

        def errored(error: Exception) -> None:
            if not isinstance(error, _ImageElsewhereError):
                report(error)
            elif ask_image_at_url(self._window, path.name, str(error)):
                self.open(path, True, then)

        self._workers.call(
            _open, path, [i for i in images if i is not None], trusted,
            returned=self._opened, errored=errored, finished=then,
        )  # fmt: skip

    def open_image(self, path: PathOrUrl, labels: PathOrUrl) -> None:
        """Open an image of a list and, if they exist, its labels, and show both.

        A worker opens them. When the image is drawn, the layers of images that were
        opened by this method before are removed, except for images with temporary
        labels. While a run is in progress, no layers are removed.

        Parameters
        ----------
        path
            The image. If it is open already, it is chosen.
        labels
            Label store of the image. Without one, it becomes the output of Segment.
        """
        images = [x.metadata.get(KEY) for x in images_in(self._viewer)]
        known = [i for i in images if i is not None]

        self._wanted = path

        def opened(found: "tuple[LabelStore | None, Image]") -> None:
            store, image = found
            if path != self._wanted:  # another image was asked for
                if store is not None:
                    store.close()
            else:
                self._show_listed(store, image, labels)

        self._workers.call(
            _open_both, path, labels, known, returned=opened,
            finished=known.clear,  # removed images end on the Qt thread
        )  # fmt: skip

    def _show_listed(
        self, store: "LabelStore | None", image: Image, labels: PathOrUrl
    ) -> None:
        """Show an image of a list in place of the one that was shown before.

        Parameters
        ----------
        store
            Labels of the image. None: there are none.
        image
            The image.
        labels
            Label store that becomes the output of Segment if there are no labels.
        """
        path = image.path
        is_new = path is not None and not self._listed.has_layers(path)
        if store is not None:
            self._opened((store, image))
        elif self._show_image(image):
            self._segment.output.use(labels)
            restore_view(self._viewer, self._image.layer)
        if path is None or not self._listed.has_layers(path):
            return  # it could not be shown
        if is_new:
            self._listed.add(path)
        self._remove_later.start()

    @property
    def removing(self) -> bool:
        """True if layers of earlier images are about to be removed."""
        return self._remove_later.isActive()

    def _remove_others(self) -> None:
        """Remove the layers of earlier images, which takes napari a while."""
        path = self._wanted
        if self._segment.state in BUSY or path is None:
            return
        if self._listed.has_layers(path):  # else the next image is being opened
            self._listed.keep_only(path)

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
        self._remove_later.stop()

    def _opened(self, found: "tuple[LabelStore, Image]") -> None:
        store, image = found
        if not self._show_image(image):
            store.close()
            return
        self._segment.show_labels(store, image)
        if self._image.layer is not None:
            restore_view(self._viewer, self._image.layer)

    def _show_image(self, image: Image) -> bool:
        """Choose an image, which is added if it is not displayed; False if it fails."""
        if not self._image.choose(image):
            try:
                add_image(self._viewer, image)
            except OpenError as error:
                report(error)
                return False
            self._image.choose(image)
        return True

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
                view.update_name()
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
    image = open_for_display(source)
    if image.shape != store.shape:
        raise OpenError(
            f"{source.name} does not have the size of the labels in {path.name}.",
            "Open the image that the labels belong to, then the labels.",
        )
    return store, image


def _open_both(
    path: PathOrUrl, labels: PathOrUrl, images: list[Image]
) -> "tuple[LabelStore | None, Image]":
    """Return the labels, None if there are none, and the image, opened if necessary.

    Raises OpenError if the labels belong to another image.
    """
    from napari_uhrseg.io.labels.store import LabelStore

    known = (i for i in images if i.path is not None and i.path == path)
    image = next(known, None) or open_for_display(path)
    if not exists(labels):
        return None, image
    store = LabelStore.open(labels)
    same = store.info.fingerprint in ("", image.fingerprint)
    if image.shape != store.shape or not same:
        store.close()
        raise OpenError(
            f"{labels.name} contains the labels of another image than {path.name}.",
            "Remove the image from the project, and add it again.",
        )
    _read_coarsest(store)
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
