"""Column of a narrow window that the panel shares with napari's lists of layers."""

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

NAPARI = ("layer controls", "layer list")  # napari's names of its docks
LEAST_CANVAS = 0.5  # share of the window's width below which a column is shared
CONTROLS = 348  # width of napari's controls of an image layer in pixels
BORDERS = 18  # width of the handles beside the canvas in pixels
SETTLED_MS = 100  # from a change of the window's size until its docks are moved
LEFT = Qt.DockWidgetArea.LeftDockWidgetArea


class SharedColumn(QObject):
    """Place of napari's docks: on the left, or as tabs beside the panel's dock.

    napari's docks and the panel leave less than half of a window of 1280 pixels to the
    canvas. In such a window they are tabs of one column. Docks that the user has moved
    are left alone.

    Parameters
    ----------
    window
        Main window of napari.
    dock
        Dock of the panel.
    """

    def __init__(self, window: QMainWindow, dock: QDockWidget) -> None:
        super().__init__(dock)
        self._moved: list[QDockWidget] = []
        self._width = CONTROLS  # width of napari's docks on the left
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLED_MS)
        self._timer.timeout.connect(self.fit)
        window.installEventFilter(self)
        self.fit()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is not None and event.type() == QEvent.Type.Resize:
            self._timer.start()
        return False

    def fit(self) -> None:
        """Share a column, or use two, as the width of the window allows."""
        on_left = [dock for dock in self._napari() if self._is_on_left(dock)]
        if on_left and not self._moved:
            self._width = max(CONTROLS, *(dock.width() for dock in on_left))
        used = self._width + max(self._dock.minimumWidth(), self._minimum) + BORDERS
        narrow = self._window.width() - used < LEAST_CANVAS * self._window.width()
        if self._dock.isFloating() or self._window.dockWidgetArea(self._dock) == LEFT:
            return
        if narrow and on_left and not self._moved:
            for dock in on_left:
                self._window.tabifyDockWidget(self._dock, dock)
            self._moved = on_left
            QTimer.singleShot(0, self._dock.raise_)  # once the tabs exist
        elif not narrow and self._moved:
            self.end()

    def end(self) -> None:
        """Put the docks back to the left that are still beside the panel."""
        moved, self._moved = self._moved, []
        beside = self._window.tabifiedDockWidgets(self._dock)
        back = [dock for dock in moved if dock in beside]
        for dock in back:
            self._window.addDockWidget(LEFT, dock)
            dock.show()
        if len(back) > 1:
            self._window.splitDockWidget(back[0], back[1], Qt.Orientation.Vertical)

    @property
    def _dock(self) -> QDockWidget:
        dock = self.parent()
        assert isinstance(dock, QDockWidget)
        return dock

    @property
    def _window(self) -> QMainWindow:
        window = self._dock.window()  # no reference: it would keep the window alive
        assert isinstance(window, QMainWindow)
        return window

    @property
    def _minimum(self) -> int:
        widget = self._dock.widget()
        return 0 if widget is None else widget.minimumWidth()

    def _napari(self) -> list[QDockWidget]:
        docks = self._window.findChildren(QDockWidget)
        return [dock for dock in docks if dock.objectName() in NAPARI]

    def _is_on_left(self, dock: QDockWidget) -> bool:
        shown = dock.isVisible() and not dock.isFloating()
        return shown and self._window.dockWidgetArea(dock) == LEFT


def share_column(panel: QWidget) -> SharedColumn | None:
    """Return the column of a docked panel; None if the panel is not docked."""
    window, dock = panel.window(), panel.parentWidget()
    if not (isinstance(window, QMainWindow) and isinstance(dock, QDockWidget)):
        return None
    return SharedColumn(window, dock)
