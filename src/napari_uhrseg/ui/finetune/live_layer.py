"""Layer of the labels that a pixel classifier gives the view while the user paints."""

from typing import Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from superqt.utils import qthrottled

from napari_uhrseg.engine.events import LiveLabels, LiveView
from napari_uhrseg.types import Labels, Roi
from napari_uhrseg.ui.layers.label_layers import LabelsView, remove_later

NAME = "Live preview"
OPACITY = 0.35  # the image and the strokes stay visible
REDRAW_MS = 100  # least time between two redraws


class LiveLayer:
    """Owner of the layer, which lies over the image and below the labels of a view."""

    def __init__(self, viewer: Any, view: LabelsView) -> None:
        self._viewer, self._view = viewer, view
        self._roi = Roi(0, 0, 1, 1)  # in run pixels
        under = view.layer
        self.layer = LabelsLayer(
            np.zeros((1, 1), np.uint8),
            name=NAME,
            scale=np.asarray(under.scale)[-2:],
            affine=under.affine.affine_matrix[-3:, -3:],
            units=under.units[-2:],
            colormap=view.colormap(),
            features=under.features,
            opacity=OPACITY,
        )
        self.layer.editable = False
        layers = viewer.layers
        chosen = layers.selection.active
        layers.insert(layers.index(under), self.layer)
        layers.selection.active = chosen
        self._redraw = qthrottled(self._draw, timeout=REDRAW_MS)
        view.legendChanged.connect(self._legend_changed)

    def cover(self, view: LiveView) -> None:
        """Move the layer to a rectangle; labels in both rectangles stay."""
        if view.roi == self._roi and self.layer.data.size > 1:
            return
        data: Labels = np.zeros((view.roi.height, view.roi.width), np.uint8)
        common = view.roi.intersect(self._roi)
        if self.layer.data.size > 1 and common.area:
            here = common.shift(-view.roi.y, -view.roi.x).slices
            there = common.shift(-self._roi.y, -self._roi.x).slices
            data[here] = self.layer.data[there]
        self._roi, under, scale = view.roi, self._view.layer, view.scale
        pixel = np.asarray(under.scale)[-2:]
        origin = np.array([view.roi.y, view.roi.x]) * scale + (scale - 1) / 2
        self.layer.data = data
        self.layer.translate = np.asarray(under.translate)[-2:] + pixel * origin
        if not np.array_equal(self.layer.scale, pixel * scale):
            self.layer.scale = pixel * scale

    def put(self, part: LiveLabels) -> None:
        """Show labels of a part of the rectangle."""
        inside = part.roi.shift(-self._roi.y, -self._roi.x).slices
        self.layer.data[inside] = part.labels
        self._redraw()

    def remove(self, *, later: bool = False) -> None:
        """Remove the layer; ``later`` is that of `PaintArea.stop`."""
        self._redraw.cancel()
        self._view.legendChanged.disconnect(self._legend_changed)
        if later:
            remove_later(self._viewer, self.layer)
        elif self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)

    def _legend_changed(self) -> None:
        self.layer.colormap = self._view.colormap()
        self.layer.features = self._view.layer.features

    def _draw(self) -> None:
        self.layer.refresh(extent=False, thumbnail=False, highlight=False)
