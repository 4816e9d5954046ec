"""Layer of a tissue mask, which the user can paint."""

from typing import Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from napari.utils import DirectLabelColormap

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import BoolMask
from napari_uhrseg.types.tissue import mask_factor
from napari_uhrseg.ui.layers.label_layers import KEY, remove_later

NAME = "Tissue"
COLOR = "#ffc800"
OPACITY = 0.4


class TissueLayer:
    """Owner of the layer of a mask over an image.

    Parameters
    ----------
    viewer
        napari viewer.
    under
        Layer that shows the image.
    image
        The image.
    mask
        (h, w) bool: tissue.
    """

    def __init__(self, viewer: Any, under: Any, image: Image, mask: BoolMask) -> None:
        self._viewer = viewer
        factor = mask_factor(image.shape)
        pixel = np.asarray(under.scale)[-2:]
        self.layer = LabelsLayer(
            mask.astype(np.uint8),
            name=NAME,
            scale=pixel * factor,
            translate=np.asarray(under.translate)[-2:] + pixel * (factor - 1) / 2,
            affine=under.affine.affine_matrix[-3:, -3:],
            units=under.units[-2:],
            colormap=DirectLabelColormap(
                color_dict={None: "transparent", 0: "transparent", 1: COLOR}
            ),
            opacity=OPACITY,
            metadata={KEY: image},
        )
        self.layer.selected_label = 1
        viewer.add_layer(self.layer)

    @property
    def alive(self) -> bool:
        """True while the layer is in the viewer."""
        return self.layer in self._viewer.layers

    @property
    def mask(self) -> BoolMask:
        """The mask as the user has painted it, (h, w) bool."""
        return np.asarray(self.layer.data) > 0

    def put(self, mask: BoolMask) -> None:
        """Show another mask, which replaces what was painted."""
        self.layer.data = mask.astype(np.uint8)

    def remove(self) -> None:
        """Remove the layer after the current event."""
        remove_later(self._viewer, self.layer)
