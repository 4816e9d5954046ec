"""Tests of the dock: one panel for each viewer."""

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.layers import Labels
from qtpy.QtCore import QThreadPool

from helpers.canvas import Mouse, look_at
from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.dock import docked_panel
from napari_uhrseg.ui.layers.label_layers import STORE, add_image
from napari_uhrseg.ui.panel import Panel

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    yield viewer
    panel = docked_panel(viewer)
    if panel is not None:
        panel.stop()
    assert QThreadPool.globalInstance().waitForDone(600_000)


def docks_in(viewer):
    """Those of plugins: napari's own have no entry among the dock widgets."""
    return list(viewer.window.dock_widgets.values())


@pytest.mark.slow
@pytest.mark.parametrize("first", ["menu", "script", "add_plugin_dock_widget"])
def test_second_menu_entry_shows_existing_panel(viewer, qtbot, first):
    if first == "menu":
        get_app_model().commands.execute_command("napari-uhrseg.segment").result()
    elif first == "script":
        viewer.window.add_dock_widget(Panel(viewer))
    else:
        viewer.window.add_plugin_dock_widget("napari-uhrseg", "Segment")
    (panel,) = docks_in(viewer)
    assert panel.tabs.shown == ("Image" if first == "script" else "Segment")
    panel.parentWidget().hide()
    get_app_model().commands.execute_command("napari-uhrseg.finetune").result()
    qtbot.waitUntil(lambda: docks_in(viewer) == [panel])
    qtbot.waitUntil(lambda: panel.finetune.isVisible())
    assert panel.tabs.shown == "Train"
    viewer.window.add_plugin_dock_widget("napari-uhrseg", "Fine-tune (training)")
    qtbot.waitUntil(lambda: docks_in(viewer) == [panel])
    assert not panel.stopped


@pytest.mark.slow
def test_finetune_menu_entry_opens_panel(viewer, qtbot):
    _, panel = viewer.window.add_plugin_dock_widget(
        "napari-uhrseg", "Fine-tune (training)"
    )
    assert isinstance(panel, Panel)
    assert panel.tabs.shown == "Train"


@pytest.mark.slow
@pytest.mark.parametrize("temporary", [True, False])
def test_new_panel_adopts_labels_of_closed_panel(
    viewer, qtbot, image, checkpoints, tmp_path, temporary
):
    _, before = viewer.window.add_plugin_dock_widget("napari-uhrseg", "Segment")
    add_image(viewer, image)
    output = None if temporary else tmp_path / "labels.zarr"
    before.segment.model.use(checkpoints[0])
    before.segment.output.use(output)
    wait_for_plan(before, qtbot)
    before.segment.bar.start.click()
    assert wait_for_end(before, qtbot).startswith("Done")
    layer = before.segment.view.layer
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=10_000)  # confidence too
    viewer.window.remove_dock_widget(before)
    assert QThreadPool.globalInstance().waitForDone(600_000)

    _, panel = viewer.window.add_plugin_dock_widget("napari-uhrseg", "Segment")
    view = panel.segment.view
    assert view.layer is layer
    assert panel.segment.output.path == output
    rows = panel.segment.legend
    assert [rows.topLevelItem(i).text(0) for i in range(2)] == ["dark", "light"]
    assert rows.topLevelItem(0).text(1) != "–"
    assert panel.shown.store is layer.metadata[STORE]
    # corrected there
    look_at(viewer, viewer.layers[0], 1050, 150)
    panel.correct.correct.click()
    qtbot.waitUntil(lambda: panel.correct.area is not None, timeout=10_000)
    area = panel.correct.area
    qtbot.waitUntil(lambda: area.area is not None, timeout=10_000)
    area.layer.selected_label, area.layer.brush_size = 2, 9
    Mouse(viewer, viewer.layers[0]).drag((1050, 100), (1050, 200))
    panel.correct.correct.click()
    done = []
    panel.correct.writer.submit(int, then=done.append)
    qtbot.waitUntil(lambda: bool(done), timeout=10_000)
    assert (view.store.read_labels(Roi(1048, 100, 5, 100)) == 2).all()
    assert (np.asarray(layer.data[0][1048:1053, 100:200]) == 2).all()
    # and gone on with
    panel.segment.model.use(checkpoints[0])
    qtbot.waitUntil(lambda: panel.segment.model.path == checkpoints[0])
    wait_for_plan(panel, qtbot)
    panel.segment.bar.start.click()
    assert wait_for_end(panel, qtbot).startswith("Done")
    labels = [x for x in viewer.layers if isinstance(x, Labels)]
    assert labels == [layer]
    assert len(viewer.layers) == 3
