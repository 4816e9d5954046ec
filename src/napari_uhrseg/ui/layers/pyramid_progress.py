"""Building of missing pyramid levels while their image is shown."""

from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

from qtpy.QtCore import QCoreApplication, QObject, Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QWidget
from superqt.utils import qthrottled

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.widgets.layout import push_button
from napari_uhrseg.ui.workers.worker import Worker, Workers

STEPS = 1000


class PyramidBuild(QObject):
    """Worker that builds the pyramid of one image and refreshes its layers.

    The layers are refreshed about once per second. The build ends early if the image
    was shown and is not in any window any more.
    """

    progressed = Signal(float)  # progress, 0 to 1
    ended = Signal()

    def __init__(self, image: Image) -> None:
        from napari_uhrseg.io.image.pyramid_builder import fill_levels

        super().__init__()
        self.share = 0.0
        self.running = True
        self._image = ref(image)  # the image is the key of this object
        self._built: Image | None = image  # until the build has ended
        self._viewers: WeakSet[Any] = WeakSet()  # that show or may show it
        self._shown = False
        self._workers = Workers(self)
        self._refresh = qthrottled(self.refresh_layers, timeout=1000, parent=self)
        self._worker: Worker = self._workers.start(
            fill_levels, image, yielded=self._progress, finished=self._finished
        )

    def cancel(self) -> None:
        self._worker.quit()

    def watch(self, viewer: Any) -> None:
        if viewer is not None:
            self._viewers.add(viewer)

    def _progress(self, share: float) -> None:
        self.share = share
        self.progressed.emit(share)
        self._refresh()

    def _finished(self) -> None:
        self.running = False
        self._refresh()
        self.ended.emit()
        self._built = None

    def refresh_layers(self) -> None:
        import napari

        # napari does not pass the viewer to a reader; it may be the current one
        self.watch(napari.current_viewer())
        layers = [
            x for viewer in self._viewers for x in _layers_of(self._image(), viewer)
        ]
        if self._shown and not layers:
            self.cancel()
        self._shown = bool(layers)
        for layer in layers:
            if layer.visible:
                layer.refresh(extent=False, highlight=False)


_builds: "WeakKeyDictionary[Image, PyramidBuild]" = WeakKeyDictionary()


def build_pyramid(image: Image, viewer: Any = None) -> PyramidBuild | None:
    """Start to build the missing levels of an image, unless a build is running.

    ``viewer`` is the viewer that will show the image, if it is known. Return None if
    no level is missing.
    """
    build = _builds.get(image)
    if build is None or not build.running:
        if not image.missing_levels or QCoreApplication.instance() is None:
            return None
        build = _builds[image] = PyramidBuild(image)
    build.watch(viewer)
    return build


def build_of(image: Image) -> PyramidBuild | None:
    """Return the last build of the image's pyramid, or None if none was started."""
    return _builds.get(image)


def _layers_of(image: Image | None, viewer: Any) -> list[Any]:
    if image is None:
        return []
    ours = (x for x in viewer.layers if x.metadata.get("uhrseg_image") is image)
    return [x for x in ours if "uhrseg_store" not in x.metadata]


class PyramidProgressBar(QWidget):
    """Progress bar of the chosen image's pyramid build, and a button to stop it."""

    def __init__(self) -> None:
        super().__init__()
        self._build: PyramidBuild | None = None
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setFormat("Building overviews, %p %")
        self.bar.setAccessibleName("Progress of building overviews")
        self.bar.setToolTip(
            "This file has no overviews. They are built once and cached. Areas that "
            "are missing until then are grey."
        )
        tip = "Stop building. It resumes when the image is opened again."
        self.stop = push_button("Stop", tip, self._cancel)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.stop)
        self.hide()

    def set_image(self, image: Image | None) -> None:
        """Show the progress of an image's pyramid build, if one is running."""
        if self._build is not None:
            self._build.progressed.disconnect(self._progress)
            self._build.ended.disconnect(self.hide)
        self._build = build_of(image) if image is not None else None
        if self._build is None or not self._build.running:
            self._build = None
            self.hide()
            return
        self._build.progressed.connect(self._progress)
        self._build.ended.connect(self.hide)
        self._progress(self._build.share)
        self.show()

    def _progress(self, share: float) -> None:
        self.bar.setValue(round(STEPS * share))

    def _cancel(self) -> None:
        if self._build is not None:
            self._build.cancel()
