"""Switch between images: the panel follows the user, and images do not overlap."""

from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from qtpy.QtCore import QObject, QTimer

from napari_uhrseg.types import Roi
from napari_uhrseg.ui.image.panel import ImagePanel
from napari_uhrseg.ui.image.view_memory import remember_view
from napari_uhrseg.ui.layers.label_layers import KEY, STORE
from napari_uhrseg.ui.layers.map_placement import ORIGIN
from napari_uhrseg.ui.layers.viewport import image_size, look_at, view_rectangle

CameraView = tuple[tuple[float, ...], float]  # centre and zoom


class ImageSwitch(QObject):
    """Choice of the image by the active layer, and visibility of the other images.

    The image of the active layer is chosen in the panel, and so is an image that is
    opened. Images from files overlap unless they have a place on one map. Therefore,
    only the chosen one of them is shown. Each keeps its channels and its view.
    """

    def __init__(self, viewer: Any, panel: ImagePanel) -> None:
        super().__init__(panel)
        self._viewer, self._panel = viewer, panel
        self._shown: Any = None  # layer of the image that was chosen last
        self._views: WeakKeyDictionary[Any, CameraView] = WeakKeyDictionary()
        self._hidden: WeakSet[Any] = WeakSet()  # layers that were hidden here
        self._active = viewer.layers.selection.events.active
        self._active.connect(self._activated)
        panel.changed.connect(self._changed)
        self._changed()

    def stop(self) -> None:
        """Disconnect from the viewer, and remember the view of the chosen image."""
        self._active.disconnect(self._activated)
        if self._shown is not None:
            remember_view(self._viewer, self._shown)

    def _activated(self) -> None:
        QTimer.singleShot(0, self._follow)  # after napari has inserted the layer

    def _follow(self) -> None:
        layer = self._viewer.layers.selection.active
        if layer is None:
            return
        image = layer.metadata.get(KEY)
        if self._panel.row(layer) >= 0:
            self._panel.choose_layer(layer)
        elif image is not None and (STORE not in layer.metadata or layer.visible):
            self._panel.choose(image)  # a further channel, or visible labels

    def _changed(self) -> None:
        """Show the chosen image, if it is another one than before."""
        before, layer = self._shown, self._panel.layer
        if layer is before:
            return
        self._shown = layer
        self._activate(layer)
        camera = self._viewer.scene.camera
        if before is not None:
            self._views[before] = camera.center, camera.zoom
            remember_view(self._viewer, before)
        if layer is None or KEY not in layer.metadata:
            return
        if before is not None and before.metadata.get(KEY) is layer.metadata[KEY]:
            return  # its bands are shown in other layers
        self._show_only(layer)
        if layer in self._views:
            camera.center, camera.zoom = self._views[layer]
        elif before is not None and not self._is_in_view(before, layer):
            look_at(self._viewer, layer, Roi(0, 0, *image_size(layer)))

    def _activate(self, layer: Any) -> None:
        """Make the layer of the chosen image active instead of another image's."""
        selection = self._viewer.layers.selection
        active = selection.active
        image = None if active is None else active.metadata.get(KEY)
        if layer is not None and image not in (None, layer.metadata.get(KEY)):
            selection.active = layer

    def _show_only(self, layer: Any) -> None:
        """Show an image, and hide the images that it overlaps."""
        for other in _file_layers(self._viewer):
            if other.metadata[KEY] is layer.metadata[KEY]:
                if other in self._hidden:
                    other.visible = True
                self._hidden.discard(other)
            elif other.visible and not _share_map(layer, other):
                other.visible = False
                self._hidden.add(other)

    def _is_in_view(self, before: Any, layer: Any) -> bool:
        seen = view_rectangle(self._viewer, layer) is not None
        return seen and _share_map(before, layer)


def _file_layers(viewer: Any) -> list[Any]:
    """Return the layers of opened images: one for each channel."""
    return [
        x
        for x in viewer.layers
        if type(x).__name__ == "Image" and KEY in x.metadata and STORE not in x.metadata
    ]


def _share_map(one: Any, other: Any) -> bool:
    """Return whether both layers have a place on one map."""
    return ORIGIN in one.metadata and ORIGIN in other.metadata
