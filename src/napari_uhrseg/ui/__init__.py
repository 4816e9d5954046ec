"""napari plugin: the only package that imports Qt and napari.

Holds the plugin's entry points, the dock, the panel, and the demo.

Must not import ``cli``.
"""

__all__ = ["demo"]
