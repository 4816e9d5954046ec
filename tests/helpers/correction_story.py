"""Steps of the correction story: open the demo, take a brush, paint on a river."""

import numpy as np
import rasterio

from helpers.canvas import Mouse, look_at
from napari_uhrseg.samples import data_dir
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.demo import choose, open_demo, wait_for

LOOK = 512, 1536  # the middle of what is corrected: a sixth of it is river
VIEW = Roi(LOOK[0] - 256, LOOK[1] - 400, 512, 800)
BRUSH = 31


def truth() -> np.ndarray:
    with rasterio.open(data_dir() / "scene_labels.tif") as file:
        return file.read(1)[VIEW.slices]


def river_strokes() -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Strokes of a person who knows the river: well inside it, in many places."""
    from scipy.ndimage import binary_erosion

    inside = binary_erosion(truth() == 4, iterations=BRUSH // 2 + 2)
    found = []
    for left in range(20, VIEW.width - 100, 110):
        ys, xs = np.nonzero(inside[:, left : left + 60])
        if len(ys):
            y, x = int(ys[len(ys) // 2]), left + int(xs[len(xs) // 2])
            end = x + 12 if inside[y, x : x + 13].all() else x
            found.append(((VIEW.y + y, VIEW.x + x), (VIEW.y + y, VIEW.x + end)))
    return found


def open_window():
    """The demo with the plain network and the place in view."""
    viewer, panel = open_demo()
    assert choose(panel, "plain")
    ground = viewer.layers[0]
    look_at(viewer, ground, *LOOK, zoom=1.4)
    where = panel.segment.form.where
    where.setCurrentIndex(where.findText("Current view"))
    return viewer, panel, Mouse(viewer, ground)


def start_correcting(panel):
    """Press Correct, and take a brush with the colour of rivers."""
    part = panel.correct
    until(panel, lambda: part.correct.isEnabled(), "Correct cannot be pressed")
    part.correct.click()
    until(panel, lambda: part.area is not None and part.area.area, "no work area")
    river = panel.segment.view.store.legend.named("river")
    part.choose(river.id)
    layer = part.area.layer
    layer.mode, layer.brush_size = "paint", BRUSH
    return river.id


def paint(panel, mouse, stroke):
    """Drag, and wait until the stroke is on disk."""
    mouse.drag(*stroke)
    done = []
    panel.correct.writer.submit(int, then=done.append)
    until(panel, lambda: bool(done), "the stroke is not written")


def until(panel, happened, complaint, seconds=120):
    wait_for(happened, seconds, complaint, panel.finetune.bar)
