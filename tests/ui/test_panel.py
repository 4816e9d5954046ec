"""Tests of the panel with a small network."""

from datetime import datetime

import numpy as np
import pytest
from napari.layers import Labels
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QThreadPool

from helpers.gate import label_gate
from helpers.gated_network import FORWARD
from helpers.message_boxes import answer_boxes
from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.engine.inference.window_runner import PREVIEW_INTERVAL_S
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.registry import REGISTRY
from napari_uhrseg.ui.layers.label_layers import STORE
from napari_uhrseg.ui.segment.worker import plan


def labels_in(viewer):
    return [layer for layer in viewer.layers if isinstance(layer, Labels)]


@pytest.mark.gui
@pytest.mark.slow
def test_segment_writes_labels_and_shows_classes(viewer, ready, qtbot, tmp_path):
    assert "windows" in ready.segment.plan.text()
    ready.segment.bar.start.click()
    assert wait_for_end(ready, qtbot).startswith("Done")
    (layer,) = labels_in(viewer)
    assert layer.multiscale
    assert tuple(layer.scale) == (0.5, 0.5)
    with LabelStore.open(tmp_path / "labels.zarr", write=True) as store:  # lock is free
        assert (np.asarray(store.prediction[0][:]) > 0).all()
        assert np.array_equal(layer.data[0][:], store.prediction[0][:])
        top = store.prediction[-1][:]  # brought in step with the next refresh
        qtbot.waitUntil(lambda: np.array_equal(np.asarray(layer.data[-1]), top))
        shares = store.area_shares()
    items = [ready.segment.legend.topLevelItem(i) for i in range(2)]
    assert [i.text(0) for i in items] == ["dark", "light"]
    assert float(items[0].text(1).strip("<≈% ")) == pytest.approx(
        100 * shares[1], abs=0.1
    )
    assert layer.colormap.color_dict[1][3] == 1
    items[0].setCheckState(0, Qt.CheckState.Unchecked)  # hides the class
    assert layer.colormap.color_dict[1][3] == 0
    assert layer.colormap.color_dict[2][3] == 1


@pytest.mark.slow
def test_small_image_gets_single_level_labels(
    viewer, panel, checkpoints, qtbot, tmp_path
):
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
    viewer.add_image(noise, rgb=True)
    panel.segment.model.use(checkpoints[0])
    panel.segment.output.use(tmp_path / "small.zarr")
    wait_for_plan(panel, qtbot)
    panel.segment.bar.start.click()
    assert wait_for_end(panel, qtbot).startswith("Done")
    (layer,) = labels_in(viewer)
    assert not layer.editable
    assert (np.asarray(layer.data) > 0).all()


@pytest.mark.slow
def test_run_pauses_continues_cancels_and_resumes(viewer, ready, qtbot):
    FORWARD.delay = 0.15
    bar = ready.segment.bar
    bar.start.click()
    qtbot.waitUntil(lambda: bar.bar.value() > 0, timeout=30_000)
    assert not ready.segment.form.isEnabled()
    bar.pause.click()
    qtbot.waitUntil(lambda: bar.status.text() == "Paused.")
    before = bar.bar.value()
    qtbot.wait(400)
    assert bar.bar.value() == before
    bar.pause.click()
    qtbot.waitUntil(lambda: bar.bar.value() > before, timeout=10_000)
    bar.cancel.click()
    assert wait_for_end(ready, qtbot).startswith("Cancelled")
    assert ready.segment.form.isEnabled()
    FORWARD.open()
    bar.start.click()
    assert wait_for_end(ready, qtbot).startswith("Done")
    assert len(labels_in(viewer)) == 1


@pytest.mark.slow
def test_block_written_during_pause_is_shown_and_counted(
    viewer, ready, qtbot, monkeypatch
):
    part, bar = ready.segment, ready.segment.bar
    request = part.form.request(ready.image.image, ready.image.layer)
    batch = plan(request).run.batch_size
    disk = label_gate(monkeypatch, "labels/prediction")
    disk.close()
    FORWARD.close(admitted=batch)
    FORWARD.delay = 2 * PREVIEW_INTERVAL_S  # a preview is due after the first batch
    bar.start.click()
    qtbot.waitUntil(disk.reached.is_set, timeout=30_000)
    bar.pause.click()
    FORWARD.open()
    try:
        qtbot.waitUntil(lambda: bar.status.text() == "Paused.")
        (layer,) = labels_in(viewer)
        assert not np.any(layer._slice.image.raw)
    finally:
        disk.open()
    qtbot.waitUntil(lambda: np.any(layer._slice.image.raw), timeout=10_000)
    first = part.legend.topLevelItem(0)
    qtbot.waitUntil(lambda: first.text(1).endswith("%"), timeout=10_000)
    assert bar.status.text() == "Paused."
    bar.cancel.click()
    wait_for_end(ready, qtbot)


@pytest.mark.slow
@pytest.mark.gui
def test_closing_dock_ends_run_and_unlocks_store(viewer, ready, qtbot, tmp_path):
    FORWARD.delay = 0.15
    ready.segment.bar.start.click()
    qtbot.waitUntil(lambda: bool(labels_in(viewer)), timeout=30_000)
    viewer.window.remove_dock_widget(ready)
    assert QThreadPool.globalInstance().waitForDone(600_000)
    LabelStore.open(tmp_path / "labels.zarr", write=True).close()


@pytest.mark.slow
@pytest.mark.gui
def test_new_panel_is_narrow_and_gives_reasons(panel, qtbot):
    assert panel.minimumSizeHint().height() < 400
    assert panel.minimumWidth() <= 340
    bar = panel.segment.bar
    qtbot.waitUntil(lambda: "image" in bar.status.text())
    assert not bar.start.isEnabled()
    assert "Open an image" in bar.start.toolTip()
    assert "no run" in bar.pause.toolTip()


def test_model_has_description_and_published_results_in_tooltip(panel):
    box = panel.segment.model.model
    assert box.count() == len(REGISTRY)
    for row in range(box.count()):
        box.setCurrentIndex(row)
        entry = REGISTRY[box.currentData()]
        for tip in (box.toolTip(), box.itemData(row, Qt.ItemDataRole.ToolTipRole)):
            assert entry.sentence in tip
            assert entry.published in tip


@pytest.mark.slow
def test_labels_of_another_checkpoint_raise_question(
    viewer, ready, checkpoints, qtbot, monkeypatch, tmp_path
):
    ready.segment.bar.start.click()
    wait_for_end(ready, qtbot)
    ready.segment.model.use(checkpoints[1])
    qtbot.waitUntil(lambda: ready.segment.model.path == checkpoints[1])
    for answer, count, other in (
        ("Cancel", 1, False), ("Other folder", 1, True), ("Replace", 2, True)
    ):  # fmt: skip
        asked = answer_boxes(monkeypatch, answer)
        ready.segment.output.use(tmp_path / "labels.zarr")
        wait_for_plan(ready, qtbot)
        ready.segment.bar.start.click()
        status = wait_for_end(ready, qtbot)
        (text,) = asked
        assert text.endswith("contains labels made with other settings: number 0.")
        assert status.startswith("Done") == (answer != "Cancel")
        assert (tmp_path / "labels_2.zarr").exists() == other
        with LabelStore.open(tmp_path / "labels.zarr") as store:
            assert len(store.runs) == count


@pytest.mark.slow
def test_empty_output_gives_temporary_labels(viewer, ready, qtbot):
    ready.segment.output.use(None)
    assert "No output folder" in ready.segment.output.note.text()
    wait_for_plan(ready, qtbot)
    ready.segment.bar.start.click()
    assert wait_for_end(ready, qtbot).startswith("Done")
    (layer,) = labels_in(viewer)
    store = layer.metadata["uhrseg_store"]
    assert store.temporary
    assert store.path.exists()
    ready.segment.bar.start.click()  # continues in the same store
    wait_for_end(ready, qtbot)
    assert labels_in(viewer) == [layer]


def test_bad_checkpoint_is_reported_once(panel, qtbot, tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no checkpoint at all")
    before = len(notification_manager.records)
    panel.segment.model.use(bad)
    qtbot.waitUntil(lambda: len(notification_manager.records) > before, timeout=30_000)
    qtbot.wait(100)
    (record,) = notification_manager.records[before:]
    assert "bad.safetensors" in record.message


def test_any_image_layer_can_be_chosen(viewer, panel, qtbot):
    viewer.add_image(np.zeros((300, 200), np.uint16), name="mine")
    qtbot.waitUntil(lambda: panel.image.image is not None)
    assert "200 x 300 pixels, uint16" in panel.image.facts.text()
    viewer.layers.clear()
    assert panel.image.image is None
    assert not panel.image.box.isEnabled()


@pytest.mark.slow
def test_new_run_hides_labels_of_earlier_run(viewer, ready, qtbot, tmp_path):
    for name in ("one", "two"):
        ready.segment.output.use(tmp_path / f"{name}.zarr")
        wait_for_plan(ready, qtbot)
        ready.segment.bar.start.click()
        wait_for_end(ready, qtbot)
    first, second = labels_in(viewer)
    assert not first.visible
    assert second.visible
    created = datetime.fromisoformat(second.metadata[STORE].runs[-1].created)
    time = created.astimezone().strftime("%H:%M")
    assert second.name.startswith("Labels: ")
    assert f"number 0, {time}" in second.name
    wanted = second.name.replace("Labels", "Confidence")
    qtbot.waitUntil(lambda: wanted in viewer.layers, timeout=5_000)


@pytest.mark.slow
def test_region_list_follows_camera_and_layers(viewer, ready):
    where = ready.segment.form.where
    where.setCurrentIndex(where.findData("view"))
    viewer.scene.camera.zoom = 30
    viewer.scene.camera.center = (300, 75)
    region = where.region(ready.image.layer)
    assert region.center == pytest.approx((600, 150), abs=2)
    viewer.add_points([[1, 1]])
    assert where.currentText() == "Current view"
    box = np.array([[10, 10], [10, 50], [40, 50], [40, 10]])
    shapes = viewer.add_shapes([box], shape_type="rectangle", name="here")
    assert where.itemText(2) == "Shape in here"
    where.setCurrentIndex(2)
    region = where.region(ready.image.layer)
    assert (region.height, region.width) == (60, 80)
    viewer.layers.remove(shapes)
    assert where.count() == 2
    assert where.currentData() == "whole"


def test_invalid_output_url_is_reported_once(ready):
    ready.segment.output.use("foo://bucket/labels.zarr")
    for button in (
        ready.correct.correct,
        ready.finetune.new_model.labels_button,
    ):
        before = len(notification_manager.records)
        button.click()
        (record,) = notification_manager.records[before:]
        assert "foo://bucket" in record.message
        assert not hasattr(record, "exception")  # would offer a traceback
