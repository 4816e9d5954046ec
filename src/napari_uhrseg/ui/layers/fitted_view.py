"""View of all layers, which is fitted again when the canvas changes its size."""

from typing import Any

import numpy as np
from qtpy.QtCore import QObject

from napari_uhrseg.ui.layers.label_layers import KEY


class FittedView(QObject):
    """Keep the layers in view while the canvas changes its size.

    napari fits the first image to the canvas of that moment. Columns beside the canvas
    may become wider just after that, which would cut the image at its sides. The view
    is fitted again as long as nobody has moved it and an image of the plugin is shown.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._fitted: tuple[float, ...] | None = None  # centre and zoom
        viewer.events.reset_view.connect(self._reset)
        viewer.canvas.events.size.connect(self._resized)

    def stop(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.events.reset_view.disconnect(self._reset)
        self._viewer.canvas.events.size.disconnect(self._resized)

    def _reset(self) -> None:
        """Remember the view if it shows all layers, not a selection of them."""
        viewer = self._viewer
        shown = list(viewer.dims.displayed)
        middle = np.mean(viewer.layers.extent.world[:, shown], axis=0)
        center = viewer.scene.camera.center[-len(shown) :]
        of_all = np.allclose(center, middle, atol=1e-6 + np.abs(middle).max() * 1e-9)
        self._fitted = self._view() if of_all else None

    def _resized(self) -> None:
        ours = any(KEY in layer.metadata for layer in self._viewer.layers)
        if ours and self._fitted == self._view():
            self._viewer.reset_view()

    def _view(self) -> tuple[float, ...]:
        camera = self._viewer.scene.camera
        return (*(float(v) for v in camera.center), float(camera.zoom))
