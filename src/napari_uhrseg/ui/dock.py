"""Dock widgets of napari's menu entries, with one panel for each viewer."""

from contextlib import suppress
from functools import partial
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget, QWidget

from napari_uhrseg.ui.panel import Panel, plain_viewer
from napari_uhrseg.ui.shared_column import share_column


def docked_panel(viewer: Any) -> Panel | None:
    """Return the panel in the viewer's window, if there is one."""
    docked = viewer.window.dock_widgets.values()
    return next((widget for widget in docked if isinstance(widget, Panel)), None)


class SegmentDock(QWidget):
    """Panel of a viewer; a second call redirects to the existing panel.

    A second panel would not know the runs of the first, and both would use the whole
    memory budget.
    """

    step = "Segment"

    def __new__(cls, napari_viewer: Any) -> Any:
        viewer = plain_viewer(napari_viewer)
        there = docked_panel(viewer)
        if there is not None:
            return DockRedirect(viewer, there, cls.step)
        panel = Panel(viewer)
        panel.show_step(cls.step)
        QTimer.singleShot(0, partial(_share_column, panel))  # when it is docked
        return panel

    def __init__(self, napari_viewer: Any) -> None:
        """Name the parameter for napari, which passes its viewer; never called."""


def _share_column(panel: Panel) -> None:
    with suppress(RuntimeError):  # Qt has deleted the panel
        column = share_column(panel)
        if column is not None:
            panel.closed.connect(column.end)


class FineTuneDock(SegmentDock):
    """Panel that shows the tab Train, for the other menu entry."""

    step = "Train"


class DockRedirect(QWidget):
    """Widget that removes its own dock and shows a tab of the existing panel."""

    def __init__(self, viewer: Any, panel: Panel, step: str) -> None:
        super().__init__()
        self._viewer, self._panel, self._step = viewer, panel, step
        QTimer.singleShot(0, self._go)  # after napari has docked it

    def _go(self) -> None:
        if isinstance(self.parent(), QDockWidget):
            self._viewer.window.remove_dock_widget(self)
        dock = self._panel.parentWidget()
        if isinstance(dock, QDockWidget):
            dock.show()
            dock.raise_()
            self._panel.show_step(self._step)
        self.deleteLater()
