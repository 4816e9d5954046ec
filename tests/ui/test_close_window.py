"""Test of the end of a run when its window closes."""

import pytest
from napari.layers import Labels
from qtpy.QtCore import QThreadPool

from helpers.gated_network import FORWARD
from napari_uhrseg.io.labels.store import LabelStore

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
    assert QThreadPool.globalInstance().waitForDone(120_000)
    LabelStore.open(tmp_path / "labels.zarr", write=True).close()
