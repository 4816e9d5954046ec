"""napari plugin: the only package that imports Qt and napari.

The package contains the plugin's entry points, the dock, the panel, and the demo.

It must not import ``cli``.
"""

__all__ = ["demo"]
