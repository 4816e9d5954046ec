"""The Correct part: from the button to the store and back."""

import json

import numpy as np
import pytest
from napari import Viewer
from napari.utils.notifications import notification_manager
from PIL import Image as PilImage
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QColorDialog, QInputDialog, QWidget

from helpers.canvas import CLASSES, Mouse, look_at, make_image, make_store, predict
from helpers.write_queue import drain
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, Limits, Roi
from napari_uhrseg.ui.image.new_labels_dialog import NewLabelsDialog
from napari_uhrseg.ui.layers.label_layers import add_image

SHAPE = (3000, 3500)


@pytest.fixture(scope="module")
def image():
    return make_image(*SHAPE)


@pytest.fixture
def path(tmp_path, image):
    make_store(tmp_path / "labels.zarr", image).close()
    return tmp_path / "labels.zarr"


class Desk:
    """A panel with labels open, and what a person does at it."""

    def __init__(self, viewer, panel, qtbot, image):
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot
        self.part = panel.correct
        self.ground = viewer.layers[0]

    def until(self, happened, timeout=15_000):
        self.qtbot.waitUntil(happened, timeout=timeout)

    def open(self, path):
        self.panel.labels.open(path)
        self.until(lambda: self.panel.segment.view is not None)
        self.qtbot.wait(50)

    @property
    def view(self):
        return self.panel.segment.view

    @property
    def store(self):
        return self.view.store

    def start(self):
        """Press Correct, and wait until one can paint."""
        look_at(self.viewer, self.ground, 1500, 1500)
        self.part.correct.click()
        self.until(lambda: bool(self.part.area and self.part.area.area))
        self.settle()

    def settle(self):
        self.qtbot.wait(120)
        self.until(lambda: self.part.idle)
        drain(self.part.writer, self.until)
        self.qtbot.wait(350)

    def paint(self, *points):
        Mouse(self.viewer, self.ground).drag(*points)
        self.settle()

    def corrected(self, roi):
        return np.asarray(self.store.correction[0][roi.slices])

    def choose(self, name):
        legend = self.panel.segment.legend
        (item,) = legend.findItems(name, Qt.MatchFlag.MatchExactly)
        legend.setCurrentItem(item)

    def legend_rows(self):
        legend = self.panel.segment.legend
        items = (legend.topLevelItem(i) for i in range(legend.topLevelItemCount()))
        return {i.text(0): i.text(2) for i in items}

    def places(self):
        return self.part.regions.tree.topLevelItemCount()


@pytest.fixture
def desk(viewer, panel, image, qtbot):
    if isinstance(viewer, Viewer):
        viewer.window.resize(1300, 850)
    add_image(viewer, image)
    return Desk(viewer, panel, qtbot, image)


@pytest.mark.gui
@pytest.mark.slow
def test_open_correct_paint_count_and_find_it_again_tomorrow(desk, path, qtbot):
    desk.open(path)
    assert not desk.part.undo.isEnabled()
    desk.start()
    desk.choose("lake")
    desk.paint((1500, 1500), (1500, 1600))
    painted = int((desk.corrected(Roi(1400, 1400, 300, 300)) == 2).sum())
    assert painted > 1500
    desk.until(lambda: desk.legend_rows()["lake"] == f"{painted:,}")
    assert desk.places() == 1
    desk.panel.stop()  # the window is closed
    with LabelStore.open(path) as store, Corrections.open(store) as later:
        assert later.counts() == {2: painted}
        assert later.undo() is not None
        assert later.counts() == {}


@pytest.mark.slow
def test_yesterdays_stroke_can_be_taken_back(desk, path):
    with LabelStore.open(path) as store, Corrections.open(store) as earlier:
        for _ in earlier.fill(Roi(100, 100, 60, 80), 3):
            pass
    desk.open(path)
    desk.until(desk.part.undo.isEnabled)
    assert desk.legend_rows()["wood"] == "4,800"
    desk.part.undo.click()
    desk.until(desk.part.redo.isEnabled)
    assert desk.legend_rows()["wood"] in ("", "–")
    assert (desk.store.read_labels(Roi(100, 100, 60, 80)) == 1).all()
    desk.part.redo.click()
    desk.until(lambda: desk.legend_rows()["wood"] == "4,800")


@pytest.mark.slow
def test_the_class_of_the_legend_the_keys_and_the_layer_are_one(desk, path, qtbot):
    desk.open(path)
    desk.start()
    legend, layer = desk.panel.segment.legend, desk.part.area.layer
    desk.choose("wood")
    assert layer.selected_label == 3
    layer.selected_label = 2  # by picker or key
    assert legend.currentItem().text(0) == "lake"


@pytest.mark.gui
@pytest.mark.slow
def test_correct_off_shows_the_labels_as_before(desk, path):
    desk.open(path)
    desk.start()
    desk.paint((1500, 1500), (1500, 1600))
    layer = desk.part.area.layer
    desk.part.correct.click()
    assert layer not in desk.viewer.layers
    assert desk.view.pyramid.masked_region is None
    assert desk.view.layer.data[0][1500, 1550] == 1
    desk.part.correct.click()
    desk.until(lambda: desk.part.area is not None)


@pytest.mark.gui
@pytest.mark.slow
def test_removing_the_painted_layer_ends_correcting(desk, path):
    desk.open(path)
    desk.start()
    desk.viewer.layers.remove(desk.part.area.layer)
    assert not desk.part.correct.isChecked()
    assert desk.part.area is None
    assert desk.view.pyramid.masked_region is None
    desk.start()
    desk.viewer.layers.remove(desk.view.layer)
    assert not desk.part.correct.isChecked()
    assert not desk.part.confirm_view.isEnabled()
    with LabelStore.open(path) as store:
        desk.settle()
        Corrections.open(store).close()  # the lock is free


@pytest.mark.slow
def test_confirm_view_and_shape(desk, path):
    desk.open(path)
    look_at(desk.viewer, desk.ground, 1500, 1500, 4)
    desk.qtbot.wait(50)
    desk.part.confirm_view.click()
    desk.settle()
    count = int((desk.corrected(Roi(0, 0, *SHAPE)) == 1).sum())
    height, width = desk.viewer.canvas.size
    assert count == pytest.approx(height * width / 16, rel=0.05)
    box = np.array([[10.0, 10], [10, 60], [40, 60], [40, 10]])
    desk.viewer.add_shapes([box], shape_type="rectangle", scale=(0.5, 0.5))
    desk.part.confirm_shape.click()
    desk.settle()
    assert int((desk.corrected(Roi(0, 0, 100, 100)) == 1).sum()) == 30 * 50


@pytest.mark.slow
def test_shapes_are_filled_with_the_chosen_class(desk, path):
    desk.open(path)
    boxes = [np.array([[0.0, 0], [0, 20], [10, 20], [10, 0]]) + n for n in (50, 200)]
    desk.choose("wood")
    desk.part.fill_shapes.click()  # there is no Shapes layer: that is told
    desk.viewer.add_shapes(boxes, shape_type="rectangle", scale=(0.5, 0.5))
    desk.part.fill_shapes.click()
    desk.until(lambda: desk.legend_rows()["wood"] == "400")
    desk.settle()
    assert desk.places() == 2  # 150 pixels apart
    desk.part.undo.click()
    desk.until(lambda: desk.legend_rows()["wood"] == "200")


@pytest.mark.slow
def test_a_place_is_jumped_to_and_reverted(desk, path):
    desk.open(path)
    with Corrections.open(desk.store) as other:
        for y in (200, 2600):
            for _ in other.fill(Roi(y, y, 50, 50), 2):
                pass
    desk.part.set_view(desk.view)
    desk.until(lambda: desk.places() == 2)
    tree = desk.part.regions.tree
    rows = [tree.topLevelItem(i).text(0) for i in range(2)]
    tree.setCurrentItem(tree.topLevelItem(1))
    desk.part.regions.jump.click()
    y, x = np.asarray(desk.viewer.scene.camera.center)[-2:] / 0.5
    place = tree.topLevelItem(1).data(0, Qt.ItemDataRole.UserRole).roi
    assert Roi(place.y, place.x, place.height, place.width).contains(
        Roi(int(y), int(x), 1, 1)
    )
    desk.part.regions.revert.click()
    desk.settle()
    assert desk.places() == 1
    assert tree.topLevelItem(0).text(0) == rows[0]


@pytest.mark.slow
def test_uncertain_places_come_one_after_the_other_and_none_twice(desk, path):
    with LabelStore.open(path, write=True) as store:
        run = store.run_ledger.start_run(store.runs[0])
        sure = np.random.default_rng(0).integers(150, 250, SHAPE, np.uint8)
        sure[304:544, 304:544] = 3
        sure[2000:2160, 2000:2160] = 3
        block = Block(Roi(0, 0, *SHAPE), np.ones(SHAPE, np.uint8), sure)
        store.write(block, run.id, "done")
    desk.open(path)
    centers = []
    for number in (1, 2, 3):
        desk.part.next_uncertain.click()
        wanted = f"Uncertain region {number};"
        desk.until(lambda wanted=wanted: desk.part.status.text().startswith(wanted))
        centers.append(np.asarray(desk.viewer.scene.camera.center)[-2:] / 0.5)
    np.testing.assert_allclose(centers[0], (424, 424), atol=60)
    np.testing.assert_allclose(centers[1], (2080, 2080), atol=60)
    assert np.abs(centers[2] - centers[0]).max() > 100
    assert np.abs(centers[2] - centers[1]).max() > 70


def test_where_all_is_alike_no_place_is_uncertain(desk, path):
    desk.open(path)
    desk.part.next_uncertain.click()
    desk.until(lambda: "No uncertain region is left" in desk.part.status.text())


def test_values_of_a_mask_are_asked_about(qtbot):
    """A mask without names gets the classes of the reading that the user chooses."""
    from napari_uhrseg.ui.correct.import_annotations import ClassTable, Row

    rows = [Row(0, "0", "9 px", None), Row(1, "1", "5 px", None)]
    readings = {"class ids": [None, "lake"], "training values": ["lake", "wood"]}
    window = QWidget()
    qtbot.addWidget(window)
    table = ClassTable("mask.png", rows, ["lake", "wood"], window, readings)
    assert table.chosen() == {}
    table.reading.setCurrentIndex(1)
    assert table.chosen() == {1: "lake"}
    table.reading.setCurrentIndex(2)
    assert table.chosen() == {0: "lake", 1: "wood"}


@pytest.mark.slow
def test_a_mask_is_imported_by_a_table_that_can_be_mended(desk, path, tmp_path):
    desk.open(path)
    colors = np.zeros((*SHAPE, 3), np.uint8)
    colors[100:200, 100:300] = (0, 0, 255)  # the legend's lake
    colors[500:510, 500:510] = (9, 9, 200)
    colors[600:605, 500:510] = (1, 250, 1)
    PilImage.fromarray(colors).save(tmp_path / "mask.png")
    bringing = desk.part.annotation_import
    results: list[str] = []
    bringing.imported.connect(results.append)
    bringing.read("mask", tmp_path / "mask.png", desk.view, 0)
    table = _dialog(desk)
    assert [b.currentText() for b in table.boxes].count("lake") == 1
    by_color = {r.color: b for r, b in zip(table.rows, table.boxes, strict=True)}
    by_color["#0909c8"].setCurrentText("pond")  # a new class
    by_color["#01fa01"].setCurrentText("– skip –")
    table.accept()
    desk.until(lambda: desk.legend_rows().get("pond") == "100")
    desk.settle()
    desk.until(lambda: bool(results))
    assert "Imported mask.png: " in results[0]
    assert "'lake' +20,000 px" in results[0]
    assert "'pond' +100 px" in results[0]
    assert "'#01fa01' (50 px)" in results[0]
    assert desk.legend_rows()["lake"] == "20,000"
    assert (desk.corrected(Roi(600, 500, 5, 10)) == 0).all()


def test_polygons_of_a_file_become_corrections(desk, path, tmp_path):
    desk.open(path)
    ring = [[100, 200], [150, 200], [150, 240], [100, 240], [100, 200]]
    feature = {
        "type": "Feature",
        "properties": {"classification": {"name": "wood"}},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    file = tmp_path / "shapes.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    desk.part.annotation_import.read("polygons", file, desk.view, 0)
    _dialog(desk).accept()
    desk.until(lambda: desk.legend_rows()["wood"] == "2,000")
    assert (desk.corrected(Roi(200, 100, 40, 50)) == 3).all()


def _dialog(desk):
    from napari_uhrseg.ui.correct.import_annotations import ClassTable

    found = []

    def there():
        found[:] = [d for d in desk.part.findChildren(ClassTable) if d.isVisible()]
        return bool(found)

    desk.until(there)
    return found[0]


@pytest.mark.gui
@pytest.mark.slow
def test_classes_are_added_renamed_recoloured_and_merged(desk, path, monkeypatch):
    desk.open(path)
    desk.start()
    desk.choose("wood")
    desk.paint((1500, 1500), (1500, 1600))
    answers = iter(["bog", "forest"])
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (next(answers), True))
    from qtpy.QtGui import QColor

    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#123456"))
    act(desk, "Add a class…")
    desk.until(lambda: "bog" in desk.legend_rows())
    desk.choose("wood")
    act(desk, "Rename wood…")
    desk.until(lambda: "forest" in desk.legend_rows())
    act(desk, "Colour of forest…")
    red = tuple(v / 255 for v in (0x12, 0x34, 0x56))
    desk.until(
        lambda: np.allclose(desk.part.area.layer.colormap.color_dict[3][:3], red)
    )
    act(desk, "lake")  # of the submenu: merge into
    desk.until(lambda: "forest" not in desk.legend_rows())
    desk.settle()
    assert desk.store.aliases == {3: 2}
    assert (desk.view.classes[-1].name) == "bog"
    assert desk.part.area.layer.selected_label != 3
    assert set(np.unique(desk.part.area.layer.data)) == {1, 2}
    with LabelStore.open(path, write=True):  # the run's lock is free again
        pass


def act(desk, text):
    menu = desk.panel.classes.menu
    menu.aboutToShow.emit()
    actions = list(menu.actions())
    for action in menu.actions():
        if action.menu() is not None:
            actions += action.menu().actions()
    (found,) = [a for a in actions if a.text().replace("&", "") == text]
    found.trigger()


@pytest.mark.slow
def test_labels_that_another_process_writes_are_followed(desk, tmp_path, image):
    path = tmp_path / "growing.zarr"
    LabelStore.create(path, image, CLASSES).close()
    desk.open(path)
    assert share_of(desk, "wood") == 0
    with LabelStore.open(path, write=True) as writer:
        predict(writer, Roi(0, 0, 1024, 1024), 3)
        desk.until(lambda: share_of(desk, "wood") == 100)
        assert desk.view.pyramid.levels[-1][100, 100] == 3
        predict(writer, Roi(0, 1024, 1024, 1024), 2)
        desk.until(lambda: share_of(desk, "wood") == 50)


def share_of(desk, name):
    legend = desk.panel.segment.legend
    (item,) = legend.findItems(name, Qt.MatchFlag.MatchExactly)
    text = item.text(1).strip("<≈% ")
    return float(text) if text != "–" else 0.0


@pytest.mark.slow
@pytest.mark.gui
def test_correct_without_labels_begins_with_empty_ones(desk, tmp_path):
    desk.panel.segment.output.use(tmp_path / "fresh.zarr")
    desk.part.correct.click()
    (dialog,) = desk.panel.findChildren(NewLabelsDialog)
    for row, name in zip(dialog.rows, ("field", "ditch"), strict=False):
        row.line.setText(name)
    dialog.ok.click()
    desk.until(lambda: desk.panel.segment.view is not None)
    assert list(desk.legend_rows()) == ["field", "ditch"]
    desk.start()
    desk.choose("ditch")
    desk.paint((1500, 1500), (1500, 1600))
    assert (desk.corrected(Roi(1498, 1500, 5, 100)) == 2).all()


def test_what_is_corrected_elsewhere_is_told(desk, path):
    desk.open(path)
    notification_manager.records.clear()
    with LabelStore.open(path) as store, Corrections.open(store):
        desk.part.correct.click()
        desk.until(lambda: bool(notification_manager.records))
    (record,) = notification_manager.records
    assert "another window or process" in record.message
    assert not desk.part.correct.isChecked()


def test_buttons_say_why_they_cannot_be_pressed(desk):
    assert not desk.part.next_uncertain.isEnabled()
    assert "no labels to correct" in desk.part.status.text()


def test_legend_is_what_the_store_says(desk, path):
    desk.open(path)
    assert list(desk.legend_rows()) == [c.name for c in CLASSES]


@pytest.mark.slow
def test_a_large_undo_shows_progress_and_stopped_puts_back(desk, path):
    desk.open(path)
    limits = Limits(correction_tile=512)
    with Corrections.open(desk.store, limits=limits) as other:
        for _ in other.fill(Roi(0, 0, 1500, 1300), 2):
            pass
    desk.part.set_view(desk.view)
    desk.until(lambda: desk.part.undo.isEnabled())
    desk.start()
    desk.part.undo.click()
    bar = desk.part.bar
    desk.until(lambda: bar.isVisibleTo(desk.part) and bar.bar.value() > 0)
    assert bar.bar.format().startswith("Undoing")
    assert desk.part.area is None  # strokes would wait
    assert not desk.part.correct.isEnabled()
    bar.stop.click()
    desk.until(lambda: desk.part.area is not None, 60_000)
    assert np.count_nonzero(desk.store.correction[0][:]) == 1500 * 1300
    desk.until(lambda: desk.part.undo.isEnabled())
    desk.part.undo.click()
    desk.until(lambda: desk.places() == 0 and desk.part.area is not None, 60_000)
    assert not desk.store.correction[0][:].any()
