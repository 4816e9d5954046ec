"""Eraser of napari, which restores the predictions."""

from napari_uhrseg.ui.correct.tools.tool import Tool

TOOL = Tool(
    "Eraser",
    "E",
    "Remove corrections with a disk; [ and ] change its size.",
    "M8.5 16 L3 10.5 L10.5 3 L17 9.5 L10.5 16 Z M6.5 7 L13 13.5 M8 16.5 L17 16.5",
    mode="erase",
)
