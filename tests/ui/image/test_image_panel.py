"""Tests of the Image panel: series, slices and pyramids."""

import numpy as np
import pytest
import tifffile
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QLabel

from helpers.gate import zarr_gate
from helpers.gated_network import LEGEND
from helpers.message_boxes import answer_boxes
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.types import Roi, SegmentSettings
from napari_uhrseg.ui.layers.label_layers import KEY, STORE
from napari_uhrseg.ui.layers.pyramid_progress import build_of
from napari_uhrseg.ui.segment.worker import free_threads
from napari_uhrseg.ui.widgets.help_window import show_help


@pytest.fixture
def panel(panel, small_checkpoint):
    """Return a panel that plans quickly with each image."""
    panel.segment.model.use(small_checkpoint)
    return panel


def open_in(panel, path, qtbot):
    panel.image.open_paths([path])
    qtbot.waitUntil(
        lambda: panel.image.image is not None and panel.image.image.path == path,
        timeout=20_000,
    )


def row_of(form: QFormLayout, title: str):
    """The field beside a label, None where there is no such label to be seen."""
    for row in range(form.rowCount()):
        label = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
        if label is not None and label.widget().text().replace("&", "") == title:
            field = form.itemAt(row, QFormLayout.ItemRole.FieldRole).widget()
            return None if field.isHidden() else field
    return None


def test_sample_and_first_steps_are_offered_until_an_image_is_open(panel, qtbot):
    assert not panel.image.sample.isHidden()
    panel.image.sample.click()
    qtbot.waitUntil(lambda: panel.image.image is not None, timeout=20_000)
    assert panel.image.image.name == "scene.tif"
    assert panel.image.sample.isHidden()
    window = show_help()
    window.page.go_back()
    assert window.page.toPlainText().startswith("Get started")
    window.close()


def test_name_of_a_file_is_no_html(panel, qtbot, tmp_path):
    path = tmp_path / "<b>bold<br>.tif"
    tifffile.imwrite(path, np.zeros((300, 300), np.uint8), tile=(128, 128))
    open_in(panel, path, qtbot)
    for note in panel.image.findChildren(QLabel):
        if note.wordWrap():
            assert note.textFormat() == Qt.TextFormat.PlainText


@pytest.fixture
def two_images(tmp_path):
    """A large image and a smaller one in one TIFF."""
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as tif:
        for side, value in ((300, 10), (200, 250)):
            data = np.full((side, side, 3), value, np.uint8)
            tif.write(data, photometric="rgb", tile=(128, 128))
    return path


def choose(box, row):
    """As a person does: the signal of a choice comes from clicks and keys only."""
    box.setCurrentIndex(row)
    box.activated.emit(row)


@pytest.mark.slow
def test_series_list_is_hidden_for_single_image(panel, qtbot, tmp_path):
    path = tmp_path / "one.tif"
    tifffile.imwrite(path, np.zeros((300, 200, 3), np.uint8), photometric="rgb")
    open_in(panel, path, qtbot)
    assert row_of(panel.image.layout(), "Series") is None


@pytest.mark.slow
def test_choosing_series_replaces_image(viewer, panel, qtbot, two_images):
    above = viewer.add_points(np.zeros((1, 2)), name="above")
    open_in(panel, two_images, qtbot)
    viewer.layers.move(viewer.layers.index(above), 99)
    qtbot.waitUntil(lambda: row_of(panel.image.layout(), "Series") is not None)
    box = row_of(panel.image.layout(), "Series")
    assert [box.itemText(i)[:2] for i in range(box.count())] == ["0:", "1:"]
    assert box.currentIndex() == 0
    choose(box, 1)
    qtbot.waitUntil(lambda: panel.image.image.series_number == 1, timeout=20_000)
    assert [layer.name for layer in viewer.layers] == ["two.tif 1", "above"]
    assert panel.image.image.shape == (200, 200)
    assert panel.image.layer is viewer.layers[0]
    assert np.asarray(viewer.layers[0].data[0]).max() == 250
    assert panel.segment.output.path.name == "two_1_labels.zarr"
    assert box.currentIndex() == 1
    choose(box, 0)
    qtbot.waitUntil(lambda: panel.image.image.series_number == 0, timeout=20_000)
    assert panel.segment.output.path.name == "two_labels.zarr"


def test_labels_follow_series(viewer, panel, qtbot, two_images):
    open_in(panel, two_images, qtbot)
    metadata = {KEY: panel.image.image, STORE: None}
    labels = viewer.add_labels(np.ones((300, 300), np.uint8), metadata=metadata)
    choose(panel.image.series, 1)
    qtbot.waitUntil(lambda: panel.image.image.series_number == 1, timeout=20_000)
    assert not labels.visible
    choose(panel.image.series, 0)
    qtbot.waitUntil(lambda: panel.image.image.series_number == 0, timeout=20_000)
    assert labels.visible
    assert viewer.layers.index(labels) > viewer.layers.index(panel.image.layer)


def test_series_that_cannot_be_opened_changes_nothing(viewer, panel, qtbot, two_images):
    open_in(panel, two_images, qtbot)
    two_images.write_bytes(b"just words, no image")
    notification_manager.records.clear()
    choose(panel.image.series, 1)
    records = notification_manager.records
    qtbot.waitUntil(lambda: bool(records), timeout=10_000)
    qtbot.waitUntil(lambda: panel.image.series.currentIndex() == 0, timeout=10_000)
    (record,) = records
    assert "two.tif" in record.message
    assert [layer.name for layer in viewer.layers] == ["two.tif"]
    assert "300 x 300" in panel.image.facts.text()


# planes


@pytest.fixture
def stack(tmp_path):
    """Return an RGB OME-TIFF of 2 times and 5 depths, each plane of its own value."""
    data = np.empty((2, 5, 300, 260, 3), np.uint8)
    for t in range(2):
        for z in range(5):
            data[t, z] = 100 * t + 20 * z
    path = tmp_path / "stack.ome.tif"
    metadata = {"axes": "TZYXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}  # fmt: skip
    tifffile.imwrite(path, data, metadata=metadata, photometric="rgb", tile=(128, 128))
    return path


def test_slice_boxes_and_napari_sliders_agree(viewer, panel, qtbot, stack):
    viewer.add_image(np.zeros((7, 2, 2, 20, 20)))  # its axes come before the stack's
    open_in(panel, stack, qtbot)
    form = panel.image.layout()
    qtbot.waitUntil(lambda: row_of(form, "Time point") is not None)
    z, t = row_of(form, "Z slice"), row_of(form, "Time point")

    def shown():
        return int(np.asarray(viewer.layers[-1]._slice.image.raw).max())

    assert panel.image.image.plane == {"t": t.value(), "z": z.value()}
    assert shown() == 100 * t.value() + 20 * z.value()
    z.setValue(4)
    t.setValue(1)
    assert panel.image.image.plane == {"t": 1, "z": 4}
    assert shown() == 180
    viewer.dims.set_current_step(viewer.dims.ndim - 3, 2)
    viewer.dims.set_current_step(viewer.dims.ndim - 4, 0)
    assert (t.value(), z.value()) == (0, 2)
    assert panel.image.image.plane == {"t": 0, "z": 2}


@pytest.mark.slow
def test_run_segments_shown_slice_and_records_it(
    viewer, panel, qtbot, stack, tmp_path, checkpoints, monkeypatch
):
    open_in(panel, stack, qtbot)
    part = panel.segment
    part.model.use(checkpoints[0])
    part.output.use(tmp_path / "labels.zarr")
    asked = answer_boxes(monkeypatch, "Other folder")
    for t, z in ((1, 3), (0, 4)):
        viewer.dims.set_current_step(1, z)
        viewer.dims.set_current_step(0, t)
        qtbot.wait(400)  # longer than the form waits before it plans
        qtbot.waitUntil(part.bar.start.isEnabled, timeout=30_000)
        part.bar.start.click()
        qtbot.waitUntil(
            lambda: part.bar.status.text().startswith("Done"), timeout=30_000
        )
        qtbot.waitUntil(part.bar.start.isEnabled, timeout=10_000)
    (text,) = asked  # labels of another plane are not overwritten
    assert "labels.zarr contains labels made with other settings" in text
    found = []
    for name, plane in (
        ("labels.zarr", {"t": 1, "z": 3}), ("labels_2.zarr", {"t": 0, "z": 4})
    ):  # fmt: skip
        with LabelStore.open(tmp_path / name) as store:
            (run,) = store.runs
            assert run.plane == plane
            found.append(store.confidence[0][:])
            settings = SegmentSettings(
                device="cpu", precision=run.precision, batch_size=run.batch_size,
                threads=free_threads(),
            )  # fmt: skip
        shown = open_image(stack).with_plane(**plane)
        pixels = shown.read(Roi(0, 0, 300, 260)).data
        single = image_from_array(pixels, rgb=True, name="one plane")
        with LabelStore.create(tmp_path / f"own_{name}", single, LEGEND) as store:
            list(segment(single, load_checkpoint(checkpoints[0]), store, settings))
            np.testing.assert_array_equal(found[-1], store.confidence[0][:])
    assert (found[0] != found[1]).any()
    assert sum(isinstance(x, Labels) for x in viewer.layers) == 2


# overviews


@pytest.fixture
def no_overviews(tmp_path, monkeypatch):
    """A tiled TIFF of one level, 6,144 pixels a side, white with a black square."""
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "large.tif"
    white, black = (np.full((512, 512), v, np.uint8) for v in (255, 0))
    tiles = (
        black if 4 <= y < 8 and 4 <= x < 8 else white
        for y in range(12)
        for x in range(12)
    )  # fmt: skip
    tifffile.imwrite(
        path, tiles, shape=(6144, 6144), dtype=np.uint8, tile=(512, 512),
        compression="zlib",
    )  # fmt: skip
    return path


@pytest.fixture
def filling(monkeypatch, tmp_path):
    """Return the gate before each write to the cache of the overviews.

    Two writes fill one of six bands.
    """
    gate = zarr_gate(monkeypatch, "__setitem__", str(tmp_path / "cache"))
    yield gate
    gate.open()


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", ["panel", pytest.param("napari", marks=pytest.mark.gui)]
)
def test_missing_pyramid_is_built_in_background(
    viewer, panel, qtbot, no_overviews, filling, way
):
    bar = panel.image.overviews
    filling.close(admitted=3)
    if way == "panel":
        open_in(panel, no_overviews, qtbot)
    else:
        viewer.open(str(no_overviews), plugin="napari-uhrseg")
    qtbot.waitUntil(lambda: bar.isVisible() and 0 < bar.bar.value() < 1000)
    assert "overviews" in bar.bar.text()
    coarsest = panel.image.layer.data[-1]
    assert set(np.unique(coarsest)) & {128}  # grey where nothing is known yet
    filling.open()
    qtbot.waitUntil(bar.isHidden, timeout=60_000)
    assert not panel.image.image.missing_levels
    assert coarsest[0, 0] == 255
    middle = coarsest.shape[0] // 2
    assert coarsest[middle, middle] == 0


@pytest.mark.slow
def test_stopped_pyramid_is_continued_on_reopening(
    viewer, panel, qtbot, no_overviews, filling
):
    bar = panel.image.overviews
    filling.close(admitted=5)
    open_in(panel, no_overviews, qtbot)
    qtbot.waitUntil(lambda: bar.bar.value() > 300, timeout=30_000)
    bar.stop.setFocus()
    qtbot.keyClick(bar.stop, Qt.Key.Key_Space)
    filling.open()
    qtbot.waitUntil(bar.isHidden, timeout=10_000)
    assert panel.image.image.missing_levels
    viewer.layers.clear()
    filling.close(admitted=1)
    open_in(panel, no_overviews, qtbot)
    qtbot.waitUntil(lambda: bar.isVisible() and bar.bar.value() > 0)
    assert bar.bar.value() > 250  # not from the beginning
    filling.open()
    qtbot.waitUntil(bar.isHidden, timeout=60_000)
    assert not panel.image.image.missing_levels


@pytest.mark.gui
@pytest.mark.slow
def test_pyramid_building_survives_closing_panel(
    viewer, panel, qtbot, no_overviews, filling
):
    filling.close(admitted=1)
    open_in(panel, no_overviews, qtbot)
    bar = panel.image.overviews
    qtbot.waitUntil(lambda: bar.isVisible() and bar.bar.value() > 0)
    image = panel.image.image
    viewer.window.remove_dock_widget(panel)
    filling.open()
    qtbot.waitUntil(lambda: not image.missing_levels, timeout=60_000)


def being_filled(panel, path, filling, qtbot):
    filling.close(admitted=1)
    open_in(panel, path, qtbot)
    bar = panel.image.overviews.bar
    qtbot.waitUntil(lambda: bar.isVisible() and bar.value() > 0, timeout=20_000)
    return build_of(panel.image.image)


@pytest.mark.gui
@pytest.mark.slow
def test_pyramid_building_survives_second_window(
    panel, qtbot, no_overviews, make_napari_viewer, filling
):
    build = being_filled(panel, no_overviews, filling, qtbot)
    image = panel.image.image
    make_napari_viewer(show=True)
    for _ in range(2):  # it is time to draw what was filled
        build.refresh_layers()
    filling.open()
    qtbot.waitUntil(lambda: not build.running, timeout=60_000)
    assert not image.missing_levels


@pytest.mark.slow
def test_removing_image_ends_pyramid_building(
    viewer, panel, qtbot, no_overviews, filling
):
    build = being_filled(panel, no_overviews, filling, qtbot)
    image = panel.image.image
    build.refresh_layers()
    viewer.layers.clear()
    build.refresh_layers()
    filling.open()
    qtbot.waitUntil(lambda: not build.running, timeout=20_000)
    assert image.missing_levels
