"""Shapes layer of regions, above the labels that they belong to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Shapes

from napari_uhrseg.types import Polygon

OUTLINE = "#e08a00"


def region_layer(
    polygons: Sequence[Polygon],
    under: Any,
    name: str,
    colors: str | list[str] = OUTLINE,
    **options: Any,
) -> Shapes:
    """Return a layer with the outlines of polygons.

    Parameters
    ----------
    polygons
        Polygons in level-0 pixels; their holes are not drawn.
    under
        Labels layer, whose position the layer has.
    name
        Name of the layer.
    colors
        Colour of all outlines, or of each.
    **options
        Further options of the napari layer.
    """
    return Shapes(
        # napari's pixels have their centres at whole numbers
        [np.asarray(polygon.corners) - 0.5 for polygon in polygons],
        shape_type="polygon",
        face_color="transparent",
        edge_color=colors,
        edge_width=max(1.0, max(under.data.shape[-2:]) / 500),
        name=name,
        scale=under.scale[-2:],
        translate=under.translate[-2:],
        affine=under.affine.affine_matrix[-3:, -3:],
        units=under.units[-2:],
        **options,
    )
