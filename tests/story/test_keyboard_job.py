"""A whole job with the keyboard alone: open, segment, confirm, measure, export."""

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

from helpers.corrections import dark_checkpoint
from helpers.wait import wait_for_end
from helpers.window_story import WindowUser

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
]

MOST = 80  # presses of Tab until each part of a tab was reached
Key = Qt.Key


class TypingUser(WindowUser):
    """User without a mouse."""

    def press(self, key, modifier=Qt.KeyboardModifier.NoModifier):
        """Press a key where the focus is."""
        QTest.keyClick(QApplication.focusWidget(), key, modifier)

    def go_to(self, name):
        """Press Tab until the part with this accessible name or text has the focus."""
        for _ in range(MOST):
            widget = QApplication.focusWidget()
            text = widget.accessibleName() or getattr(widget, "text", str)()
            if text.replace("&", "") == name:
                return
            self.press(Key.Key_Tab)
        raise AssertionError(f"the key Tab does not reach {name!r}")

    def step(self, title):
        """Choose a tab with the arrow keys."""
        self.go_to("Steps")
        for key in (*[Key.Key_Left] * 5, *[Key.Key_Right] * 5):
            if self.panel.tabs.tabText(self.panel.tabs.currentIndex()) == title:
                return
            self.press(key)
        raise AssertionError(f"the arrow keys do not reach the tab {title!r}")

    def choose_in_menu(self, name, title):
        """Open the menu of a button with the keyboard, and choose an entry."""

        def choose():
            menu = QApplication.activePopupWidget()
            for _ in menu.actions():
                QTest.keyClick(menu, Key.Key_Down)
                if menu.activeAction().text() == title:
                    break
            QTest.keyClick(menu, Key.Key_Return)

        self.go_to(name)
        QTimer.singleShot(200, choose)
        self.press(Key.Key_Space)


@pytest.fixture
def user(open_window, qtbot):
    """Return a user whose window has the focus of the keyboard."""
    viewer, panel = open_window()
    window = viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(lambda: QApplication.activeWindow() is window)
    panel.tabs.tabBar().setFocus()
    return TypingUser(viewer, panel, qtbot)


def test_image_is_segmented_and_exported_with_the_keyboard(
    user, tmp_path, monkeypatch, take_picture
):
    panel, pixels = user.panel, np.random.default_rng(0).integers(0, 255, (96, 128, 3))
    image, target = tmp_path / "image.tif", tmp_path / "out.tif"
    tifffile.imwrite(image, pixels.astype(np.uint8), photometric="rgb")
    checkpoint = dark_checkpoint(tmp_path).path
    answers = {
        "getOpenFileNames": ([str(image)], ""), "getOpenFileName": (str(checkpoint), "")
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(QFileDialog, name, lambda *_, answer=answer, **__: answer)

    user.step("Image")
    user.choose_in_menu("Open…", "&File…")
    user.until(lambda: panel.image.image is not None)

    user.step("Segment")
    user.go_to("Browse…")
    user.press(Key.Key_Space)
    user.until(lambda: panel.segment.model.path == checkpoint)
    user.until(panel.segment.bar.start.isEnabled)
    user.go_to("Segment")
    user.press(Key.Key_Return)
    user.until(lambda: panel.segment.view is not None)
    assert wait_for_end(panel, user.qtbot).startswith("Done")

    user.step("Correct")
    user.go_to("Correct")
    user.press(Key.Key_Space)
    user.until(panel.correct.confirm_view.isEnabled)
    user.go_to("Confirm view")
    user.press(Key.Key_Space)
    user.written()
    store = panel.segment.view.store
    user.until(lambda: bool(np.asarray(store.correction[0][:]).all()))

    user.step("Results")
    user.until(lambda: panel.areas.table.topLevelItemCount() > 0)
    user.until(lambda: panel.export.format.count() > 0)
    user.go_to("Target")
    panel.export.line.selectAll()
    QTest.keyClicks(QApplication.focusWidget(), str(target))
    user.go_to("Export")
    user.press(Key.Key_Space)
    user.until(target.exists)
    take_picture(user.viewer, "keyboard")
    labels = tifffile.imread(target)
    assert labels.shape == (96, 128)
    assert (labels == store.legend.named("dark").id).all()
