"""Tests of the tabs: each fits its window, and marks and progress follow the work."""

import pytest
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QApplication, QDockWidget, QPushButton

from helpers.gated_network import FORWARD
from helpers.wait import wait_for_end
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.registry import REGISTRY
from napari_uhrseg.samples import data_dir
from napari_uhrseg.ui.dock import docked_panel
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.widgets.layout import is_main, reveal
from napari_uhrseg.ui.widgets.step_tabs import StepMark

STEPS = ("Image", "Segment", "Correct", "Train", "Results")
WIDTH, HEIGHT = 330, 700  # pixels that each step may need
WINDOW = 1280, 800
CANVAS = 0.6  # smallest share of the window's width
STRIP = 70  # pixels of the strip of a run, which may be shown too


def needed_height(panel) -> int:
    """Height of the tabs and of the shown page without scrolling."""
    page = panel.tabs.currentWidget().widget()
    return page.minimumSizeHint().height() + panel.tabs.tabBar().height()


@pytest.mark.gui
@pytest.mark.slow
def test_steps_fit_without_scrolling_and_have_one_main_button(viewer, panel, qtbot):
    window = viewer.window._qt_window
    add_image(viewer, open_image(data_dir() / "scene.tif"))
    qtbot.waitUntil(lambda: panel.segment.model.any_found, timeout=60_000)
    window.resizeDocks([panel.parentWidget()], [WIDTH], Qt.Orientation.Horizontal)
    assert panel.tabs.titles == STEPS
    for step in STEPS:
        panel.show_step(step)
        page = panel.tabs.currentWidget()
        qtbot.waitUntil(lambda page=page: page.widget().isVisible())
        assert page.widget().minimumSizeHint().width() <= WIDTH
        assert needed_height(panel) <= HEIGHT - STRIP, step
        main = [b for b in page.findChildren(QPushButton) if is_main(b)]
        assert len(main) == 1, step
    panel.show_step("Segment")
    for method in REGISTRY:
        panel.segment.model.model.setCurrentIndex(
            panel.segment.model.model.findData(method)
        )
        QApplication.processEvents()
        assert needed_height(panel) <= HEIGHT - STRIP, method


@pytest.mark.gui
@pytest.mark.slow
def test_canvas_keeps_most_of_small_window(viewer, qtbot):
    window = viewer.window._qt_window
    window.resize(*WINDOW)
    viewer.window.add_plugin_dock_widget("napari-uhrseg", "Segment")
    panel = docked_panel(viewer)

    def docks() -> list[QDockWidget]:
        beside = window.tabifiedDockWidgets(panel.parentWidget())
        return sorted(dock.objectName() for dock in beside)

    names = ["layer controls", "layer list"]
    try:
        qtbot.waitUntil(lambda: docks() == names)
        qtbot.waitUntil(panel.segment.isVisible)
        qtbot.waitUntil(
            lambda: window.centralWidget().width() >= CANVAS * window.width()
        )
        window.resize(1900, 800)  # two columns again
        qtbot.waitUntil(lambda: docks() == [])
        window.resize(*WINDOW)
        qtbot.waitUntil(lambda: docks() == names)
        dock = panel.parentWidget()
        viewer.window.remove_dock_widget(panel)
        areas = {
            found.objectName(): window.dockWidgetArea(found)
            for found in window.findChildren(QDockWidget)
        }
        left = Qt.DockWidgetArea.LeftDockWidgetArea
        assert [areas[name] for name in names] == [left, left]
        assert window.tabifiedDockWidgets(dock) == []
    finally:
        panel.stop()
        assert QThreadPool.globalInstance().waitForDone(600_000)


@pytest.mark.slow
def test_progress_of_run_is_visible_from_every_step(ready, qtbot):
    bar, tabs = ready.segment.bar, ready.tabs
    assert bar.strip.isHidden()
    assert tabs.mark("Image") is StepMark.DONE
    assert tabs.mark("Segment") is StepMark.NONE
    FORWARD.close()
    bar.start.click()
    qtbot.waitUntil(FORWARD.reached.is_set, timeout=30_000)
    assert tabs.mark("Segment") is StepMark.RUNNING
    for step in STEPS:
        ready.show_step(step)
        assert bar.strip.isVisible()
        assert bar.pause.isVisible()
        assert bar.cancel.isVisible()
    assert bar.strip.status.text() == "Segmenting noise: Running."
    assert ready.finetune.bar.strip.isHidden()
    FORWARD.open()
    assert wait_for_end(ready, qtbot).startswith("Done")
    assert bar.strip.isHidden()
    assert tabs.mark("Segment") is StepMark.DONE


def test_part_that_is_revealed_selects_its_step(panel):
    panel.show_step("Image")
    reveal(panel.finetune.rerun)
    assert panel.tabs.shown == "Train"
    reveal(panel.areas.table)
    assert panel.tabs.shown == "Results"


def test_classes_are_in_steps_that_need_them(ready):
    for step in ("Segment", "Correct", "Segment"):
        ready.show_step(step)
        assert ready.tabs.currentWidget().isAncestorOf(ready.segment.legend)
