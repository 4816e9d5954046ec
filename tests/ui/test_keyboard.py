"""Tests of the panel and its dialogs with the keyboard alone."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QFileDialog,
    QLabel,
    QMessageBox,
    QWidget,
)

from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.segment.checkpoints.model_picker import CardDialog
from napari_uhrseg.ui.segment.output import OutputPicker
from napari_uhrseg.ui.widgets.colours import ORANGE
from napari_uhrseg.ui.widgets.dialogs import ask_replace_labels
from napari_uhrseg.ui.widgets.layout import CollapsibleSection

pytestmark = pytest.mark.gui

ORDER = {
    "Image": ["Steps", "Help", "Image", "Open…", "Project…"],
    "Segment": [
        "Steps", "Help", "Model", "Checkpoint", "Browse…", "Model card…", "Region",
        "Output", "Choose output", "More", "Device", "Memory budget", "Overlap",
        "Precision", "Channels", "Scale", "Value range", "Skip empty", "Cluster",
        "Detect tissue…", "Segment", "Legend",
    ],
    "Correct": ["Steps", "Help", "Correct", "Legend", "More"],
    "Train": ["Steps", "Help", "New labels…", "Start from",
              "Choose the checkpoint to start from", "Train on", "Length", "More",
              "Preserve previous predictions"],
    "Results": ["Steps", "Help", "Areas, objects and changes", "Areas of", "Areas",
                "Format", "Target", "Choose target", "More", "Majority",
                "Smallest object", "Largest hole"],
}  # fmt: skip
LEGEND = Legend((LabelClass(1, "dark", "#203040"), LabelClass(2, "light", "#f0e0d0")))


@pytest.fixture
def viewer(cleared_viewer):
    return cleared_viewer


def name_of(widget: QWidget) -> str:
    name = widget.accessibleName() or getattr(widget, "text", str)()
    return name.replace("&", "")


def type_in(line: QWidget, text: str, qtbot) -> None:
    """Replace the line's text as a person does."""
    line.selectAll()
    qtbot.keyClick(line, Qt.Key.Key_Delete)
    qtbot.keyClicks(line, text)
    qtbot.keyClick(line, Qt.Key.Key_Return)


@pytest.fixture
def expanded(viewer, ready, qtbot):
    """The panel as it is before a run, with everything to be seen."""
    for section in ready.findChildren(CollapsibleSection):
        section.heading.setChecked(True)
    ready.segment.legend.set_legend(LEGEND)
    ready.show_step("Segment")
    window = viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window)
    return ready


def check_tab_order(expanded, qtbot):
    for step, order in ORDER.items():
        expanded.show_step(step)
        QApplication.processEvents()  # Qt shows the list of classes later
        expanded.tabs.tabBar().setFocus()
        visited = []
        while len(visited) < 60:
            widget = QApplication.focusWidget()
            if not expanded.isAncestorOf(widget):
                break
            visited.append(name_of(widget))
            qtbot.keyClick(widget, Qt.Key.Key_Tab)
        assert visited == order
    expanded.show_step("Segment")


def check_focus_outline(expanded):
    def framed(widget):
        picture = widget.grab().toImage()
        size = picture.width(), picture.height()
        points = ((x, y) for x in range(size[0]) for y in range(size[1]))
        return any(picture.pixelColor(*at).name() == ORANGE for at in points)

    segment = expanded.segment
    chain = [
        expanded.tabs.currentWidget().findChild(CollapsibleSection).heading,
        segment.model.model, segment.model.browse, segment.form.hardware.memory,
        segment.output.line,
    ]  # fmt: skip
    for widget in chain:
        sheet = widget.styleSheet()
        widget.setFocus()
        assert [framed(w) for w in chain] == [w is widget for w in chain]
        widget.clearFocus()
        assert widget.styleSheet() == sheet
    assert not any(framed(w) for w in chain)


def check_alt_letters(viewer, expanded):
    def letters(titles):
        return [m[1].lower() for t in titles if (m := re.search("&([^& ])", t))]

    menus = [a.text() for a in viewer.window._qt_window.menuBar().actions()]
    bar = expanded.segment.bar
    bar.paused(True)  # Continue beside Cancel
    ours = [b.text() for b in expanded.findChildren(QAbstractButton)]
    ours += [x.text() for x in expanded.findChildren(QLabel) if x.buddy()]
    used = letters(ours)
    assert len(used) == len(set(used)) > 10
    assert not set(used) & set(letters(menus))


def check_buttons(expanded, qtbot):
    bar = expanded.segment.bar
    bar.running("a run")
    section = expanded.tabs.currentWidget().findChild(CollapsibleSection)
    for key in (Qt.Key.Key_Space, Qt.Key.Key_Return):
        for button, signal in (
            (bar.pause, bar.pauseToggled), (bar.cancel, bar.cancelled)
        ):  # fmt: skip
            with qtbot.waitSignal(signal):
                qtbot.keyClick(button, key)
        hidden = expanded.segment.form.more.isVisible()
        qtbot.keyClick(section.heading, key)
        assert expanded.segment.form.more.isVisible() != hidden
    bar.idle("")
    expanded.tabs.tabBar().setFocus()
    qtbot.keyClick(expanded.tabs.tabBar(), Qt.Key.Key_Right)
    assert expanded.tabs.shown == "Correct"
    assert expanded.correct.isVisible()


def check_class_list(expanded, qtbot):
    legend = expanded.segment.legend
    legend.setFocus()
    qtbot.keyClick(legend, Qt.Key.Key_Down)
    with qtbot.waitSignal(legend.visibilityChanged) as emitted:
        qtbot.keyClick(legend, Qt.Key.Key_Space)
    assert emitted.args == [2, False]


def check_names(expanded):
    for widget in expanded.findChildren(QWidget):
        inner = widget.objectName().startswith("qt_")
        reachable = widget.focusPolicy() & Qt.FocusPolicy.TabFocus
        here = widget.window() is expanded.window()  # not a list that drops down
        if reachable and here and not inner and not widget.isHidden():
            assert name_of(widget), widget
            heading = isinstance(widget.parent(), CollapsibleSection)
            assert widget.toolTip() or heading, name_of(widget)


@pytest.mark.slow
def test_panel_works_with_keyboard(viewer, expanded, qtbot):
    check_tab_order(expanded, qtbot)
    check_names(expanded)
    check_focus_outline(expanded)
    check_class_list(expanded, qtbot)
    check_alt_letters(viewer, expanded)
    check_buttons(expanded, qtbot)


# dialogs


def test_card_dialog_and_output_line_work_with_keyboard(ready, qtbot):
    ready.segment.model.show_card.setFocus()
    qtbot.keyClick(ready.segment.model.show_card, Qt.Key.Key_Return)
    (dialog,) = ready.findChildren(CardDialog)
    qtbot.waitUntil(dialog.isVisible)
    assert "dark" in dialog.text.toPlainText()
    qtbot.keyClick(dialog.text, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not ready.findChildren(CardDialog))
    line = ready.segment.output.line
    line.setFocus()
    with qtbot.assertNotEmitted(ready.segment.form.changed):
        line.editingFinished.emit()  # left without an edit
    with qtbot.waitSignal(ready.segment.form.changed):
        type_in(line, "x", qtbot)


@pytest.mark.parametrize(
    ("path", "key", "answer"),
    [
        ("labels.zarr", "Escape", None),
        ("labels.zarr", "Return", "other"),
        ("labels.zarr", "O", "other"),
        ("labels.zarr", "R", "replace"),
        (None, "K", "other"),  # temporary labels: keep both
        (None, "R", "replace"),
    ],
)
def test_replace_labels_dialog_works_with_keyboard(viewer, qtbot, path, key, answer):
    texts = []

    def press():
        """Press the key as soon as the dialog takes keys, however busy the machine."""
        boxes = QApplication.topLevelWidgets()
        boxes = [b for b in boxes if isinstance(b, QMessageBox) and b.isVisible()]
        if not boxes:
            return
        if not boxes[0].isActiveWindow():  # Qt ignores Alt letters there
            boxes[0].activateWindow()
            return
        timer.stop()
        texts.extend([boxes[0].text(), boxes[0].informativeText()])
        modifier = "AltModifier" if len(key) == 1 else "NoModifier"
        qtbot.keyClick(
            boxes[0],
            getattr(Qt.Key, f"Key_{key}"),
            getattr(Qt.KeyboardModifier, modifier),
        )

    timer = QTimer()
    timer.timeout.connect(press)
    timer.start(20)
    made_by = ("number 0", "number 1")
    assert ask_replace_labels(viewer.window._qt_window, path, made_by) == answer
    question, details = texts
    assert ("labels.zarr" in question) == (path is not None)
    assert "number 0, number 1" in question
    assert "None" not in question + details


def answer(monkeypatch, name, value):
    """Let a file dialog of Qt answer at once; returns what it was asked."""
    asked = []

    def dialog(*args, **kwargs):
        asked.append(args[1])
        return value

    monkeypatch.setattr(QFileDialog, name, dialog)
    return asked


@pytest.mark.slow
def test_open_dialog_opens_files_and_zarr_folder(
    viewer, panel, qtbot, monkeypatch, tmp_path
):
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in paths:
        tifffile.imwrite(path, np.zeros((200, 200, 3), np.uint8), photometric="rgb")
    asked = answer(monkeypatch, "getOpenFileNames", ([str(p) for p in paths], ""))
    files, folder = panel.image.open.menu().actions()[:2]
    files.trigger()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=20_000)
    assert asked == ["Open images"]
    assert {layer.name for layer in viewer.layers} == {"a.tif", "b.tif"}
    answer(monkeypatch, "getOpenFileNames", ([], ""))
    answer(monkeypatch, "getExistingDirectory", "")
    files.trigger()
    folder.trigger()
    qtbot.wait(200)
    assert len(viewer.layers) == 2
    path = tmp_path / "a.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=(90, 80), dtype="uint8", chunks=(90, 80))
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1, 1]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    answer(monkeypatch, "getExistingDirectory", str(path))
    panel.image.open.menu().actions()[1].trigger()
    qtbot.waitUntil(lambda: panel.image.image.path == path, timeout=20_000)


def test_browse_dialog_chooses_checkpoint(panel, checkpoints, qtbot, monkeypatch):
    answer(monkeypatch, "getOpenFileName", ("", ""))
    before = panel.segment.model.path
    qtbot.keyClick(panel.segment.model.browse, Qt.Key.Key_Return)
    assert panel.segment.model.path == before
    answer(monkeypatch, "getOpenFileName", (str(checkpoints[1]), ""))
    qtbot.keyClick(panel.segment.model.browse, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: panel.segment.model.path == checkpoints[1], timeout=30_000)
    assert panel.segment.model.model.currentData() == "plain"


@pytest.fixture
def output(qtbot):
    output = OutputPicker()
    qtbot.addWidget(output)
    return output


@pytest.mark.parametrize(
    ("typed", "path"),
    [("/out/mine", "/out/mine.zarr"), ("/out/v1.2.zarr", "/out/v1.2.zarr"),
     ("/out/v1.2", "/out/v1.2.zarr"), ("", "/before.zarr")],
)  # fmt: skip
def test_output_dialog_appends_zarr_suffix(output, monkeypatch, typed, path):
    output.use(Path("/before.zarr"))
    answer(monkeypatch, "getSaveFileName", (typed, ""))
    output.browse.menu().actions()[0].trigger()
    assert output.path == Path(path)


def test_output_dialog_chooses_existing_labels(output, monkeypatch, tmp_path):
    answer(monkeypatch, "getExistingDirectory", str(tmp_path))
    output.browse.menu().actions()[1].trigger()
    assert output.path == tmp_path
    assert "Labels exist here" in output.note.text()


# what is folded away


@pytest.mark.slow
def test_more_settings_reach_plan_and_run(ready, qtbot, tmp_path):
    part = ready.segment
    more = part.form.more.widgets
    before = part.plan.text()
    type_in(more["bands"], "2, 1, 0", qtbot)
    more["scale"].setValue(2)
    type_in(more["value_range"], "0, 200", qtbot)
    qtbot.waitUntil(
        lambda: part.bar.start.isEnabled() and part.plan.text() != before,
        timeout=30_000,
    )
    part.bar.start.click()
    qtbot.waitUntil(lambda: part.bar.status.text().startswith("Done"), timeout=30_000)
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        (run,) = store.runs
    assert (run.bands, run.scale, run.value_range) == ((2, 1, 0), 2, (0, 200))


@pytest.mark.slow
def test_invalid_setting_disables_segment_with_reason(ready, qtbot):
    bar = ready.segment.bar
    for name, text, said in (
        ("bands", "red", "Channels: 'red'"),
        ("bands", "7", "Bands"),
        ("value_range", "5", "Value range: '5'"),
    ):
        line = ready.segment.form.more.widgets[name]
        type_in(line, text, qtbot)
        qtbot.waitUntil(lambda said=said: said in bar.status.text(), timeout=10_000)
        assert not bar.start.isEnabled()
        assert said in bar.start.toolTip()
        type_in(line, "", qtbot)
        qtbot.waitUntil(bar.start.isEnabled, timeout=10_000)
