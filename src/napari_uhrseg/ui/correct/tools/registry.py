"""List of the tools, in the order of their buttons."""

from importlib import import_module

from napari_uhrseg.ui.correct.tools.tool import Tool

MODULES = (
    "brush",
    "edge_brush",
    "wand",
    "smart_fill",
    "outline",
    "polygon",
    "bucket",
    "eraser",
)
"""Modules of this package, each with a `TOOL`."""

TOOLS: tuple[Tool, ...] = tuple(
    import_module(f"napari_uhrseg.ui.correct.tools.{name}").TOOL for name in MODULES
)
