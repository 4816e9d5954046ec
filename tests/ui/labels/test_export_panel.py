"""Areas and export in the panel, on labels that are shown."""

import csv
import json

import numpy as np
import pyogrio
import pytest
import rasterio
from napari.utils.notifications import notification_manager
from npe2 import PluginManager, PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from helpers.gate import zarr_gate
from helpers.message_boxes import answer_boxes
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import LabelClass, Legend, Roi
from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image
from napari_uhrseg.ui.napari_writers import write_cog, write_geopackage, write_ome_tiff
from napari_uhrseg.ui.segment.output import VIEW

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))


@pytest.fixture
def shown(viewer, panel, small_checkpoint, tmp_path, qtbot):
    """Labels of 3000 x 2000 pixels of 0.5 µm: road left of column 500, then lake."""
    picture = image_from_array(
        np.zeros((3000, 2000), np.uint8), name="slide", pixel_size=(0.5, 0.5),
        unit="micrometer",
    )  # fmt: skip
    panel.segment.model.use(small_checkpoint)
    add_image(viewer, picture)
    store = LabelStore.create(tmp_path / "slide_labels.zarr", picture, LEGEND)
    for level, array in enumerate(store.prediction):
        array[:] = 2
        array[:, : 500 >> level] = 1
    view = LabelsView(viewer, store, picture)
    panel.show_step("Results")
    yield view
    store.close()


def rows(table):
    """The texts of a tree, region by region."""

    def of(item):
        below = [of(item.child(i)) for i in range(item.childCount())]
        return [item.text(i) for i in range(4)], below

    return [of(table.topLevelItem(i)) for i in range(table.topLevelItemCount())]


@pytest.mark.slow
def test_areas_are_there_at_once_and_follow_what_is_written(panel, shown, qtbot):
    table = panel.areas.table
    qtbot.waitUntil(lambda: table.topLevelItemCount() == 2, timeout=10_000)
    (road, _), (lake, _) = rows(table)
    assert road == ["road", "≈ 0.375 mm²", "≈ 25.0%", "–"]
    assert lake[:3] == ["lake", "≈ 1.12 mm²", "≈ 75.0%"]
    shown.store.coarsest_displayed()[:] = 1  # as a run does that goes on
    qtbot.waitUntil(lambda: rows(table)[0][0][2] == "≈ 100.0%", timeout=10_000)


@pytest.mark.slow
def test_what_is_in_view_has_its_own_numbers(viewer, panel, shown, qtbot):
    where, table = panel.areas.where, panel.areas.table
    viewer.scene.camera.zoom = 10  # screen pixels a µm: some 100 µm are seen
    viewer.scene.camera.center = (750, 120)  # road reaches to 250 µm
    where.setCurrentIndex(where.findData(VIEW))

    def shares():
        return [line[0][2] for line in rows(table)]

    qtbot.waitUntil(lambda: shares() == ["≈ 100.0%", "≈ 0.0%"], timeout=10_000)
    viewer.scene.camera.center = (750, 800)
    qtbot.waitUntil(lambda: shares() == ["≈ 0.0%", "≈ 100.0%"], timeout=10_000)


@pytest.mark.slow
def test_counting_gives_objects(panel, shown, qtbot):
    table = panel.areas.table
    qtbot.waitUntil(lambda: table.topLevelItemCount() == 2, timeout=10_000)
    panel.areas.count.click()
    qtbot.waitUntil(lambda: rows(table)[0][0][3] == "1", timeout=20_000)
    assert rows(table)[0][0] == ["road", "0.375 mm²", "25.0%", "1"]
    qtbot.waitUntil(lambda: "Counted" in panel.areas.status.text(), timeout=10_000)


@pytest.mark.slow
def test_each_drawn_region_has_its_own_lines(viewer, panel, shown, qtbot):
    squares = [
        np.array([[0, 0], [0, 1000], [1000, 1000], [1000, 0]]) - 0.5,
        np.array([[0, 1000], [0, 2000], [1000, 2000], [1000, 1000]]) - 0.5,
    ]
    layer = viewer.add_shapes(
        squares, shape_type="polygon", scale=(0.5, 0.5), units=("micrometer",) * 2
    )
    where = panel.areas.where
    where.setCurrentIndex(where.findData(layer))
    layer.selected_data = set()
    table = panel.areas.table
    qtbot.waitUntil(lambda: bool(rows(table) and rows(table)[0][1]), timeout=10_000)
    first, second = rows(table)
    assert (first[0][0], second[0][0]) == ("1", "2")
    assert [line[0][2] for line in first[1]] == ["≈ 50.0%", "≈ 50.0%"]
    assert [line[0][2] for line in second[1]] == ["≈ 0.0%", "≈ 100.0%"]


def test_a_renamed_shapes_layer_has_its_new_name_and_stays_chosen(viewer, panel):
    square = np.array([[0, 0], [0, 9], [9, 9], [9, 0]])
    layer = viewer.add_shapes([square], shape_type="polygon", name="plots")
    boxes = (panel.areas.where, panel.segment.form.where)
    for box in boxes:
        box.setCurrentIndex(box.findData(layer))
    layer.name = "lakes"
    for box in boxes:
        assert box.currentText() == "Shape in lakes"
        assert box.count() == 3


@pytest.mark.slow
def test_what_comes_back_is_shown_again_and_meanwhile_why_not(
    viewer, panel, shown, qtbot, tmp_path
):
    part = panel.areas
    table, said = part.table, part.status.text

    def there():
        return table.topLevelItemCount() > 0 and "Estimated" in said()

    qtbot.waitUntil(there, timeout=10_000)
    part.count.click()
    qtbot.waitUntil(lambda: "Counted" in said(), timeout=20_000)
    layer, index = shown.layer, viewer.layers.index(shown.layer)
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: "There are no labels" in said(), timeout=10_000)
    assert not table.topLevelItemCount()
    assert not part.save.isEnabled()
    part.save_csv(tmp_path / "gone.csv")
    assert not (tmp_path / "gone.csv").exists()
    viewer.layers.insert(index, layer)
    qtbot.waitUntil(there, timeout=10_000)
    square = np.array([[0, 0], [0, 1000], [1000, 1000], [1000, 0]]) - 0.5
    shapes = viewer.add_shapes(
        [square], shape_type="polygon", name="plots", scale=(0.5, 0.5),
        units=("micrometer",) * 2,
    )  # fmt: skip
    part.where.setCurrentIndex(part.where.findData(shapes))
    qtbot.waitUntil(there, timeout=10_000)
    shapes.data = []
    qtbot.waitUntil(lambda: "'plots' has no shape" in said(), timeout=10_000)
    assert not table.topLevelItemCount()
    shapes.add_polygons(square)
    qtbot.waitUntil(there, timeout=10_000)


def test_regions_from_a_file_are_counted_with_their_holes(
    panel, shown, qtbot, tmp_path, monkeypatch
):
    outer = [[0, 0], [1000, 0], [1000, 1000], [0, 1000], [0, 0]]
    hole = [[500, 0], [1000, 0], [1000, 1000], [500, 1000], [500, 0]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [outer, hole]},
        "properties": {"classification": {"name": "plot"}},
    }
    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    panel.areas.import_regions(path)
    table = panel.areas.table
    qtbot.waitUntil(
        lambda: table.topLevelItemCount() == 2 and rows(table)[0][0][2] == "≈ 100.0%",
        timeout=10_000,
    )
    panel.areas.save_csv(tmp_path / "areas.csv")
    qtbot.waitUntil(lambda: (tmp_path / "areas.csv").exists(), timeout=20_000)
    lines = list(csv.DictReader((tmp_path / "areas.csv").open()))
    assert [line["region"] for line in lines] == ["1 plot"] * 2
    assert [int(line["pixels"]) for line in lines] == [500_000, 0]
    target = tmp_path / "shares.geojson"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", save_as(target))
    panel.areas.save.click()
    qtbot.waitUntil(target.exists, timeout=20_000)
    qtbot.waitUntil(lambda: "Saved to" in panel.areas.status.text(), timeout=5000)
    (found,) = json.loads(target.read_text())["features"]
    assert found["properties"]["share_road"] == 1
    assert found["properties"]["classification"] == {"name": "plot"}


def test_drawn_and_annotation_regions_are_saved_with_class_shares(
    viewer, panel, shown, qtbot, tmp_path, monkeypatch
):
    square = np.array([[0, 400], [0, 600], [100, 600], [100, 400]]) - 0.5
    shapes = viewer.add_shapes(
        [square], shape_type="polygon", scale=(0.5, 0.5), units=("micrometer",) * 2
    )
    annotations = panel.correct.annotations
    annotations.set_view(shown)
    annotations.add.click()
    annotations.tree.topLevelItem(0).setCheckState(1, Qt.CheckState.Checked)
    where = panel.areas.where
    for layer, target, expected in (
        (shapes, tmp_path / "drawn.geojson", ("1", False)),
        (viewer.layers["Regions"], tmp_path / "kept.gpkg", ("Region 1", True)),
    ):
        where.setCurrentIndex(where.findData(layer))
        monkeypatch.setattr(QFileDialog, "getSaveFileName", save_as(target))
        panel.areas.save.click()
        qtbot.waitUntil(target.exists, timeout=20_000)
        qtbot.waitUntil(lambda p=target: str(p) in panel.areas.status.text())
        meta, _, _, columns = pyogrio.raw.read(target)
        fields = dict(zip(meta["fields"], columns, strict=True))
        assert (fields["name"][0], fields["locked"][0]) == expected
        assert (fields["share_road"][0], fields["share_lake"][0]) == (0.5, 0.5)


def save_as(target):
    """Return a file dialog that chooses a target among the offered kinds of files."""

    def ask(parent, title, name, kinds):
        assert f"*{target.suffix}" in kinds
        return str(target), ""

    return ask


def choose(part, name, qtbot):
    qtbot.waitUntil(part.isEnabled, timeout=10_000)  # the formats are known
    part.format.setCurrentIndex(part.format.findData(name))


@pytest.mark.slow
def test_export_writes_what_is_shown(panel, shown, qtbot, tmp_path):
    part = panel.export
    choose(part, "cog", qtbot)
    assert part.line.text() == str(tmp_path / "slide_labels_cog.tif")
    assert not part.simplify.isEnabled()
    qtbot.waitUntil(lambda: "no coordinate" in part.status.text(), timeout=20_000)
    part.start.click()
    qtbot.waitUntil(lambda: part.status.text().startswith("Exported"), timeout=20_000)
    with rasterio.open(tmp_path / "slide_labels_cog.tif") as raster:
        assert np.count_nonzero(raster.read(1) == 1) == 3000 * 500
    assert part.start.isEnabled()
    assert not part.cancel.isEnabled()


@pytest.mark.slow
def test_a_target_that_exists_is_asked_about(
    panel, shown, qtbot, tmp_path, monkeypatch
):
    target = tmp_path / "mine.geojson"
    target.write_text("mine")
    part = panel.export
    choose(part, "qupath", qtbot)
    part.line.setText(str(target))
    answer_boxes(monkeypatch, "Cancel")
    part.start.click()
    assert target.read_text() == "mine"
    answer_boxes(monkeypatch, "Replace")
    part.start.click()
    qtbot.waitUntil(lambda: part.status.text().startswith("Exported"), timeout=20_000)
    assert len(json.loads(target.read_text())["features"]) == 2


def test_export_smooths_and_cleans_up(panel, shown, qtbot, tmp_path):
    store = shown.store
    store.prediction[0][1000:1010, 1000:1010] = 1
    part, target = panel.export, tmp_path / "a.geojson"
    choose(part, "qupath", qtbot)
    part.line.setText(str(target))
    part.smooth.setValue(2)
    part.clean_up.object.setText("5 apples")
    notification_manager.records.clear()
    part.start.click()
    (record,) = notification_manager.records
    assert "apples" in record.message
    part.clean_up.object.setText("101")
    part.start.click()
    qtbot.waitUntil(lambda: part.status.text().startswith("Exported"), timeout=20_000)
    assert len(json.loads(target.read_text())["features"]) == 2
    assert (store.read_labels(Roi(1000, 1000, 10, 10)) == 1).all()
    found = part.choices()
    assert (found["smooth"], found["min_object"]) == (2, "101")
    choose(part, "confidence", qtbot)
    assert not part.smooth.isEnabled()
    assert not part.clean_up.majority.isEnabled()


@pytest.mark.slow
def test_stop_leaves_nothing_behind(panel, shown, qtbot, tmp_path, monkeypatch):
    disk = zarr_gate(monkeypatch, "__getitem__", "labels/prediction")
    disk.delay = 0.3
    part = panel.export
    choose(part, "ome-tiff", qtbot)
    part.start.click()
    qtbot.waitUntil(lambda: part.bar.value() > 0, timeout=20_000)
    part.cancel.click()
    qtbot.waitUntil(lambda: part.status.text().startswith("Stopped"), timeout=20_000)
    assert [p.name for p in tmp_path.iterdir()] == ["slide_labels.zarr"]


@pytest.mark.slow
def test_what_cannot_be_is_said(panel, shown, qtbot, tmp_path):
    part = panel.export
    choose(part, "geojson", qtbot)
    notification_manager.records.clear()
    part.start.click()
    qtbot.waitUntil(lambda: "no coordinate" in part.status.text(), timeout=20_000)
    (said,) = notification_manager.records
    assert "coordinate system" in said.message
    assert part.start.isEnabled()


def test_without_labels_nothing_can_be_pressed(panel):
    assert not panel.export.start.isEnabled()
    assert not panel.areas.count.isEnabled()
    assert "no labels" in panel.export.what.text()


@pytest.mark.slow
def test_naparis_save_writes_the_same(viewer, shown, tmp_path):
    manager = PluginManager.instance()
    if "napari-uhrseg" not in manager:
        manager.register(PluginManifest.from_distribution("napari-uhrseg"))
    for name in ("a.cog.tif", "a.ome.tif", "a.zarr", "a.geojson"):
        written = shown.layer.save(str(tmp_path / name))
        assert written == [str(tmp_path / name)]
    for name in ("a.cog.tif", "a.ome.tif"):
        with rasterio.open(tmp_path / name) as raster:
            assert np.count_nonzero(raster.read(1) == 1) == 3000 * 500
    found = open_image(tmp_path / "a.zarr").read(Roi(0, 499, 1, 2)).data
    assert found.ravel().tolist() == [1, 2]
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    names = [f["properties"]["classification"]["name"] for f in features]
    assert sorted(names) == ["lake", "road"]


@pytest.mark.slow
def test_naparis_save_knows_the_kind_where_the_name_does_not(shown, tmp_path):
    """Save's dialog lets one choose a kind of file and type a name without ending."""
    data = shown.layer.as_layer_data_tuple()[:2]
    assert write_cog(str(tmp_path / "a"), *data) == [str(tmp_path / "a.cog.tif")]
    assert write_cog(str(tmp_path / "b.tif"), *data) == [str(tmp_path / "b.tif")]
    with pytest.raises(ExportError, match=r"a\.cog\.tif exists already"):
        write_cog(str(tmp_path / "a"), *data)  # nobody was asked about that one
    # what was typed counts
    assert write_cog(str(tmp_path / "c.geojson"), *data)
    assert json.loads((tmp_path / "c.geojson").read_text())["features"]


def test_naparis_save_leaves_other_labels_alone(viewer, panel, tmp_path):
    layer = viewer.add_labels(np.ones((20, 30), np.uint8), name="mine")
    with pytest.raises(ExportError, match="mine is not from a label store"):
        write_geopackage(str(tmp_path / "a.gpkg"), *layer.as_layer_data_tuple()[:2])
    written = write_ome_tiff(
        str(tmp_path / "a.ome.tif"), *layer.as_layer_data_tuple()[:2]
    )
    with rasterio.open(written[0]) as raster:
        assert raster.read(1).shape == (20, 30)
