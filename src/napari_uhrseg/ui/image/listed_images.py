"""Images that were opened from a list: the window shows one of them at a time."""

from typing import Any

from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.ui.layers.label_layers import KEY, STORE


class ListedImages:
    """Images that were opened from a list and may still be in the viewer."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._paths: set[PathOrUrl] = set()

    def has_layers(self, path: PathOrUrl) -> bool:
        """Return True if the viewer shows the image of a file, or its labels."""
        return bool(self._layers(path))

    def add(self, path: PathOrUrl) -> None:
        """Note that an image was opened from a list."""
        self._paths.add(path)

    def keep_only(self, path: PathOrUrl) -> None:
        """Remove the layers of all images but one, and those of their labels.

        An image with temporary labels stays, because their folder is deleted with their
        layer. It is removed later if these labels no longer exist.
        """
        layers = self._viewer.layers
        removable = [x for y in self._paths - {path} for x in self._removable(y)]
        if not removable:
            return
        with layers.batched_update():  # the canvas changes once
            for layer in removable:
                if layer in layers:  # the removal of another one may have removed it
                    layers.remove(layer)

    def _removable(self, path: PathOrUrl) -> list[Any]:
        """Return the layers of an image, which is forgotten unless its labels stay."""
        layers = self._layers(path)
        stores = (x.metadata[STORE] for x in layers if STORE in x.metadata)
        if any(store.temporary for store in stores):
            return []
        self._paths.discard(path)
        return layers

    def _layers(self, path: PathOrUrl) -> list[Any]:
        layers = self._viewer.layers
        return [x for x in layers if KEY in x.metadata and x.metadata[KEY].path == path]
