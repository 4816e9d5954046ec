"""Changes between two dates in the tab Results."""

import csv

import numpy as np
import pytest
import rasterio
from napari.utils.notifications import notification_manager

from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Limits
from napari_uhrseg.ui.labels.changes_panel import ChangesPanel
from napari_uhrseg.ui.labels.selection import LabelsSelection
from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image
from napari_uhrseg.ui.workers.worker import Workers

SHAPE = (120, 200)
LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))


def made(folder, name: str, labels: np.ndarray):
    """Return the path of a store with these labels, and its image."""
    image = image_from_array(
        np.zeros(labels.shape, np.uint8), name=name, pixel_size=(10.0, 10.0),
        unit="micrometer",
    )  # fmt: skip
    path = folder / f"{name}.zarr"
    with LabelStore.create(path, image, LEGEND, limits=Limits(coarsest_level=64)) as s:
        for level, array in enumerate(s.prediction):
            array[:] = labels[:: 1 << level, :: 1 << level]
    return path, image


@pytest.fixture
def labels():
    """Return labels of two dates: a square of 20 x 40 pixels becomes a lake."""
    before = np.ones(SHAPE, np.uint8)
    before[:, 150:] = 0
    after = before.copy()
    after[40:60, 100:140] = 2
    return before, after


@pytest.fixture
def panel(viewer, labels, tmp_path, qtbot):
    paths = [made(tmp_path, n, x) for n, x in zip(("a", "b"), labels, strict=True)]
    store = LabelStore.open(paths[1][0])
    add_image(viewer, paths[1][1])
    workers, shown = Workers(), LabelsSelection(viewer)
    part = ChangesPanel(viewer, workers, shown)
    qtbot.addWidget(part)
    part.view = LabelsView(viewer, store, paths[1][1])
    part.before = paths[0][0]
    yield part
    part.stop()
    shown.stop()
    workers.close()
    store.close()


def texts(table) -> list[list[str]]:
    return [
        [table.topLevelItem(r).text(c) for c in range(table.columnCount())]
        for r in range(table.topLevelItemCount())
    ]


def test_changes_are_counted_and_shown(panel, viewer, labels, qtbot):
    assert not panel.compare.isEnabled()
    panel.use(panel.before)
    panel.compare.click()
    qtbot.waitUntil(lambda: "Changes" in viewer.layers, timeout=10_000)
    qtbot.waitUntil(lambda: panel.status.text().startswith("Changed"), timeout=5000)
    assert panel.status.text().startswith("Changed: 0.08 mm² (4.4%")
    assert texts(panel.table) == [
        ["unlabelled", "0.6 mm²", "–", "–"],
        ["road", "–", "1.72 mm²", "0.08 mm²"],
        ["lake", "–", "–", "–"],
    ]
    layer = viewer.layers["Changes"]
    assert list(layer.features["class"]) == ["unchanged", "road → lake"]
    expected = (labels[0] != labels[1]).astype(np.uint8)
    for level, data in enumerate(layer.data):
        step = 1 << level
        np.testing.assert_array_equal(np.asarray(data), expected[::step, ::step])
    assert layer.data[0][45, 110] == 1
    np.testing.assert_array_equal(layer.data[0][39:41, ::50], expected[39:41, ::50])
    assert viewer.layers.selection.active is not layer


def test_matrix_and_map_are_saved(panel, labels, tmp_path, qtbot):
    panel.use(panel.before)
    panel.compare.click()
    qtbot.waitUntil(panel.save.isEnabled, timeout=10_000)
    panel.save_file(tmp_path / "m.csv")
    qtbot.waitUntil(lambda: "Saved to" in panel.status.text(), timeout=10_000)
    rows = list(csv.reader((tmp_path / "m.csv").open()))
    assert rows[0][0] == "from_to_mm2"
    assert float(rows[2][3]) == 0.08
    panel.save_file(tmp_path / "m.tif")
    qtbot.waitUntil(lambda: "m.tif" in panel.status.text(), timeout=10_000)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        raster = rasterio.open(tmp_path / "m.tif")
    with raster:
        assert np.count_nonzero(raster.read(1) == 2) == 20 * 40


def test_window_follows_locale_and_file_does_not(panel, tmp_path, qtbot, set_locale):
    set_locale("de_DE")
    panel.use(panel.before)
    panel.compare.click()
    qtbot.waitUntil(panel.save.isEnabled, timeout=10_000)
    assert panel.status.text().startswith("Changed: 0,08 mm² (4,4%")
    assert texts(panel.table)[1] == ["road", "–", "1,72 mm²", "0,08 mm²"]
    panel.save_file(tmp_path / "m.csv")
    qtbot.waitUntil(lambda: "Saved to" in panel.status.text(), timeout=10_000)
    rows = list(csv.reader((tmp_path / "m.csv").open()))
    assert rows[2][2:] == ["1.72", "0.08"]


def test_labels_in_the_viewer_are_offered_and_other_labels_clear_the_matrix(
    panel, viewer, labels, tmp_path, qtbot
):
    path, image = made(tmp_path, "c", labels[0])
    with LabelStore.open(path) as store:
        other = LabelsView(viewer, store, image)
        viewer.layers.selection.active = panel.view.layer
        assert panel.earlier.currentText() == other.layer.name
        panel.compare.click()
        qtbot.waitUntil(lambda: panel.table.topLevelItemCount() == 3, timeout=10_000)
        qtbot.waitUntil(panel.save.isEnabled, timeout=10_000)
        viewer.layers.selection.active = other.layer
        assert panel.table.topLevelItemCount() == 0
        assert not panel.save.isEnabled()
        other.remove()


def test_labels_of_another_place_are_refused(panel, viewer, tmp_path, qtbot):
    path, _ = made(tmp_path, "small", np.ones((50, 60), np.uint8))
    panel.use(path)
    notification_manager.records.clear()
    panel.compare.click()
    qtbot.waitUntil(lambda: "not of one grid" in panel.status.text(), timeout=10_000)
    assert "50 pixels" in notification_manager.records[0].message
    assert "Changes" not in viewer.layers
    assert panel.compare.isEnabled()
