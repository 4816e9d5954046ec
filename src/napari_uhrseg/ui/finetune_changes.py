"""The layer of what a new checkpoint answers otherwise."""

from contextlib import suppress
from typing import Any

import numpy as np
from napari.utils import DirectLabelColormap

from napari_uhrseg.ui.finetune_work import Changed

NAME = "what changes"
CLEAR = (0.0, 0.0, 0.0, 0.0)


class ChangesLayer:
    """At most one layer in the viewer, over the labels it speaks of."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.layer: Any = None

    def show(self, changed: Changed, over: Any) -> None:
        """Lay the changed pixels over a labels layer, in the new classes' colours."""
        self.remove()
        scale = np.asarray(over.scale)[-2:]
        corner = np.array([changed.roi.y, changed.roi.x])
        colors: dict[int | None, tuple[float, ...]] = {None: CLEAR, 0: CLEAR}
        for c in changed.legend:
            colors[c.id] = (*(v / 255 for v in c.rgb), 1.0)
        names = [c.name for c in changed.legend]
        self.layer = self._viewer.add_labels(
            changed.labels,
            name=NAME,
            scale=scale,
            translate=np.asarray(over.translate)[-2:] + corner * scale,
            units=over.units[-2:],
            colormap=DirectLabelColormap(color_dict=colors),
            features={
                "index": [0, *(c.id for c in changed.legend)],
                "class": ["no change", *names],
            },
            opacity=0.9,
        )
        self.layer.editable = False

    def remove(self) -> None:
        if self.layer is not None:
            with suppress(ValueError):  # the person has removed it
                self._viewer.layers.remove(self.layer)
            self.layer = None
