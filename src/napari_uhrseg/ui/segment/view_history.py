"""Views of all labels in a viewer, in the order in which they were shown."""

from functools import partial
from typing import Any

from qtpy.QtCore import QTimer

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.ui.layers.label_layers import KEY, STORE, LabelsView, same_image
from napari_uhrseg.ui.segment.worker import SegmentRequest


class ViewHistory:
    """Views of the labels in the viewer; the latest shown is last."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._views: list[LabelsView] = []

    def adopt(self) -> None:
        """Add the labels of a closed panel; visible ones come last."""
        layers = [x for x in self._viewer.layers if type(x).__name__ == "Labels"]
        for layer in sorted(layers, key=lambda x: bool(x.visible)):
            store, image = (layer.metadata.get(key) for key in (STORE, KEY))
            if store is not None and image is not None:
                self._views.append(LabelsView(self._viewer, store, image, layer))

    def put_last(self, view: LabelsView) -> None:
        """Add a view, or move it to the end."""
        self._views = [other for other in self._views if other is not view] + [view]

    def show_only(self, view: LabelsView) -> None:
        """Show a view and hide all others: two label layers would mix their colours."""
        self.put_last(view)
        for other in self._views[:-1]:
            other.hide()
        view.show()

    def hide(self) -> None:
        """Hide all views: the labels of other images do not fit the chosen one."""
        for view in self._alive():
            view.hide()

    def of_image(self, image: Image | None) -> LabelsView | None:
        """Return the labels of the image that were shown last, if any."""
        found = (v for v in self._alive() if same_image(v.image, image))
        return next(found, None)

    def of_store(self, path: PathOrUrl) -> LabelsView | None:
        """Return the view of the label store at this path, if any."""
        return next((v for v in self._alive() if v.store.path == path), None)

    def at_output(self, request: SegmentRequest) -> LabelsView | None:
        """Return the labels that lie at the output of the request, if any."""

        def there(view: LabelsView) -> bool:
            if request.output is None:
                return view.store.temporary and same_image(view.image, request.image)
            return str(view.store.path) == str(request.output.absolute())

        return next((v for v in self._alive() if there(v)), None)

    def remove_confidence(self) -> None:
        """Drop removed labels, and remove their confidence after napari's event."""
        for view in self._views:
            if not view.alive:
                QTimer.singleShot(0, partial(LabelsView.remove, view))
        self._views = [view for view in self._views if view.alive]

    def _alive(self) -> list[LabelsView]:
        return [view for view in reversed(self._views) if view.alive]
