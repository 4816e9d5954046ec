"""Tests of the tools that select regions, with a mouse on the canvas."""

import time
from itertools import takewhile

import numpy as np
import pytest
from napari import Viewer
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import Qt

from helpers.canvas import CLASSES, look_at, make_image, make_store
from helpers.tool_bench import (
    CENTRE,
    RADIUS,
    WAYS,
    ToolBench,
    circle,
    disk,
    disk_levels,
    iou,
)
from napari_uhrseg.engine.selection.wand import SIDE
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.ui.correct.tools.registry import TOOLS
from napari_uhrseg.ui.layers.picture import display_of

NAMES = [tool.title for tool in TOOLS if tool.selector is not None]


@pytest.fixture(scope="module")
def levels():
    return disk_levels()


@pytest.fixture
def viewer(viewer):
    if isinstance(viewer, Viewer):
        viewer.window.resize(700, 500)
    return viewer


@pytest.fixture
def bench(viewer, levels, tmp_path, qtbot):
    image = image_from_array(
        levels, name="disk", rgb=True, pixel_size=(0.5, 0.5), unit="metre"
    )
    with make_store(tmp_path / "labels.zarr", image) as store:
        made = ToolBench(viewer, store, image, qtbot)
        yield made
        made.close()


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "Smart fill" else [])
        for name in NAMES
    ],
)
def test_tool_writes_one_stroke_that_undo_reverts(bench, title):
    if title == "Smart fill":
        bench.zoom(2.5)  # a small view has its features soon
    bench.choose(title)
    bench.layer.brush_size = 40
    way = (
        WAYS[title] if title != "Smart fill" else [CENTRE, (CENTRE[0], CENTRE[1] + 60)]
    )
    bench.drag(*way)
    found = bench.corrected()
    assert iou(found, disk()) > 0.85
    assert np.asarray(bench.layer.data == 2).sum() == found.sum()
    corrections = bench.view.corrections
    assert corrections.undo() is not None
    assert not corrections.can_undo
    assert not bench.corrected().any()


def test_drag_previews_more_or_less_and_writes_at_the_end(bench):
    bench.choose("Wand")
    y, x = CENTRE
    bench.mouse.press(CENTRE, (y, x + 60))
    shown = (bench.layer.data == 2).sum()
    assert shown > 0
    assert not bench.corrected().any()
    bench.mouse.pull(y, x - 300)
    assert (bench.layer.data == 2).sum() < shown
    bench.mouse.pull(y, x + 500)
    assert (bench.layer.data == 2).sum() > disk().sum()
    bench.press("Escape")
    assert not (bench.layer.data == 2).any()
    bench.mouse.pull(y, x + 20)
    bench.mouse.release(y, x + 20)
    bench.settle()
    assert not bench.corrected().any()


@pytest.mark.parametrize("title", ["Wand", "Edge brush", "Outline"])
def test_tool_works_on_a_coarser_level_when_zoomed_out(bench, title):
    bench.zoom(0.4)
    bench.wait(lambda: bench.panel.area.area.level == 1)
    bench.choose(title)
    bench.layer.brush_size = 20  # of pixels twice as large
    bench.drag(*WAYS[title])
    found = bench.corrected()
    assert iou(found, disk()) > 0.8
    assert (found[::2, ::2] == found[1::2, 1::2]).all()


def test_region_is_bounded_in_an_image_of_ten_gigapixels(viewer, tmp_path, qtbot):
    image = make_image(100_000, 100_000)
    with LabelStore.create(tmp_path / "labels.zarr", image, CLASSES) as store:
        bench = ToolBench(viewer, store, image, qtbot)
        bench.zoom(0.25)
        bench.wait(lambda: bench.panel.area.area.level == 2)
        bench.choose("Wand", 3)
        bench.drag(CENTRE)
        (region,) = bench.view.corrections.corrected_regions()
        assert region.pixels[3] > 1_000_000
        assert max(region.roi.height, region.roi.width) <= (SIDE + 64) * 4
        bench.close()


def test_preparation_is_kept_for_views_seen_before(bench):
    bench.choose("Wand")
    look_at(bench.viewer, bench.ground, 400, 400)
    bench.wait(lambda: not bench.use.ready)
    bench.wait(lambda: bench.use.ready)
    bench.zoom(1)
    bench.qtbot.wait(250)  # the view is at rest
    assert bench.use.ready
    bench.drag(CENTRE)
    assert iou(bench.corrected(), disk()) > 0.85


def test_view_is_prepared_although_its_labels_are_read_late(bench):
    bench.choose("Wand")
    bench.panel.writer.submit(time.sleep, 0.6)  # as on a slow disk
    look_at(bench.viewer, bench.ground, 300, 2350, zoom=2)
    bench.qtbot.wait(300)
    assert not bench.use.ready
    bench.wait(lambda: bench.use.ready)
    bench.drag((300, 2350))
    assert bench.corrected()[250:350, 2300:2400].mean() > 0.9


def test_zoom_that_changes_the_level_needs_a_new_preparation(bench):
    bench.choose("Outline")
    bench.zoom(0.4)
    bench.wait(lambda: bench.panel.area.area.level == 1)
    bench.mouse.drag(*WAYS["Outline"])  # at once
    bench.settle()
    found = bench.corrected()
    assert not found.any() or iou(found, disk()) > 0.85


def test_view_is_prepared_again_after_a_change_of_contrast(bench):
    bench.choose("Wand")
    display = display_of(bench.view.image)
    display.limits = tuple((0.0, 100.0) for _ in display.limits)  # grey is white
    display.changed.emit()
    bench.wait(lambda: not bench.use.ready)
    bench.wait(lambda: bench.use.ready)


@pytest.mark.slow
def test_wand_does_not_wait_for_smart_fill(bench):
    bench.panel.tools.buttons["Smart fill"].click()
    bench.choose("Wand")
    bench.drag(CENTRE)
    assert iou(bench.corrected(), disk()) > 0.85


def test_keys_choose_tools_and_buttons_show_them(bench):
    buttons = bench.panel.tools.buttons
    for tool in TOOLS:
        bench.press(tool.key)
        assert bench.use.tool is tool
        assert [t for t, b in buttons.items() if b.isChecked()] == [tool.title]
        assert str(bench.layer.mode) == tool.mode
        assert tool.key in buttons[tool.title].toolTip()


def test_modes_of_napari_leave_the_tool_and_moving_keeps_it(bench):
    bench.choose("Wand")
    bench.layer.mode = "pan_zoom"  # as while Space is pressed
    bench.layer.mode = "fill"
    assert bench.use.tool.title == "Wand"
    assert bench.layer.cursor == "cross"
    bench.layer.mode = "paint"
    assert bench.use.tool.title == "Brush"
    bench.drag(CENTRE)
    assert 0 < bench.corrected().sum() < 1000
    bench.layer.mode = "pick"
    assert bench.use.tool is None


def test_bucket_of_napari_fills_again_after_the_wand(bench):
    bench.choose("Wand")
    bench.choose("Bucket")
    bench.drag(CENTRE)
    assert bench.corrected().sum() > 2 * disk().sum()


def test_brackets_change_the_size_or_the_sensitivity(bench):
    bench.choose("Brush")
    bench.layer.brush_size = 40
    bench.press("]")
    assert bench.layer.brush_size == 44
    bench.press("[")
    bench.press("[")
    assert bench.layer.brush_size == 36
    bench.choose("Edge brush")
    bench.press("[")
    assert bench.layer.brush_size == 33
    bench.choose("Wand")
    for _ in range(9):
        bench.press("]")
    assert "sensitivity 745%" in bench.panel.status.text()
    bench.drag(CENTRE)
    assert bench.corrected().sum() > 2 * disk().sum()


def test_tools_keep_labels_that_napari_preserves(bench):
    bench.choose("Wand")
    bench.layer.preserve_labels = True
    bench.drag(CENTRE)
    assert not bench.corrected().any()


def test_wand_with_the_background_erases_corrections(bench):
    bench.choose("Wand")
    bench.drag(CENTRE)
    bench.layer.swap_selected_and_background_labels()  # napari's key X
    bench.drag(CENTRE)
    assert not bench.corrected().any()


def test_tool_starts_the_correction_and_is_kept_for_the_next(bench):
    bench.choose("Edge brush")
    bench.panel.correct.setChecked(False)
    buttons = bench.panel.tools.buttons
    assert not any(b.isChecked() for b in buttons.values())
    bench.panel.correct.setChecked(True)
    assert bench.use.tool.title == "Edge brush"
    bench.panel.correct.setChecked(False)
    buttons["Wand"].click()
    assert bench.panel.correct.isChecked()
    assert bench.use.tool.title == "Wand"


def test_view_is_confirmed_and_the_next_region_shown_by_keys(bench):
    bench.press("C")
    bench.wait(lambda: bench.panel.idle)
    assert bench.corrected(1).sum() > 100_000
    bench.press("N")
    bench.wait(lambda: "uncertain region" in bench.panel.status.text().lower())


def test_keys_do_not_clash_with_those_of_napari():
    """A key of napari has its own meaning, and every tool has another key."""
    actions = {
        "P": "napari:activate_labels_paint_mode",
        "E": "napari:activate_labels_erase_mode",
        "F": "napari:activate_labels_fill_mode",
        "[": "napari:decrease_brush_size",
        "]": "napari:increase_brush_size",
    }
    of_viewer_and_labels = takewhile(
        lambda item: "points" not in item[0], default_shortcuts.items()
    )
    taken = {str(k): action for action, keys in of_viewer_and_labels for k in keys}
    keys = [*(tool.key for tool in TOOLS), "[", "]", "C", "N"]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert taken.get(key) == actions.get(key), key


@pytest.mark.gui
@pytest.mark.slow
def test_every_tool_in_a_window_with_its_key_and_undo_of_all(bench, qtbot):
    """Use each tool with real events, and the polygon also when zoomed out."""
    canvas = bench.viewer.window._qt_viewer.canvas.native
    bench.panel.choose(2)
    polygon = [tool for tool in TOOLS if tool.mode == "polygon"]
    for zoom, level, tools in ((1, 0, TOOLS), (0.4, 1, polygon)):
        bench.zoom(zoom)
        bench.wait(lambda level=level: bench.panel.area.area.level == level)
        for tool in tools:
            qtbot.keyClick(canvas, tool.key.lower())
            assert bench.use.tool is tool
            bench.wait(lambda: bench.use.ready)
            bench.layer.brush_size = 40 >> level
            if tool.title == "Polygon":
                for point in circle(RADIUS)[:-1]:
                    bench.mouse.click(point)
                qtbot.keyClick(canvas, Qt.Key.Key_Return)
            else:
                bench.drag(*WAYS.get(tool.title, WAYS["Edge brush"]))
            bench.settle()
            found = bench.corrected()
            if tool.title == "Eraser":  # after the bucket
                assert not found[CENTRE[0], CENTRE[1] + 62]
            elif tool.title == "Bucket":
                assert found.sum() > 10 * disk().sum()
            else:
                assert iou(found, disk()) > 0.75, (tool.title, zoom)
            if tool.title != "Bucket":
                undo_all(bench)


def undo_all(bench):
    """Undo until there is nothing more, as Ctrl+Z does."""
    while bench.view.corrections.can_undo:
        bench.layer.undo()
        bench.settle()
    assert not bench.corrected().any()
    bench.panel.area.refresh()
    bench.wait(lambda: (bench.layer.data == 1).all())
