"""napari plugin: the only package that imports Qt and napari.

The package contains the plugin's entry points, the dock and the column that it shares
with napari's docks, the panel and the marks on its tabs, and the demo.

It must not import ``cli``.
"""

__all__ = ["demo"]
