"""napari layers of images and labels.

The package contains the display of images, the label layers, the viewport, and the
paint region.

It must not import the panels.
"""

__all__ = [
    "fitted_view",
    "label_layers",
    "map_placement",
    "map_position",
    "paint_region",
    "picture",
    "pyramid_progress",
    "region_layer",
    "viewport",
]
