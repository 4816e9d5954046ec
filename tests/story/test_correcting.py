"""A second afternoon: see a mistake, paint, crash, come back, fine-tune, see it gone.

The plain network calls rivers lakes: it does not see far enough to know. A person who
does paints some of a river in a few places.
"""

import signal

import numpy as np
import pytest

from helpers.correction_story import (
    VIEW,
    open_window,
    paint,
    river_strokes,
    start_correcting,
    truth,
    until,
)
from helpers.processes import python_process
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
    # the viewer of the demo has napari's commands to itself
    pytest.mark.usefixtures("mock_app_model"),
]

KILLED = """
import os, signal, sys
from pathlib import Path
from helpers.correction_story import (
    open_window, paint, river_strokes, start_correcting,
)
from napari_uhrseg.ui.demo import segment

_, panel, mouse = open_window()
segment(panel, Path(sys.argv[1]))
start_correcting(panel)
paint(panel, mouse, river_strokes()[0])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_see_a_mistake_paint_fine_tune_and_see_it_gone(tmp_path, take_picture):
    path = tmp_path / "labels.zarr"
    first, *others = river_strokes()
    assert len(others) >= 5
    with python_process(KILLED, path) as child:
        assert child.wait() == -signal.SIGKILL

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
        assert store.read_labels(Roi(y, x, 1, 1))[0, 0] == river
        before = np.asarray(store.prediction[0][VIEW.slices])
        for stroke in others:
            paint(panel, mouse, stroke)
        painted = np.asarray(store.correction[0][VIEW.slices]) > 0

        # it says what it learns from; the curve moves; before stands beside after
        panel.show_step("Train")
        part = panel.finetune
        part.form.length.setCurrentIndex(part.form.length.findData("custom"))
        part.form.custom.widgets["steps"].setValue(20)
        part.form.custom.widgets["batch_size"].setValue(4)
        until(panel, lambda: "windows" in part.summary.text(), "no lesson")
        until(panel, part.bar.start.isEnabled, "Train cannot be pressed")
        part.bar.start.click()
        until(panel, lambda: len(part.plot.losses) > 2, "no curve", 300)
        until(panel, part.result.isVisible, "no outcome", 900)
        losses = [loss for _, loss in part.plot.losses]
        assert losses[-1] < losses[0]
        take_picture(viewer, "fine-tuning")

        # kept, it segments again, and the river is a river where no one painted too
        part.keep(tmp_path / "mine.safetensors")
        until(panel, lambda: panel.segment.model.path.stem == "mine", "not kept")
        until(panel, part.rerun.segment.isEnabled, "Segment again cannot be pressed")
        part.rerun.segment.menu().actions()[1].trigger()
        bar = panel.segment.bar
        until(panel, bar.cancel.isEnabled, "no run")
        until(panel, lambda: bar.status.text().startswith("Done"), "no end", 900)
        shown = store.read_labels(VIEW)
        assert (shown[painted] == river).all()
        elsewhere = (truth() == 4) & ~painted
        rate = [(labels[elsewhere] == river).mean() for labels in (before, shown)]
        assert rate[1] > rate[0] + 0.3, rate
        take_picture(viewer, "corrected")
    finally:
        viewer.close()
