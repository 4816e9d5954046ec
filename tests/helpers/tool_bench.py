"""A picture with one disk, and a user with the tools of the Correct panel."""

import numpy as np
from napari import Viewer
from napari.utils.key_bindings import coerce_keybinding

from helpers.canvas import ModelMouse, Mouse, look_at
from helpers.write_queue import drain
from napari_uhrseg.ui.correct.panel import CorrectPanel
from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image
from napari_uhrseg.ui.workers.worker import Workers

SHAPE = (2400, 2600)
CENTRE, RADIUS = (1210, 1330), 90


def disk():
    """Return the mask of the disk."""
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (y - CENTRE[0]) ** 2 + (x - CENTRE[1]) ** 2 <= RADIUS**2


def disk_levels():
    """Return a red disk on grey with some noise, at three levels."""
    noise = np.random.default_rng(0).integers(-3, 4, (*SHAPE, 1))
    colors = np.where(disk()[..., None], (200, 60, 60), 128) + noise
    pixels = colors.astype(np.uint8)
    return [pixels, pixels[::2, ::2], pixels[::4, ::4]]


def circle(radius):
    """Return points on a circle around the middle of the disk."""
    y, x = CENTRE
    angles = np.linspace(0, 2 * np.pi, 40)
    return [(y + radius * np.sin(a), x + radius * np.cos(a)) for a in angles]


WAYS = {
    "Wand": [CENTRE, (CENTRE[0], CENTRE[1] + 100)],
    "Edge brush": [*circle(62), *circle(30), CENTRE],
    "Smart fill": [CENTRE, (CENTRE[0], CENTRE[1] + 140)],
    "Outline": circle(RADIUS),
}
"""Ways of the mouse that select the disk."""


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


class ToolBench:
    """Panel that corrects the labels of the picture, and a mouse."""

    def __init__(self, viewer, store, image, qtbot):
        self.viewer, self.store, self.qtbot = viewer, store, qtbot
        (self.ground,) = add_image(viewer, image)
        self.workers = Workers()
        self.panel = CorrectPanel(viewer, self.workers)
        self.view = LabelsView(viewer, store, image)
        self.panel.set_view(self.view)
        mouse = Mouse if isinstance(viewer, Viewer) else ModelMouse
        self.mouse = mouse(viewer, self.ground)
        self.zoom(1)
        self.panel.correct.setChecked(True)
        self.wait(lambda: self.panel.area is not None and self.panel.area.area)
        self.wait(lambda: self.layer.visible)

    @property
    def layer(self):
        return self.panel.area.layer

    @property
    def use(self):
        return self.panel.tools.use

    def wait(self, until):
        self.qtbot.waitUntil(lambda: bool(until()), timeout=60_000)

    def zoom(self, zoom):
        look_at(self.viewer, self.ground, *CENTRE, zoom)

    def choose(self, title, class_id=2):
        self.panel.choose(class_id)
        self.panel.tools.buttons[title].click()
        self.wait(lambda: self.use.ready)

    def drag(self, *points):
        """Drag over level-0 points, and wait until the stroke is written."""
        self.mouse.drag(*points)
        self.settle()

    def settle(self):
        self.wait(lambda: not self.layer.stroking)
        drain(self.panel.writer, self.wait)

    def press(self, key):
        """Call what a key does while the paint layer is selected."""
        self.layer.keymap[coerce_keybinding(key)](self.layer)

    def corrected(self, class_id=2):
        return np.asarray(self.store.correction[0][:]) == class_id

    def close(self):
        self.panel.stop()
        self.workers.close()
