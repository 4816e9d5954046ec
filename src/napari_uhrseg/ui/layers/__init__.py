"""napari layers of images and labels.

Holds the label layers, the viewport, and the paint region.

Must not import the panels.
"""

__all__ = ["label_layers", "paint_region", "pyramid_progress", "viewport"]
