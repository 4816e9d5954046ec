"""Selection of the labels to export or count."""

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_uhrseg.ui.layers.label_layers import STORE

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


class LabelsSelection(QObject):
    """Selected labels layer of a store in the viewer, or the topmost visible one."""

    changed = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        layers = viewer.layers
        self._events = (
            layers.events.inserted,
            layers.events.removed,
            layers.selection.events.active,
        )
        for event in self._events:
            event.connect(self._look)
        self.layer: Any = None
        self._look()

    @property
    def store(self) -> "LabelStore | None":
        return None if self.layer is None else self.layer.metadata[STORE]

    def stop(self) -> None:
        for event in self._events:
            event.disconnect(self._look)

    def _look(self) -> None:
        found = [x for x in self._viewer.layers if _has_store(x)]
        visible = [x for x in found if x.visible] or found
        active = self._viewer.layers.selection.active
        chosen = active if active in found else visible[-1] if visible else None
        if self.layer in visible and active not in found:
            return  # the selection of another kind of layer has no effect
        if chosen is not self.layer:
            self.layer = chosen
            self.changed.emit()


def _has_store(layer: Any) -> bool:
    return type(layer).__name__ == "Labels" and STORE in layer.metadata
