"""Tests of the end of a run and of strokes when the window closes."""

import pytest
from napari.layers import Labels
from qtpy.QtCore import QThreadPool

from helpers.canvas import Mouse, look_at, make_image, make_store
from helpers.gated_network import FORWARD
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.ui.layers.label_layers import add_image

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(make_napari_viewer):
    """Return a window of this test alone: the test closes it."""
    return make_napari_viewer(show=True)


@pytest.mark.slow
def test_closing_window_ends_run(viewer, ready, qtbot, tmp_path):
    FORWARD.delay = 0.15
    ready.segment.bar.start.click()
    qtbot.waitUntil(
        lambda: any(isinstance(x, Labels) for x in viewer.layers), timeout=30_000
    )
    viewer.close()
    qtbot.wait(100)
    assert QThreadPool.globalInstance().waitForDone(600_000)
    LabelStore.open(tmp_path / "labels.zarr", write=True).close()


@pytest.mark.slow
@pytest.mark.parametrize("released", [True, False])
def test_closing_window_keeps_finished_strokes(
    viewer, panel, qtbot, tmp_path, released
):
    """The window closes at once after a stroke, or while the button is pressed."""
    image, path = make_image(600, 700), tmp_path / "labels.zarr"
    make_store(path, image).close()
    (ground,) = add_image(viewer, image)
    panel.labels.open(path)
    qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=30_000)
    panel.correct.correct.setChecked(True)
    qtbot.waitUntil(lambda: panel.correct.area is not None, timeout=30_000)
    look_at(viewer, ground, 300, 300)
    qtbot.wait(300)
    layer = panel.correct.area.layer
    layer.mode, layer.brush_size, layer.selected_label = "paint", 21, 2
    mouse = Mouse(viewer, ground)
    mouse.drag((300, 300), (300, 400))
    if not released:
        mouse.press((200, 300), (200, 400))
    viewer.close()
    qtbot.wait(100)
    assert QThreadPool.globalInstance().waitForDone(600_000)
    with LabelStore.open(path, write=True) as store, Corrections.open(store) as again:
        assert (store.correction[0][300, 300:400] == 2).all()
        assert sum(again.counts().values()) == (store.correction[0][:] != 0).sum()
