"""A second afternoon: see a mistake, paint, crash, come back, fine-tune, see it gone.

The plain network calls rivers lakes: it does not see far enough to know. A person who
does paints some of a river in a few places.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from qtpy.QtWidgets import QApplication
from ui.painting import Mouse, look_at

from napari_uhrseg.io.corrections import Corrections
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.samples import data_dir
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.demo import choose, open_demo, segment, wait_for
from napari_uhrseg.ui.rows import Fold

pytestmark = pytest.mark.gui

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
    look_at(viewer, ground, *LOOK)
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
    panel.correct.writer.do(int, then=done.append)
    until(panel, lambda: bool(done), "the stroke is not written")


def until(panel, happened, complaint, seconds=120):
    wait_for(happened, seconds, complaint, panel.finetune.bar)


def paint_and_die(store: Path) -> None:
    """In a process of its own: segment, paint one stroke, be killed."""
    _, panel, mouse = open_window()
    segment(panel, store)
    start_correcting(panel)
    paint(panel, mouse, river_strokes()[0])
    os.kill(os.getpid(), signal.SIGKILL)


def test_see_a_mistake_paint_fine_tune_and_see_it_gone(tmp_path, request):
    path = tmp_path / "labels.zarr"
    first, *others = river_strokes()
    assert len(others) >= 5
    died = subprocess.run(
        [sys.executable, "-c", "import sys; from pathlib import Path; "
         "from story.test_correcting import paint_and_die; "
         "paint_and_die(Path(sys.argv[1]))", str(path)],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL

    # the stroke of the window that died is there, whole
    with LabelStore.open(path) as store, Corrections.open(store) as corrections:
        assert set(corrections.counts()) == {store.legend.named("river").id}
        assert corrections.can_undo

    viewer, panel, mouse = open_window()
    try:
        panel.labels.open(path)
        until(panel, lambda: panel.segment.view is not None, "labels do not open")
        store = panel.segment.view.store
        river = start_correcting(panel)
        y, x = first[0]
        assert store.shown(Roi(y, x, 1, 1))[0, 0] == river
        before = np.asarray(store.prediction[0][VIEW.slices])
        for stroke in others:
            paint(panel, mouse, stroke)
        painted = np.asarray(store.correction[0][VIEW.slices]) > 0

        # it says what it learns from; the curve moves; before stands beside after
        for fold in panel.findChildren(Fold):
            if fold.heading.accessibleName() == "Fine-tune":
                fold.heading.setChecked(True)
        part = panel.finetune
        part.form.length.setCurrentIndex(part.form.length.findData("hand"))
        part.form.hand.widgets["steps"].setValue(30)
        until(panel, lambda: "windows" in part.lesson.text(), "no lesson")
        until(panel, part.bar.start.isEnabled, "Train cannot be pressed")
        part.bar.start.click()
        until(panel, lambda: len(part.curves.losses) > 2, "no curve", 300)
        until(panel, part.outcome.isVisible, "no outcome", 900)
        losses = [loss for _, loss in part.curves.losses]
        assert losses[-1] < losses[0]
        picture(request, viewer, "fine-tuning")

        # kept, it segments again, and the river is a river where no one painted too
        part.keep(tmp_path / "mine.safetensors")
        until(panel, lambda: panel.segment.model.path.stem == "mine", "not kept")
        until(panel, part.after.segment.isEnabled, "Segment again cannot be pressed")
        part.after.segment.menu().actions()[1].trigger()
        bar = panel.segment.bar
        until(panel, bar.cancel.isEnabled, "no run")
        until(panel, lambda: bar.status.text().startswith("Done"), "no end", 900)
        shown = store.shown(VIEW)
        assert (shown[painted] == river).all()
        elsewhere = (truth() == 4) & ~painted
        rate = [(labels[elsewhere] == river).mean() for labels in (before, shown)]
        assert rate[1] > rate[0] + 0.3, rate
        picture(request, viewer, "corrected")
    finally:
        viewer.close()


def picture(request, viewer, name: str) -> None:
    if request.config.getoption("--update-screenshots"):
        for _ in range(20):
            QApplication.processEvents()
        pictures = Path(__file__).parents[2] / "docs" / "images"
        viewer.screenshot(str(pictures / f"{name}.png"), canvas_only=False, flash=False)
