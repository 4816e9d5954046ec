"""Annotation regions in the tab Correct, without a window."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from helpers.label_stores import LEGEND, RUN
from napari_uhrseg.io.corrections.annotations.regions_file import read_regions
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, Roi
from napari_uhrseg.ui.correct.panel import CorrectPanel
from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image
from napari_uhrseg.ui.layers.viewport import REGIONS, selected_shapes
from napari_uhrseg.ui.segment.output import RegionPicker
from napari_uhrseg.ui.workers.worker import Workers

SHAPE = (100, 120)
SQUARE = np.array([[10, 10], [10, 50], [40, 50], [40, 10]]) - 0.5


@pytest.fixture
def correct(viewer, tmp_path, qtbot):
    image = image_from_array(np.zeros((*SHAPE, 3), np.uint8), name="scene", rgb=True)
    store = LabelStore.create(tmp_path / "a.zarr", image, LEGEND)
    run = replace(RUN, image_fingerprint=image.fingerprint)
    run = store.run_ledger.start_run(run)
    labels = np.ones(SHAPE, np.uint8)
    store.write(Block(Roi(0, 0, *SHAPE), labels, labels), run.id, "done")
    workers = Workers()
    panel = CorrectPanel(viewer, workers)
    qtbot.addWidget(panel)
    add_image(viewer, image)
    panel.set_view(LabelsView(viewer, store, image))
    panel.store, panel.image = store, image
    yield panel
    panel.stop()
    workers.close()
    store.close()


def row(part, number: int) -> list[str]:
    item = part.tree.topLevelItem(number)
    return [item.text(column) for column in range(3)]


def keep(correct, viewer, qtbot):
    """Keep a square and a rectangle as regions."""
    part = correct.annotations
    shapes = viewer.add_shapes([SQUARE], shape_type="polygon")
    shapes.add_rectangles(np.array([[60, 60], [80, 100]]) - 0.5)
    part.add.click()
    qtbot.waitUntil(lambda: len(read_regions(correct.store.path)) == 2)
    qtbot.waitUntil(lambda: row(part, 1)[2] == "0")
    return part


def test_shapes_become_regions_with_names_and_counts(correct, viewer, qtbot):
    part = keep(correct, viewer, qtbot)
    assert [row(part, k)[0] for k in (0, 1)] == ["Region 1", "Region 2"]
    layer = viewer.layers["Regions"]
    assert list(layer.features["name"]) == ["Region 1", "Region 2"]
    assert [name for _, name in layer.metadata[REGIONS]] == ["Region 1", "Region 2"]
    part.tree.topLevelItem(0).setText(0, "gland")
    qtbot.waitUntil(lambda: read_regions(correct.store.path)[0].name == "gland")
    assert "gland" in set(viewer.layers["Regions"].features["name"])
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 50, 60), 4
    correct.confirm_view.click()
    qtbot.waitUntil(lambda: row(part, 0)[2] == f"{30 * 40:,}", timeout=10_000)
    assert row(part, 1)[2] == "800"
    assert "1,200 pixels" in part.tree.topLevelItem(0).toolTip(2)
    # the regions themselves are not filled by Fill shapes
    assert len(selected_shapes(viewer, viewer.layers[1])) == 2


def test_locked_regions_keep_their_labels(correct, viewer, qtbot):
    part = keep(correct, viewer, qtbot)
    part.tree.topLevelItem(0).setCheckState(1, Qt.CheckState.Checked)
    qtbot.waitUntil(lambda: read_regions(correct.store.path)[0].locked)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 50, 60), 4
    correct.confirm_view.click()
    qtbot.waitUntil(lambda: row(part, 1)[2] == "800", timeout=10_000)
    assert row(part, 0)[2] == "0"
    found = correct.store.correction[0][:]
    assert not found[10:40, 10:50].any()
    assert found.sum() == np.prod(SHAPE) - 30 * 40
    part.tree.topLevelItem(0).setCheckState(1, Qt.CheckState.Unchecked)
    qtbot.waitUntil(lambda: not read_regions(correct.store.path)[0].locked)
    correct.confirm_view.click()
    qtbot.waitUntil(lambda: row(part, 0)[2] == "1,200", timeout=10_000)


def test_regions_return_with_their_labels(correct, viewer, qtbot):
    part = keep(correct, viewer, qtbot)
    view = LabelsView(viewer, correct.store, correct.image, viewer.layers[1])
    correct.set_view(None)
    assert "Regions" not in viewer.layers
    assert not part.add.isEnabled()
    correct.set_view(view)
    qtbot.waitUntil(lambda: len(part.regions) == 2)
    part.tree.setCurrentItem(part.tree.topLevelItem(0))
    part.remove.click()
    qtbot.waitUntil(lambda: len(read_regions(correct.store.path)) == 1)
    assert row(part, 0)[0] == "Region 2"


def test_changed_regions_stay_the_place_of_a_run(correct, viewer, qtbot):
    part, picker = keep(correct, viewer, qtbot), RegionPicker(viewer)
    qtbot.addWidget(picker)
    picker.setCurrentIndex(picker.findText("Shape in Regions"))
    part.tree.topLevelItem(0).setText(0, "Lake")
    qtbot.waitUntil(lambda: read_regions(correct.store.path)[0].name == "Lake")
    assert picker.currentData() is viewer.layers["Regions"]
    # without regions it is the whole image, also when others are drawn later
    part.tree.setCurrentItem(part.tree.topLevelItem(0))
    part.remove.click()
    part.tree.setCurrentItem(part.tree.topLevelItem(0))
    part.remove.click()
    assert picker.currentText() == "Whole image"
    qtbot.wait(1)
    viewer.add_shapes([SQUARE], shape_type="polygon", name="Regions")
    assert picker.currentText() == "Whole image"
    picker.stop()
