"""Steps of a user in a window with the panel: open, segment, correct, look."""

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt

from helpers.canvas import Mouse
from helpers.wait import wait_for_end, wait_for_plan
from helpers.write_queue import drain
from napari_uhrseg.types import LabelClass
from napari_uhrseg.ui.panel import Panel


def color_at(canvas: Any, viewer: Any, layer: Any, y: float, x: float) -> list[int]:
    """Return red, green and blue around a pixel of a layer.

    Parameters
    ----------
    canvas
        Screenshot of the canvas, (h, w, 3) uint8.
    viewer, layer
        Viewer with the canvas, and the layer.
    y, x
        Level-0 pixel of the layer.
    """
    at = Mouse(viewer, layer).at(y, x)
    part = canvas[at.y() - 4 : at.y() + 5, at.x() - 4 : at.x() + 5]
    return [int(value) for value in part.mean((0, 1))]


class WindowUser:
    """User of one window.

    Parameters
    ----------
    viewer, panel
        The window and its panel.
    qtbot
        Bot that waits.
    """

    def __init__(self, viewer: Any, panel: Panel, qtbot: Any) -> None:
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot

    def open(self, path: Path) -> Any:
        """Open a file as the button Open does; return the layer that shows it."""
        self.panel.image.open_paths([path])
        self.until(lambda: self.panel.image.image is not None)
        self.until(lambda: self.panel.image.image.path == path)
        return self.panel.image.layer

    def until(self, happened: Any) -> None:
        """Wait until a condition is true."""
        self.qtbot.waitUntil(happened)

    def segment(self) -> None:
        """Press Segment, and wait until the run is done."""
        self.panel.show_step("Segment")
        wait_for_plan(self.panel, self.qtbot)
        self.panel.segment.bar.start.click()
        self.until(lambda: self.panel.segment.view is not None)
        assert wait_for_end(self.panel, self.qtbot).startswith("Done")

    def correct(self) -> None:
        """Press Correct, and wait until the labels in view can be painted."""
        self.panel.show_step("Correct")
        part = self.panel.correct
        part.correct.click()
        self.until(lambda: part.area is not None and part.area.area is not None)
        self.until(lambda: part.area.layer.visible)

    def choose(self, name: str) -> LabelClass:
        """Choose the class with this name in the legend."""
        legend = self.panel.segment.legend
        (item,) = legend.findItems(name, Qt.MatchFlag.MatchExactly)
        legend.setCurrentItem(item)
        return self.panel.segment.view.legend.named(name)

    def paint(self, *points: tuple[int, int], brush: int = 15) -> None:
        """Drag over pixels of the image, and wait until the stroke is written."""
        layer = self.panel.correct.area.layer
        layer.mode, layer.brush_size = "paint", brush
        Mouse(self.viewer, self.panel.image.layer).drag(*points)
        self.written()

    def written(self) -> None:
        """Wait until all changes of the corrections are written."""
        drain(self.panel.correct.writer, self.until)
        self.until(lambda: self.panel.correct.idle)

    def corrected(self) -> dict[str, str]:
        """Return the corrected pixels that the legend shows, by class name."""
        legend = self.panel.segment.legend
        rows = (legend.topLevelItem(i) for i in range(legend.topLevelItemCount()))
        return {row.text(0): row.text(2) for row in rows}
