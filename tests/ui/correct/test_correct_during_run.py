"""Correcting while runs come and go: one store, one view."""

import numpy as np
import pytest
from napari.layers import Labels

from helpers.canvas import ModelMouse, Mouse, look_at
from helpers.gated_network import FORWARD
from helpers.wait import wait_for_end
from helpers.write_queue import drain
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi

pytestmark = pytest.mark.slow


def start_painting(panel, viewer, qtbot, y, x):
    look_at(viewer, viewer.layers[0], y, x)
    panel.correct.correct.click()
    qtbot.waitUntil(lambda: panel.correct.area is not None, timeout=10_000)
    area = panel.correct.area
    qtbot.waitUntil(lambda: area.area is not None, timeout=10_000)
    area.layer.selected_label, area.layer.brush_size = 2, 9
    return area


def written(panel, qtbot):
    drain(panel.correct.writer, qtbot.waitUntil)


def test_a_stroke_made_while_a_run_writes_is_kept_and_shown_over_it(
    viewer, ready, qtbot, tmp_path
):
    FORWARD.close()
    bar = ready.segment.bar
    bar.start.click()
    qtbot.waitUntil(lambda: ready.segment.view is not None, timeout=30_000)
    area = start_painting(ready, viewer, qtbot, 1050, 150)
    ModelMouse(viewer, viewer.layers[0]).drag((1050, 100), (1050, 200))
    written(ready, qtbot)
    assert bar.cancel.isEnabled()  # the run still goes on
    FORWARD.open()
    assert wait_for_end(ready, qtbot).startswith("Done")
    view = ready.segment.view
    found = view.store.read_labels(Roi(1048, 100, 5, 100))
    assert (found == 2).all()
    assert (np.asarray(view.store.prediction[0][:]) > 0).all()
    qtbot.waitUntil(lambda: bool((area.layer.data > 0).all()), timeout=10_000)


def test_a_run_in_the_same_output_keeps_the_view_and_the_corrections(
    viewer, ready, qtbot, tmp_path
):
    bar = ready.segment.bar
    bar.start.click()
    wait_for_end(ready, qtbot)
    view = ready.segment.view
    start_painting(ready, viewer, qtbot, 1050, 150)
    ModelMouse(viewer, viewer.layers[0]).drag((1050, 100), (1050, 200))
    written(ready, qtbot)
    counts = view.corrections.counts()
    bar.start.click()
    assert wait_for_end(ready, qtbot).startswith("Done")
    assert ready.segment.view is view
    assert view.corrections.counts() == counts
    assert ready.correct.area is not None  # one goes on painting
    ModelMouse(viewer, viewer.layers[0]).drag((1150, 100), (1150, 200))
    written(ready, qtbot)
    assert view.corrections.counts()[2] > counts[2]
    shown = [x for x in viewer.layers if isinstance(x, Labels) and x.multiscale]
    assert shown == [view.layer]
    with LabelStore.open(tmp_path / "labels.zarr", write=True):
        pass  # the run's lock is free, the one of the corrections is not


@pytest.mark.gui
def test_closing_the_dock_frees_the_corrections(viewer, ready, qtbot, tmp_path):
    ready.segment.bar.start.click()
    wait_for_end(ready, qtbot)
    start_painting(ready, viewer, qtbot, 1050, 150)
    Mouse(viewer, viewer.layers[0]).drag((1050, 100), (1050, 200))
    viewer.window.remove_dock_widget(ready)
    with (
        LabelStore.open(tmp_path / "labels.zarr") as store,
        Corrections.open(store) as later,
    ):
        assert later.counts()[2] > 500
