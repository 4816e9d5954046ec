"""Polygon of napari, filled when it is closed."""

from napari_uhrseg.ui.correct.tools.tool import Tool

TOOL = Tool(
    "Polygon",
    "G",
    "Click the corners, then double-click or press Enter to fill the polygon. The "
    "right mouse button removes a corner, Esc all.",
    "M4 16 L2.5 6 L10 2.5 L17.5 8 L14 17 Z",
    mode="polygon",
)
