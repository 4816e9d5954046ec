"""Brush of napari."""

from napari_uhrseg.ui.correct.tools.tool import Tool

TOOL = Tool(
    "Brush",
    "P",
    "Paint with a disk; [ and ] change its size. Encircle a region with the right "
    "mouse button to fill it.",
    "M16.5 3.5 L9 11 M7 12.5 C4 12.5 6 16 2.5 16.5 C5 18.5 9.5 17.5 9 14.5 Z",
    mode="paint",
)
