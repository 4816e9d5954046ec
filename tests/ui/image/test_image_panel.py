"""Tests of the Image panel: series, slices and pyramids."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout

from napari_uhrseg.io.open import open_image
from napari_uhrseg.ui.layers.label_layers import KEY, STORE

pytestmark = pytest.mark.gui


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


def test_series_that_cannot_be_opened_changes_nothing(
    viewer, panel, qtbot, two_images, monkeypatch
):
    from napari_uhrseg.errors import OpenError

    messages = []
    monkeypatch.setattr("napari_uhrseg.ui.workers.worker.show_error", messages.append)
    open_in(panel, two_images, qtbot)

    def fail(path, series=None):
        raise OpenError("It is damaged.", "Get it again.")

    monkeypatch.setattr("napari_uhrseg.ui.image.panel.open_image", fail)
    choose(panel.image.series, 1)
    qtbot.waitUntil(lambda: bool(messages), timeout=10_000)
    qtbot.waitUntil(lambda: panel.image.series.currentIndex() == 0, timeout=10_000)
    assert messages == ["It is damaged.\nGet it again."]
    assert [layer.name for layer in viewer.layers] == ["two.tif"]
    assert "300 x 300" in panel.image.facts.text()


# planes


@pytest.fixture
def stack(tmp_path):
    """An OME-TIFF of 2 times and 5 depths, each plane of its own value."""
    data = np.empty((2, 5, 300, 260), np.uint8)
    for t in range(2):
        for z in range(5):
            data[t, z] = 100 * t + 20 * z
    path = tmp_path / "stack.ome.tif"
    metadata = {"axes": "TZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}  # fmt: skip
    tifffile.imwrite(path, data, metadata=metadata, tile=(128, 128))
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
    from napari_uhrseg.io.labels.store import LabelStore

    open_in(panel, stack, qtbot)
    part = panel.segment
    part.model.use(checkpoints[0])
    part.output.use(tmp_path / "labels.zarr")
    asked = []
    monkeypatch.setattr(
        "napari_uhrseg.ui.segment.panel.ask_replace_labels",
        lambda parent, store, made_by: asked.append(Path(store).name) or "other",
    )
    seen = []
    read = type(open_image(stack)).read
    monkeypatch.setattr(
        "napari_uhrseg.io.image.image.Image.read",
        lambda image, roi, *args, **kwargs: (
            seen.append(int((out := read(image, roi, *args, **kwargs)).data.max()))
            or out
        ),
    )
    for t, z in ((1, 3), (0, 4)):
        viewer.dims.set_current_step(1, z)
        viewer.dims.set_current_step(0, t)
        qtbot.wait(400)  # longer than the form waits before it plans
        qtbot.waitUntil(part.bar.start.isEnabled, timeout=30_000)
        seen.clear()
        part.bar.start.click()
        qtbot.waitUntil(
            lambda: part.bar.status.text().startswith("Done"), timeout=30_000
        )
        qtbot.waitUntil(part.bar.start.isEnabled, timeout=10_000)
        assert max(seen) == 100 * t + 20 * z
    assert asked == ["labels.zarr"]  # labels of another plane are not overwritten
    for name, plane in (
        ("labels.zarr", {"t": 1, "z": 3}), ("labels_2.zarr", {"t": 0, "z": 4})
    ):  # fmt: skip
        with LabelStore.open(tmp_path / name) as store:
            (run,) = store.runs
            assert run.plane == plane
    assert sum(isinstance(x, Labels) for x in viewer.layers) == 2


# overviews


@pytest.fixture
def no_overviews(tmp_path, monkeypatch):
    """A tiled TIFF of one level, 12,288 pixels a side, white with a black square."""
    monkeypatch.setenv("NAPARI_UHRSEG_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "large.tif"
    white, black = (np.full((512, 512), v, np.uint8) for v in (255, 0))
    tiles = (
        black if 8 <= y < 16 and 8 <= x < 16 else white
        for y in range(24)
        for x in range(24)
    )  # fmt: skip
    tifffile.imwrite(
        path, tiles, shape=(12_288, 12_288), dtype=np.uint8, tile=(512, 512),
        compression="zlib",
    )  # fmt: skip
    return path


@pytest.fixture
def slow_filling(monkeypatch):
    """Each step of filling takes a while, so that there is time to look and press."""
    import time

    from napari_uhrseg.io.image import pyramid_builder

    real = pyramid_builder.fill_levels

    def slow(image):
        for share in real(image):
            time.sleep(0.05)
            yield share

    monkeypatch.setattr(pyramid_builder, "fill_levels", slow)
    return monkeypatch


@pytest.mark.slow
@pytest.mark.parametrize("way", ["panel", "napari"])
def test_missing_pyramid_is_built_in_background(
    viewer, panel, qtbot, no_overviews, slow_filling, way
):
    bar = panel.image.overviews
    if way == "panel":
        open_in(panel, no_overviews, qtbot)
    else:
        viewer.open(str(no_overviews), plugin="napari-uhrseg")
    qtbot.waitUntil(lambda: bar.isVisible() and 0 < bar.bar.value() < 1000)
    assert "overviews" in bar.bar.text()
    coarsest = panel.image.layer.data[-1]
    assert set(np.unique(coarsest)) & {128}  # grey where nothing is known yet
    qtbot.waitUntil(bar.isHidden, timeout=60_000)
    assert not panel.image.image.missing_levels
    assert coarsest[0, 0] == 255
    middle = coarsest.shape[0] // 2
    assert coarsest[middle, middle] == 0


@pytest.mark.slow
def test_stopped_pyramid_is_continued_on_reopening(
    viewer, panel, qtbot, no_overviews, slow_filling
):
    bar = panel.image.overviews
    open_in(panel, no_overviews, qtbot)
    qtbot.waitUntil(lambda: bar.bar.value() > 300, timeout=30_000)
    bar.stop.setFocus()
    qtbot.keyClick(bar.stop, Qt.Key.Key_Space)
    qtbot.waitUntil(bar.isHidden, timeout=10_000)
    assert panel.image.image.missing_levels
    viewer.layers.clear()
    open_in(panel, no_overviews, qtbot)
    qtbot.waitUntil(lambda: bar.isVisible() and bar.bar.value() > 0)
    assert bar.bar.value() > 250  # not from the beginning
    qtbot.waitUntil(bar.isHidden, timeout=60_000)
    assert not panel.image.image.missing_levels


@pytest.mark.slow
def test_pyramid_building_survives_closing_panel(
    viewer, panel, qtbot, no_overviews, slow_filling
):
    open_in(panel, no_overviews, qtbot)
    bar = panel.image.overviews
    qtbot.waitUntil(lambda: bar.isVisible() and bar.bar.value() > 0)
    image = panel.image.image
    viewer.window.remove_dock_widget(panel)
    qtbot.waitUntil(lambda: not image.missing_levels, timeout=60_000)


@pytest.fixture
def held_filling(monkeypatch):
    """Block the filling of the pyramid until this event is set."""
    from napari_uhrseg.io.image import pyramid_builder

    real, released = pyramid_builder.fill_levels, Event()

    def slow(image):
        for share in real(image):
            yield share
            if share > 0.01:  # seen in the bar
                released.wait(20)

    monkeypatch.setattr(pyramid_builder, "fill_levels", slow)
    return released


def being_filled(panel, path, qtbot):
    from napari_uhrseg.ui.layers import pyramid_progress

    open_in(panel, path, qtbot)
    bar = panel.image.overviews.bar
    qtbot.waitUntil(lambda: bar.isVisible() and bar.value() > 0, timeout=20_000)
    return pyramid_progress.build_of(panel.image.image)


@pytest.mark.slow
def test_pyramid_building_survives_second_window(
    panel, qtbot, no_overviews, make_napari_viewer, held_filling
):
    filling, image = being_filled(panel, no_overviews, qtbot), panel.image.image
    make_napari_viewer(show=True)
    for _ in range(2):  # it is time to draw what was filled
        filling.refresh_layers()
    held_filling.set()
    qtbot.waitUntil(lambda: not filling.running, timeout=60_000)
    assert not image.missing_levels


@pytest.mark.slow
def test_removing_image_ends_pyramid_building(
    viewer, panel, qtbot, no_overviews, held_filling
):
    filling, image = being_filled(panel, no_overviews, qtbot), panel.image.image
    filling.refresh_layers()
    viewer.layers.clear()
    filling.refresh_layers()
    held_filling.set()
    qtbot.waitUntil(lambda: not filling.running, timeout=20_000)
    assert image.missing_levels
