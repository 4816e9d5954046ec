"""A labelled image in a viewer, and a person's mouse on its canvas."""

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import (
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
)
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, LabelClass, Legend, Roi, Run

CLASSES = Legend(
    (
        LabelClass(1, "road", "#ff8000"),
        LabelClass(2, "lake", "#0000ff"),
        LabelClass(3, "wood", "#00a000"),
    )
)
_made = tempfile.TemporaryDirectory(prefix="uhrseg-painting-")
_folder = Path(_made.name)
RUN = Run(
    id=0, image_path="", image_fingerprint="", model="plain", checkpoint="c",
    checkpoint_hash="1", class_map=(1, 2, 3), bands=(0, 1, 2), scale=1.0,
    value_range=(0.0, 255.0), window=256, overlap=0, placement="shift",
    merge="uniform", region=None, skip_background=False, batch_size=1, precision="fp32",
)  # fmt: skip


def make_image(height, width, name="ground", pixel_size=(0.5, 0.5)):
    # one number seen everywhere: gigapixels take no memory
    levels = [np.broadcast_to(np.uint8(90), (height, width, 3))]
    while max(levels[-1].shape) > 1024:
        levels.append(levels[-1][::2, ::2])
    return image_from_array(
        levels, name=name, rgb=True, pixel_size=pixel_size, unit="metre"
    )


def predict(store, roi, labels):
    """As a run writes it; ``labels``: a class id, or an array."""
    run = store.run_ledger.start_run(RUN)
    labels = np.broadcast_to(np.uint8(labels), (roi.height, roi.width)).copy()
    store.write(Block(roi, labels, np.full_like(labels, 200)), run.id, "done")


def make_store(path, image):
    """All of the image predicted as a road: written once per shape, then copied."""
    made = _folder / "x".join(map(str, image.shape))
    if not made.exists():
        with LabelStore.create(made, image, CLASSES) as store:
            predict(store, Roi(0, 0, *image.shape), 1)
    shutil.copytree(made, path)
    return LabelStore.open(path, write=True)


def look_at(viewer, layer, y, x, zoom=1.0):
    """Bring a level-0 pixel of the layer to the middle; screen pixels a pixel."""
    scale = layer.scale[-2:]
    viewer.scene.camera.center = layer.data_to_world((y, x))
    viewer.scene.camera.zoom = zoom / scale[0]


class Mouse:
    """Events as Qt sends them, at level-0 pixels of a layer."""

    def __init__(self, viewer, layer):
        self._viewer, self._layer = viewer, layer
        self._canvas = viewer.window._qt_viewer.canvas.native

    def at(self, y, x):
        camera, (height, width) = self._viewer.scene.camera, self._viewer.canvas.size
        world = np.asarray(self._layer.data_to_world((y, x)))
        off = (world - np.asarray(camera.center)[-2:]) * camera.zoom
        return QPoint(round(width / 2 + off[1]), round(height / 2 + off[0]))

    def press(self, *points, button=Qt.MouseButton.LeftButton):
        """Press at the first point, move over the others."""
        at = [self.at(*p) for p in points]
        kinds = QMouseEvent.Type
        none = Qt.MouseButton.NoButton
        self._send(kinds.MouseMove, at[0], none, none)
        self._send(kinds.MouseButtonPress, at[0], button, button)
        for point in points[1:]:
            self.pull(*point, button=button)

    def drag(self, *points, button=Qt.MouseButton.LeftButton):
        """Press at the first point, move over the others, release."""
        self.press(*points, button=button)
        self.release(*points[-1], button=button)

    click = drag

    def release(self, y, x, button=Qt.MouseButton.LeftButton):
        none = Qt.MouseButton.NoButton
        self._send(QMouseEvent.Type.MouseButtonRelease, self.at(y, x), button, none)

    def pull(self, y, x, button=Qt.MouseButton.LeftButton):
        """Move with the button pressed."""
        none = Qt.MouseButton.NoButton
        self._send(QMouseEvent.Type.MouseMove, self.at(y, x), none, button)

    def double_click(self, y, x):
        button = Qt.MouseButton.LeftButton
        self._send(QMouseEvent.Type.MouseButtonDblClick, self.at(y, x), button, button)

    def move(self, y, x):
        none = Qt.MouseButton.NoButton
        self._send(QMouseEvent.Type.MouseMove, self.at(y, x), none, none)

    def _send(self, kind, at, button, buttons):
        event = QMouseEvent(
            kind, QPointF(at), QPointF(self._canvas.mapToGlobal(at)), button, buttons,
            Qt.KeyboardModifier.NoModifier,
        )  # fmt: skip
        QApplication.sendEvent(self._canvas, event)
        QApplication.processEvents()


CALLBACKS = {
    QMouseEvent.Type.MouseMove: ("mouse_move", mouse_move_callbacks),
    QMouseEvent.Type.MouseButtonPress: ("mouse_press", mouse_press_callbacks),
    QMouseEvent.Type.MouseButtonRelease: ("mouse_release", mouse_release_callbacks),
}


class ModelMouse(Mouse):
    """Events as napari's canvas passes them on, for a viewer without a window.

    Overlays of napari that handle the mouse themselves, such as that of the polygon,
    do not receive them.
    """

    def __init__(self, viewer, layer):
        self._viewer, self._layer = viewer, layer

    def _send(self, kind, at, button, buttons):
        name, call = CALLBACKS[kind]
        viewer, camera = self._viewer, self._viewer.scene.camera
        off = np.array([at.y(), at.x()]) - np.array(viewer.canvas.size) / 2
        dragging = buttons != Qt.MouseButton.NoButton
        event = SimpleNamespace(
            type=name, pos=(at.x(), at.y()), modifiers=(), is_dragging=dragging,
            button=2 if button == Qt.MouseButton.RightButton else 1, handled=False,
            position=tuple(np.asarray(camera.center)[-2:] + off / camera.zoom),
            view_direction=None, up_direction=None, camera_zoom=camera.zoom,
            dims_displayed=list(viewer.dims.displayed),
            dims_point=list(viewer.dims.point), viewbox=(0, 0),
        )  # fmt: skip
        viewer.cursor.position = event.position
        for target in (viewer, viewer.layers.selection.active):
            call(target, ReadOnlyWrapper(event, exceptions=("handled",)))
        QApplication.processEvents()
