"""The layer of what a new checkpoint answers otherwise."""

from contextlib import suppress
from typing import Any

import numpy as np
from napari.utils import DirectLabelColormap

from napari_uhrseg.ui.finetune_work import Changed

NAME = "what changes"
CLEAR = (0.0, 0.0, 0.0, 0.0)


class ChangesLayer:
    """At most one layer in the viewer; the labels it speaks of are hidden meanwhile.

    Else what changes would lie in their own colours over them, and not be seen.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self.layer: Any = None
        self._over: Any = None

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
        self._over, over.visible = over, False

    def remove(self) -> None:
        if self.layer is not None:
            layers = self._viewer.layers
            with suppress(ValueError):  # the person has removed it
                layers.remove(self.layer)
            if self._over in layers:
                self._over.visible = True
                layers.selection.active = self._over
            self.layer = self._over = None
