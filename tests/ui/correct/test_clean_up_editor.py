"""Clean-up in the tab Correct, without a window."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.label_stores import LEGEND, RUN
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import AreaSize, Block, CleanUp, Roi
from napari_uhrseg.ui.correct.panel import CorrectPanel
from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image
from napari_uhrseg.ui.workers.worker import Workers

SHAPE = (100, 120)


@pytest.fixture
def labels():
    found = np.ones(SHAPE, np.uint8)
    found[40:44, 50:54] = 2
    return found


@pytest.fixture
def correct(viewer, labels, tmp_path, qtbot):
    image = image_from_array(np.zeros((*SHAPE, 3), np.uint8), name="scene", rgb=True)
    store = LabelStore.create(tmp_path / "a.zarr", image, LEGEND)
    run = replace(RUN, image_fingerprint=image.fingerprint)
    run = store.run_ledger.start_run(run)
    store.write(Block(Roi(0, 0, *SHAPE), labels, np.ones_like(labels)), run.id, "done")
    workers = Workers()
    panel = CorrectPanel(viewer, workers)
    qtbot.addWidget(panel)
    add_image(viewer, image)
    panel.set_view(LabelsView(viewer, store, image))
    panel.store = store
    yield panel
    panel.stop()
    workers.close()
    store.close()


def test_preview_shows_changes_and_apply_can_be_undone(correct, viewer, labels, qtbot):
    editor, store = correct.clean_up, correct.store
    editor.button.click()
    qtbot.waitUntil(lambda: "Choose a filter" in editor.result.text())
    editor.form.object.setText("17")
    assert editor.form.settings() == CleanUp(min_object=AreaSize(17))
    viewer.scene.camera.center = (0, 50, 60)
    viewer.scene.camera.zoom = 4
    qtbot.waitUntil(lambda: "Clean-up" in viewer.layers)
    assert editor.result.text().startswith("16 pixels in view change")
    editor.apply.click()
    qtbot.waitUntil(lambda: store.read_labels(Roi(40, 50, 4, 4)).max() == 1)
    qtbot.waitUntil(lambda: correct.idle and "Clean-up" not in viewer.layers)
    assert (store.read_labels(Roi(0, 0, *SHAPE)) == 1).all()
    qtbot.waitUntil(correct.undo.isEnabled)
    correct.undo.click()
    qtbot.waitUntil(lambda: store.read_labels(Roi(40, 50, 4, 4)).min() == 2)


def test_discard_changes_nothing(correct, viewer, labels, qtbot):
    editor = correct.clean_up
    editor.button.click()
    editor.form.object.setText("5 apples")
    editor.form.majority.setValue(1)
    qtbot.waitUntil(lambda: "is not an area" in editor.result.text())
    editor.discard.click()
    assert editor.editor.isHidden()
    assert not editor.button.isHidden()
    assert "Clean-up" not in viewer.layers
