"""Painting with the mouse on a store that napari alone could not paint on."""

import threading

import numpy as np
import pytest
from napari import Viewer
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from helpers.canvas import (
    CLASSES,
    ModelMouse,
    Mouse,
    look_at,
    make_image,
    make_store,
    predict,
)
from helpers.write_queue import drain
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi
from napari_uhrseg.ui.correct.paint_area import PaintArea
from napari_uhrseg.ui.correct.write_queue import WriteQueue
from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image

SHAPE = (6000, 7000)


@pytest.fixture
def viewer(viewer):
    if isinstance(viewer, Viewer):
        viewer.window.resize(1000, 800)
    return viewer


@pytest.fixture(scope="module")
def image():
    return make_image(*SHAPE)


class Bench:
    """What the tests hold of a view being corrected."""

    def __init__(self, viewer, image, store, qtbot):
        self.viewer, self.store, self.qtbot = viewer, store, qtbot
        (self.ground,) = add_image(viewer, image)
        self.view = LabelsView(viewer, store, image)
        self.corrections = Corrections.open(store)
        self.writer = WriteQueue()
        look_at(viewer, self.ground, 3000, 3000)
        self.area = PaintArea(viewer, self.view, self.corrections, self.writer)
        self.layer = self.area.layer
        mouse = Mouse if isinstance(viewer, Viewer) else ModelMouse
        self.mouse = mouse(viewer, self.ground)
        self.settle()

    def settle(self):
        """Until the area lies where one looks, and all strokes are written."""
        self.qtbot.wait(120)
        self.qtbot.waitUntil(lambda: not self.layer.stroking, timeout=10_000)
        drain(self.writer, self.qtbot.waitUntil)
        self.qtbot.wait(30)

    def paint(self, class_id, *points, mode="paint", size=21):
        self.layer.mode, self.layer.brush_size = mode, size
        self.layer.selected_label = class_id
        self.mouse.drag(*points)
        self.settle()

    def corrected(self, roi):
        return np.asarray(self.store.correction[0][roi.slices])

    def seen(self, y, x):
        """The classes that the two label layers show at a level-0 pixel."""
        world = np.array([y, x]) * self.ground.scale[-2:]
        values = []
        for layer in (self.view.layer, self.layer):
            value = layer.get_value(tuple(world), world=True)
            value = value[1] if isinstance(value, tuple) else value
            values.append(int(value or 0) if layer.visible else 0)
        return tuple(values)

    def close(self):
        if self.layer in self.viewer.layers:
            self.area.stop()
        self.writer.close()
        self.corrections.close()


@pytest.fixture
def bench(viewer, image, tmp_path, qtbot):
    with make_store(tmp_path / "labels.zarr", image) as store:
        made = Bench(viewer, image, store, qtbot)
        yield made
        made.close()


@pytest.mark.gui
@pytest.mark.slow
def test_a_stroke_of_the_mouse_is_in_the_store_and_in_view(bench):
    bench.paint(2, (3000, 3000), (3000, 3100))
    found = bench.corrected(Roi(2900, 2900, 200, 400))
    assert set(np.unique(found)) == {0, 2}
    assert (found[100 - 10 : 100 + 11, 100:201] == 2).all()
    assert bench.corrections.counts()[2] == (found == 2).sum()
    assert bench.seen(3000, 3050) == (0, 2)
    assert bench.seen(3100, 3050) == (0, 1)


@pytest.mark.slow
def test_painting_a_class_where_it_was_right_already_counts(bench):
    bench.paint(1, (3000, 3000), (3000, 3050))
    assert (bench.corrected(Roi(2995, 3000, 10, 50)) == 1).all()


def test_the_pyramid_shows_nothing_under_the_work_area_and_all_around_it(bench):
    hole = bench.area.area.roi
    assert hole.contains(Roi(2800, 2800, 400, 400))
    level = bench.view.pyramid.levels[0]
    top, left = max(0, hole.y - 5), max(0, hole.x - 5)
    shown = level[top : hole.y + 5, left : hole.x + 5]
    inside = np.zeros(shown.shape, bool)
    inside[hole.y - top :, hole.x - left :] = True
    assert (shown[inside] == 0).all()
    assert (shown[~inside] == 1).all()


@pytest.mark.gui
@pytest.mark.slow
def test_the_area_follows_the_view_and_strokes_stay(bench):
    bench.paint(2, (3000, 3000), (3000, 3020))
    before = bench.area.area
    look_at(bench.viewer, bench.ground, 500, 6500)
    bench.settle()
    assert bench.area.area != before
    assert bench.layer.mode == "paint"
    assert bench.seen(500, 6500) == (0, 1)
    bench.paint(3, (500, 6500), (520, 6500))
    look_at(bench.viewer, bench.ground, 3000, 3000)
    bench.settle()
    assert bench.seen(3000, 3010) == (0, 2)
    assert (bench.corrected(Roi(500, 6495, 20, 10)) == 3).all()


@pytest.mark.slow
@pytest.mark.parametrize("zoom", [1 / 3, 1 / 5])
def test_zoomed_out_a_pixel_of_the_brush_is_a_square_in_its_place(bench, zoom):
    said = []
    bench.area.moved.connect(said.append)
    look_at(bench.viewer, bench.ground, 3000, 3000, zoom)
    bench.settle()
    step = 2**bench.area.area.level
    assert step > 1
    assert f"{step} x {step}" in said[-1]
    bench.paint(2, (3000, 3000), size=1)
    found = np.argwhere(bench.corrected(Roi(2900, 2900, 200, 200)) == 2) + 2900
    assert len(found) == step**2
    low, high = found.min(0), found.max(0)
    assert (low % step == 0).all()
    assert (high - low == step - 1).all()
    assert (np.abs((low + high) / 2 - 3000) <= max(step, 1 / zoom)).all()


@pytest.mark.slow
def test_too_far_out_it_says_so_and_shows_all_labels(viewer, tmp_path, qtbot):
    image = make_image(40_000, 40_000)
    with LabelStore.create(tmp_path / "large.zarr", image, CLASSES) as store:
        predict(store, Roi(0, 0, 2048, 2048), 1)
        bench = Bench(viewer, image, store, qtbot)
        said = []
        bench.area.moved.connect(said.append)
        look_at(viewer, bench.ground, 20_000, 20_000, 1 / 60)
        bench.settle()
        assert "Zoom in" in said[-1]
        assert not bench.layer.visible
        assert bench.view.pyramid.masked_region is None
        look_at(viewer, bench.ground, 1000, 1000)
        bench.settle()
        assert bench.layer.visible
        assert bench.layer.mode == "paint"
        bench.close()


@pytest.mark.slow
def test_erasing_brings_the_prediction_back_at_once(bench):
    bench.paint(2, (3000, 3000), (3000, 3050))
    bench.layer.mode, bench.layer.brush_size = "erase", 41
    bench.mouse.drag((3000, 2990), (3000, 3080))
    assert bench.seen(3000, 3025) == (0, 1)  # before anything was written
    bench.settle()
    assert bench.corrections.counts() == {}
    assert bench.seen(3000, 3025) == (0, 1)


@pytest.mark.gui
@pytest.mark.slow
def test_undo_and_redo_are_ours_by_key_and_by_the_layer(bench, qtbot):
    bench.paint(2, (3000, 3000), (3000, 3050))
    bench.paint(3, (3000, 3000), (3000, 3050))
    window = bench.viewer.window._qt_window
    window.activateWindow()
    canvas = bench.viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    control, shift = (
        Qt.KeyboardModifier.ControlModifier,
        Qt.KeyboardModifier.ShiftModifier,
    )
    qtbot.waitUntil(canvas.isVisible)
    qtbot.keyClick(canvas, Qt.Key.Key_Z, control)
    qtbot.waitUntil(lambda: bench.seen(3000, 3025) == (0, 2), timeout=20_000)
    bench.settle()
    bench.layer.undo()
    bench.settle()
    assert bench.seen(3000, 3025) == (0, 1)
    assert bench.corrections.counts() == {}
    qtbot.keyClick(canvas, Qt.Key.Key_Z, control | shift)
    qtbot.waitUntil(lambda: bench.seen(3000, 3025) == (0, 2), timeout=20_000)


@pytest.mark.gui
@pytest.mark.slow
def test_number_keys_choose_classes_of_the_legend_and_0_the_eraser(bench, qtbot):
    told = []
    bench.area.chosen.connect(told.append)
    canvas = bench.viewer.window._qt_viewer.canvas.native
    bench.viewer.window._qt_window.activateWindow()
    canvas.setFocus()
    for number, wanted in ((2, 2), (3, 3), (1, 1)):
        qtbot.keyClick(canvas, getattr(Qt.Key, f"Key_{number}"))
        assert bench.layer.selected_label == wanted
        assert bench.layer.mode == "paint"
    assert told == [2, 3, 1]
    qtbot.keyClick(canvas, Qt.Key.Key_9)  # there is no ninth class
    assert bench.layer.selected_label == 1
    qtbot.keyClick(canvas, Qt.Key.Key_0)
    assert bench.layer.mode == "erase"


@pytest.mark.slow
def test_the_picker_takes_the_class_under_the_mouse(bench):
    bench.paint(3, (3000, 3000), (3000, 3020))
    bench.layer.selected_label = 2
    bench.layer.mode = "pick"
    bench.mouse.click((3000, 3010))
    assert bench.layer.selected_label == 3


@pytest.mark.slow
def test_fill_covers_what_it_filled_and_says_that_it_stopped_at_the_border(bench):
    told = notification_manager.records
    told.clear()
    bench.paint(2, (2950, 2950), (2950, 3050), (3050, 3050), (3050, 2950), (2950, 2950),
                size=9)  # fmt: skip
    bench.paint(3, (3000, 3000), mode="fill")
    assert not told
    assert (bench.corrected(Roi(2970, 2970, 60, 60)) == 3).all()
    bench.paint(3, (3000, 3000), mode="fill")  # right already: meant all the same
    assert not told
    for _ in range(2):
        bench.paint(1 + bench.layer.selected_label % 3, (2800, 2800), mode="fill")
    assert len(told) == 1
    hole = bench.area.area.roi
    assert (bench.corrected(Roi(hole.y, hole.x, 50, 50)) != 0).all()
    assert (bench.corrected(Roi(hole.bottom, hole.x, 50, 50)) == 0).all()


def begin_slow_fill(bench, class_id):
    """Click with the bucket while the writer is busy; the fill waits for it."""
    bench.layer.mode, bench.layer.selected_label = "fill", class_id
    free = threading.Event()
    bench.writer.submit(free.wait)
    bench.mouse.click((3000, 3000))
    assert bench.layer.stroking
    return free


def test_fill_leaves_pixels_that_were_painted_meanwhile(bench):
    free = begin_slow_fill(bench, 3)
    bench.mouse.click((2900, 2900))  # in the same region: one fill
    bench.layer.mode, bench.layer.selected_label = "paint", 2
    bench.mouse.drag((3000, 3000), (3000, 3030))
    free.set()
    bench.settle()
    bench.settle()
    assert (bench.corrected(Roi(2995, 3000, 10, 30)) == 2).all()
    assert (bench.corrected(Roi(2900, 2900, 50, 50)) == 3).all()
    assert not bench.layer.stroking


def test_fill_is_discarded_when_painting_ends(bench):
    free = begin_slow_fill(bench, 3)
    bench.area.stop()
    free.set()
    bench.settle()
    assert not bench.corrections.counts()


@pytest.mark.gui
@pytest.mark.slow
def test_a_polygon_confirms_and_corrects(bench):
    bench.layer.mode, bench.layer.selected_label = "polygon", 1
    for point in ((2900, 2900), (2900, 3100), (3100, 3100)):
        bench.mouse.click(point)
    bench.mouse.move(3100, 2900)
    bench.mouse.double_click(3100, 3100)
    bench.settle()
    found = bench.corrected(Roi(2850, 2850, 300, 300))
    assert (found == 1).sum() == pytest.approx(200 * 200 / 2, rel=0.05)
    assert found[60, 200] == 1


def test_what_a_run_writes_appears_but_not_over_corrections(bench):
    bench.paint(2, (3000, 3000), (3000, 3050))
    predict(bench.store, Roi(2048, 2048, 1024, 1024), 3)
    bench.view.refresh()
    bench.qtbot.waitUntil(lambda: bench.seen(2900, 2900) == (0, 3), timeout=5_000)
    assert bench.seen(3000, 3025) == (0, 2)


@pytest.mark.slow
def test_a_stroke_is_not_disturbed_by_what_a_run_writes(bench):
    layer = bench.layer
    layer.mode, layer.selected_label, layer.brush_size = "paint", 2, 11
    mouse, store = bench.mouse, bench.store

    class Midway:
        """Points of a drag; at the third one the run has written."""

        def __iter__(self):
            yield (3000, 2900)
            yield (3000, 2950)
            predict(store, Roi(2048, 2048, 1024, 1024), 3)
            bench.view.refresh()
            yield (3000, 3050)

    real = mouse.at

    def slowly(y, x):
        bench.qtbot.wait(100)
        return real(y, x)

    mouse.at = slowly
    mouse.drag(*Midway())
    mouse.at = real
    bench.settle()
    bench.qtbot.wait(300)
    bench.settle()
    assert (bench.corrected(Roi(2998, 2900, 5, 150)) == 2).all()
    assert bench.seen(3000, 3040) == (0, 2)
    assert bench.seen(2900, 2900) == (0, 3)


@pytest.mark.gui
@pytest.mark.slow
def test_a_merged_view_of_both_layers_has_no_border(bench):
    """The work area shows what the pyramid would: same place, same colours."""
    bench.layer.mode = "pan_zoom"  # the brush draws a circle where the mouse is
    picture = bench.viewer.screenshot(canvas_only=True, flash=False)
    bench.area.stop()
    bench.qtbot.wait(100)
    alone = bench.viewer.screenshot(canvas_only=True, flash=False)
    assert np.abs(picture.astype(int) - alone).max() <= 2


@pytest.mark.slow
def test_ended_while_reading_it_leaves_no_hole(bench):
    bench.area.refresh()
    bench.area.stop()
    bench.settle()
    assert bench.view.pyramid.masked_region is None
    assert bench.view.pyramid.levels[0][3000, 3000] == 1


@pytest.mark.slow
def test_corrections_alone(bench):
    bench.paint(2, (3000, 3000), (3000, 3050))
    bench.view.show_only_corrections(True)
    bench.area.refresh()
    bench.settle()
    assert bench.seen(3000, 3025) == (0, 2)
    assert bench.seen(2900, 2900) == (0, 0)
    assert bench.view.pyramid.levels[0][0, 0] == 0
    bench.view.show_only_corrections(False)
    bench.settle()
    assert bench.seen(2900, 2900) == (0, 1)


@pytest.mark.slow
def test_a_stroke_that_cannot_be_written_is_told_and_not_shown(bench):
    told = notification_manager.records
    told.clear()
    bench.corrections.close()
    bench.paint(2, (3000, 3000), (3000, 3050))
    bench.settle()
    assert len(told) == 1
    assert bench.seen(3000, 3025) == (0, 1)


def test_keys_choose_classes_beyond_nine_and_step_over_missing_ids(bench):
    legend = Legend(
        tuple(LabelClass(3 * n, f"class {n}", "#808080") for n in range(1, 13))
    )
    bench.view.set_legend(legend)
    keymap = bench.layer.keymap

    def press(key):
        keymap[coerce_keybinding(key)](bench.layer)

    press("1")
    assert bench.layer.selected_label == 3
    press("2")
    assert bench.layer.selected_label == 36
    bench.layer.selected_label -= 1  # napari's key -
    assert bench.layer.selected_label == 33
    bench.layer.selected_label += 1  # napari's key =
    assert bench.layer.selected_label == 36
