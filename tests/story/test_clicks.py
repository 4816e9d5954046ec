"""The clicks of two jobs, from a file to its result, at two sizes of the window.

Each click is made on a widget that must be visible in the window. A file dialog counts
as two clicks: the file and the button that confirms it. The table in docs/clicks.md has
the numbers of this test.
"""

import csv

import numpy as np
import pytest
import rasterio
import tifffile
from qtpy.QtCore import QPoint, QRect, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog
from rasterio.transform import from_origin

from helpers.corrections import dark_checkpoint
from helpers.message_boxes import answer_boxes
from helpers.wait import wait_for_end
from helpers.window_story import WindowUser

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
    pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)], ids=str),
]

LEFT = Qt.MouseButton.LeftButton
ABOUT = "Aperio Image Library v11 |AppMag = 20|MPP = 0.5"
DIALOG = 2  # clicks: a file, and the button that confirms it


class ClickingUser(WindowUser):
    """User who only clicks; ``clicks`` are counted."""

    def __init__(self, viewer, panel, qtbot, monkeypatch):
        super().__init__(viewer, panel, qtbot)
        self.clicks = 0
        self._monkeypatch = monkeypatch

    def click(self, widget, at=None):
        """Click a widget, which the window must show as a whole at this point."""
        self.until(widget.isEnabled)
        window = self.panel.window()
        at = widget.rect().center() if at is None else at
        self.until(lambda: widget.visibleRegion().contains(at))
        assert QRect(QPoint(0, 0), window.size()).contains(widget.mapTo(window, at))
        self.clicks += 1
        QTest.mouseClick(widget, LEFT, pos=at)

    def step(self, title):
        """Click a tab."""
        tabs = self.panel.tabs
        bar = tabs.tabBar()
        self.click(bar, bar.tabRect(tabs.titles.index(title)).center())
        assert tabs.shown == title

    def entry(self, button, title):
        """Click a button, and an entry of its menu."""

        def choose():
            menu = button.menu()
            (action,) = [a for a in menu.actions() if a.text() == title]
            self.clicks += 1
            QTest.mouseClick(menu, LEFT, pos=menu.actionGeometry(action).center())

        QTimer.singleShot(200, choose)
        self.click(button)

    def choose_item(self, box, text):
        """Click a combo box, and an entry of its list."""
        self.click(box)
        view = box.view()
        self.until(view.isVisible)
        # Qt takes an earlier click for the second half of a double click
        self.qtbot.wait(QApplication.doubleClickInterval() + 100)
        place = view.visualRect(box.model().index(box.findText(text), 0))
        self.clicks += 1
        QTest.mouseClick(view.viewport(), LEFT, pos=place.center())
        self.until(lambda: box.currentText() == text)

    def answer(self, dialog, found):
        """Let a file dialog return an answer, which counts as its clicks."""

        def shown(*_args, **_options):
            self.clicks += DIALOG
            return found, ""

        self._monkeypatch.setattr(QFileDialog, dialog, shown)

    def open_and_segment(self, path, checkpoint):
        """Open a file, choose a checkpoint, and segment to the end."""
        panel = self.panel
        self.answer("getOpenFileNames", [str(path)])
        self.entry(panel.image.open, "&File…")
        self.until(lambda: panel.image.image is not None)
        self.step("Segment")
        self.answer("getOpenFileName", str(checkpoint))
        self.click(panel.segment.model.browse)
        self.until(lambda: panel.segment.model.path == checkpoint)
        self.until(lambda: panel.segment.plan.text().startswith("Plan:"))
        self.click(panel.segment.bar.start)
        self.until(lambda: panel.segment.view is not None)
        assert wait_for_end(panel, self.qtbot).startswith("Done")


@pytest.fixture
def user(open_window, qtbot, monkeypatch, size):
    """Return a user of a window of this size, before any click."""
    viewer, panel = open_window()
    viewer.window.resize(*size)
    panel.show_step("Image")
    return ClickingUser(viewer, panel, qtbot, monkeypatch)


def pixels():
    """Return (96, 128, 3) uint8 noise."""
    return np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)


def test_slide_to_areas(user, tmp_path, monkeypatch, take_picture, size):
    slide = tmp_path / "slide.svs"
    tifffile.imwrite(slide, pixels(), photometric="rgb", description=ABOUT,
                     tile=(64, 64), metadata=None)  # fmt: skip
    asked = answer_boxes(monkeypatch, "Segment")
    user.open_and_segment(slide, dark_checkpoint(tmp_path).path)
    user.step("Results")
    areas = user.panel.areas
    user.until(lambda: areas.table.topLevelItemCount() > 0)
    table = tmp_path / "areas.csv"
    user.answer("getSaveFileName", str(table))
    user.click(areas.save)
    user.until(table.exists)
    user.until(lambda: len(table.read_text("utf-8")) > 0)
    take_picture(user.viewer, f"areas {size[0]}")
    rows = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    assert any("dark" in row.values() for row in rows)
    assert user.clicks + len(asked) == 13


def test_orthophoto_to_geopackage(user, tmp_path, monkeypatch, take_picture, size):
    scene = tmp_path / "scene.tif"
    with rasterio.open(
        scene, "w", driver="GTiff", height=96, width=128, count=3, dtype="uint8",
        crs="EPSG:32632", transform=from_origin(500_000, 5_300_000, 0.5, 0.5),
        photometric="RGB",
    ) as file:  # fmt: skip
        file.write(pixels().transpose(2, 0, 1))
    asked = answer_boxes(monkeypatch, "Segment")
    user.open_and_segment(scene, dark_checkpoint(tmp_path).path)
    user.step("Results")
    part = user.panel.export
    user.until(lambda: part.format.count() > 0)
    title = next(
        part.format.itemText(n)
        for n in range(part.format.count())
        if part.format.itemData(n) == "geopackage"
    )
    user.choose_item(part.format, title)
    user.click(part.start)
    user.until(lambda: "xported" in part.status.text())
    take_picture(user.viewer, f"geopackage {size[0]}")
    assert len(list(tmp_path.glob("*.gpkg"))) == 1
    assert user.clicks + len(asked) == 13
