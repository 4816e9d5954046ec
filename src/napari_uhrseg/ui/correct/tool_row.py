"""Row of buttons, one for each tool, and the keys of the tools on the canvas."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from qtpy.QtCore import QByteArray, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtSvg import QSvgRenderer
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QWidget

from napari_uhrseg.ui.correct.paint_area import PaintArea
from napari_uhrseg.ui.correct.tool_use import ToolUse
from napari_uhrseg.ui.correct.tools.registry import TOOLS
from napari_uhrseg.ui.correct.tools.tool import Tool
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.widgets.colours import MAIN_BUTTON
from napari_uhrseg.ui.workers.worker import Workers

SIDE = 30  # of a button in pixels
ICON = 20  # side of its icon
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20">'
    '<path d="{path}" fill="none" stroke="{color}" stroke-width="1.4" '
    'stroke-linecap="round" stroke-linejoin="round"/></svg>'
)


class ToolButton(QToolButton):
    """Button with the icon of a tool, in the colour of the text."""

    def __init__(self, tool: Tool) -> None:
        super().__init__()
        self._path = tool.icon
        self.setCheckable(True)
        self.setAutoRaise(True)
        self.setAccessibleName(tool.title)
        self.setToolTip(f"{tool.title} ({tool.key}): {tool.tip}")

    def sizeHint(self) -> QSize:
        return QSize(SIDE, SIDE)

    def minimumSizeHint(self) -> QSize:
        return QSize(SIDE, SIDE)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        color = self.palette().color(self.foregroundRole())
        if self.isChecked():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(MAIN_BUTTON))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), 3, 3)
            color = QColor("white")
        if not self.isEnabled():
            painter.setOpacity(0.4)
        picture = SVG.format(path=self._path, color=color.name())
        box = QRectF(0, 0, ICON, ICON)
        box.moveCenter(QRectF(self.rect()).center())
        QSvgRenderer(QByteArray(picture.encode())).render(painter, box)
        painter.end()


class ToolRow(QWidget):
    """Buttons of the tools; a pressed one shows the tool that the mouse uses."""

    wanted = Signal()  # a tool was chosen while the user does not correct
    status = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.use: ToolUse | None = None
        self._chosen = TOOLS[0]
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self.buttons: dict[str, ToolButton] = {}
        for tool in TOOLS:
            button = ToolButton(tool)
            button.clicked.connect(lambda _, tool=tool: self._pressed(tool))
            row.addWidget(button)
            self.buttons[tool.title] = button
        row.addStretch(1)

    def attach(
        self,
        viewer: Any,
        view: LabelsView,
        area: PaintArea,
        workers: Workers,
        keys: Mapping[str, Callable[[], None]],
    ) -> None:
        """Use the tools on a paint area, with the tool that was used last.

        Parameters
        ----------
        viewer
            napari viewer.
        view
            Labels that are corrected.
        area
            Paint area over them.
        workers
            Workers of the panel.
        keys
            Further keys and their functions.
        """
        self.use = use = ToolUse(viewer, view, area, workers)
        use.status.connect(self.status)
        use.choose(self._chosen)
        self._show(self._chosen)
        use.changed.connect(self._show)
        bound = {
            **{tool.key: partial(use.choose, tool) for tool in TOOLS},
            "[": partial(use.resize, -1),
            "]": partial(use.resize, 1),
            "Escape": use.cancel,
            **keys,
        }
        for key, act in bound.items():
            area.layer.bind_key(key, lambda _, act=act: act(), overwrite=True)

    def detach(self) -> None:
        """Leave the paint area."""
        if self.use is not None:
            self.use.stop()
            self.use = None
        self._show(None)

    def _pressed(self, tool: Tool) -> None:
        self._chosen = tool
        if self.use is not None:
            self.use.choose(tool)
        else:
            self._show(None)
            self.wanted.emit()

    def _show(self, tool: Tool | None) -> None:
        """Show which tool is used, and remember it for the next correction."""
        for title, button in self.buttons.items():
            button.setChecked(tool is not None and title == tool.title)
        if tool is not None:
            self._chosen = tool
