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
        for other in self._paths - {path}:
            layers = self._layers(other)
            stores = (x.metadata[STORE] for x in layers if STORE in x.metadata)
            if any(store.temporary for store in stores):
                continue
            self._paths.discard(other)
            with self._viewer.layers.batched_update():  # the canvas changes once
                for layer in layers:
                    if layer in self._viewer.layers:
                        self._viewer.layers.remove(layer)

    def _layers(self, path: PathOrUrl) -> list[Any]:
        layers = self._viewer.layers
        return [x for x in layers if KEY in x.metadata and x.metadata[KEY].path == path]
