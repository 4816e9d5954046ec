"""The table of objects in the panel, on labels that are displayed."""

import csv

import numpy as np
import pytest
from qtpy.QtWidgets import QTabWidget

from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))


@pytest.fixture
def shown(viewer, panel, tmp_path):
    """A lake of 40 x 20 pixels of 0.5 µm, and a road of 10 x 10 pixels."""
    picture = image_from_array(
        np.full((300, 400), 9, np.uint8), name="slide", pixel_size=(0.5, 0.5),
        unit="micrometer",
    )  # fmt: skip
    add_image(viewer, picture)
    store = LabelStore.create(tmp_path / "slide_labels.zarr", picture, LEGEND)
    store.prediction[0][100:140, 50:70] = 2
    store.prediction[0][200:210, 300:310] = 1
    view = LabelsView(viewer, store, picture)
    panel.show_step("Results")
    yield view
    store.close()


def texts(table):
    items = (table.topLevelItem(i) for i in range(table.topLevelItemCount()))
    return [[item.text(i) for i in range(4)] for item in items]


def test_largest_objects_are_listed_and_shown(viewer, panel, shown, qtbot):
    part = panel.objects
    part.list.click()
    qtbot.waitUntil(lambda: "2 objects" in part.status.text(), timeout=20_000)
    lake, road = texts(part.table)
    assert lake[:2] == ["lake", "200 µm²"]
    assert road[:2] == ["road", "25 µm²"]
    assert road[3] == "–"  # painted without a prediction
    for row, centre in ((0, (120, 60)), (1, (205, 305))):
        part.table.itemClicked.emit(part.table.topLevelItem(row), 0)
        centre_um = np.array(viewer.scene.camera.center[-2:])
        assert abs(centre_um / 0.5 - centre).max() < 4
    viewer.layers.remove(shown.layer)
    assert texts(part.table) == []
    assert "There are no labels" in part.status.text()


def test_table_of_all_objects_is_saved(panel, shown, qtbot, tmp_path):
    part, path = panel.objects, tmp_path / "objects.csv"
    part.save_table(path)
    qtbot.waitUntil(lambda: "Saved to" in part.status.text(), timeout=20_000)
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert [row["pixels"] for row in rows] == ["800", "100"]
    part.save_table(tmp_path / "objects.txt")
    qtbot.waitUntil(lambda: "does not end in" in part.status.text(), timeout=20_000)


def test_areas_and_objects_share_one_place(panel, shown, qtbot):
    pages = panel.objects.parentWidget().parentWidget()
    assert isinstance(pages, QTabWidget)
    assert [pages.tabText(i) for i in range(pages.count())] == [
        "Areas", "Objects", "Changes",
    ]  # fmt: skip
    assert pages.currentWidget() is panel.areas
