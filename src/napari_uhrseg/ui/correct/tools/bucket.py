"""Bucket of napari: fill of the connected pixels of one class."""

from napari_uhrseg.ui.correct.tools.tool import Tool

TOOL = Tool(
    "Bucket",
    "F",
    "Give the connected pixels of one class another class.",
    "M9 3 L16 10 L9.5 16.5 L2.5 9.5 Z M9 3 L7 1.5 M2.8 9.8 L15.8 9.8 "
    "M18 13 C16.5 15.5 16.5 17 18 17 C19.5 17 19.5 15.5 18 13",
)
