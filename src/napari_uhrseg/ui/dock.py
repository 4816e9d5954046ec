"""What napari's menu entries make: one panel a window, whichever of them was chosen."""

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget, QWidget

from napari_uhrseg.ui.panel import Panel, plain_viewer


def docked_panel(viewer: Any) -> Panel | None:
    """The panel in the viewer's window, if there is one."""
    docked = viewer.window.dock_widgets.values()
    return next((widget for widget in docked if isinstance(widget, Panel)), None)


class SegmentDock(QWidget):
    """The panel; where there is one already, what leads to it.

    A second one would know nothing of the first one's runs, and run its own beside
    them, each with all of the memory budget.
    """

    title = "Segment"

    def __new__(cls, napari_viewer: Any) -> QWidget:
        viewer = plain_viewer(napari_viewer)
        there = docked_panel(viewer)
        if there is not None:
            return DockRedirect(viewer, there, cls.title)
        panel = Panel(viewer)
        panel.unfold(cls.title)
        return panel

    def __init__(self, napari_viewer: Any) -> None:
        """Never called, but read: by this name napari knows to give its viewer."""


class FineTuneDock(SegmentDock):
    """The same from the other menu entry."""

    title = "Fine-tune"


class DockRedirect(QWidget):
    """Leads to a part of the panel, and takes the dock that it was given away."""

    def __init__(self, viewer: Any, panel: Panel, title: str) -> None:
        super().__init__()
        self._viewer, self._panel, self._title = viewer, panel, title
        QTimer.singleShot(0, self._go)  # napari docks it first

    def _go(self) -> None:
        if isinstance(self.parent(), QDockWidget):
            self._viewer.window.remove_dock_widget(self)
        dock = self._panel.parentWidget()
        if isinstance(dock, QDockWidget):
            dock.show()
            dock.raise_()
            self._panel.turn_to(self._title)
        self.deleteLater()
