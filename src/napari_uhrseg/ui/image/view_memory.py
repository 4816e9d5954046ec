"""View of an image in the window, which is remembered between sessions."""

import math
from contextlib import suppress
from typing import Any

import numpy as np

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.layers.label_layers import KEY
from napari_uhrseg.ui.layers.picture import BAND, display_of
from napari_uhrseg.ui.layers.viewport import image_size, view_rectangle
from napari_uhrseg.ui.widgets.remembered import remember_entry, remembered_entry

VIEWS = "views"  # key of the remembered views, by the image's fingerprint
WHOLE = 0.85  # share of each side in view, from which an image is in view as a whole


def remember_view(viewer: Any, layer: Any) -> None:
    """Remember the centre, the zoom and the visible bands of an image.

    ``layer`` shows the image. The view of the whole image, with which images open, and
    a view without any part of it are not remembered.
    """
    image = layer.metadata.get(KEY)
    if image is None or not image.fingerprint or not _scale(layer):
        return
    if view_rectangle(viewer, layer) is None or _is_whole(viewer, layer):
        return
    camera = viewer.scene.camera
    point = [*viewer.dims.point[: viewer.dims.ndim - 2], *camera.center[-2:]]
    center = np.asarray(layer.world_to_data(point))[-2:]
    entry = {
        "center": [float(value) for value in center],
        "zoom": float(camera.zoom * _scale(layer)),
        "hidden": [band for band, x in _bands(image) if not x.visible],
    }
    remember_entry(VIEWS, image.fingerprint, entry)


def restore_view(viewer: Any, layer: Any) -> bool:
    """Show the remembered view of an image that is in view as a whole.

    A view that the user has chosen since the image was opened does not change.

    Parameters
    ----------
    viewer
        napari viewer.
    layer
        Layer of the image.

    Returns
    -------
    bool
        True if there is a remembered view, and it is shown now.
    """
    image = layer.metadata.get(KEY)
    height, width = image_size(layer)
    if image is None or not _is_whole(viewer, layer):
        return False
    entry = remembered_entry(VIEWS, image.fingerprint)
    with suppress(KeyError, TypeError, ValueError):
        y, x = (float(value) for value in entry["center"])
        zoom, hidden = float(entry["zoom"]), {int(band) for band in entry["hidden"]}
        inside = 0 <= y <= height and 0 <= x <= width
        if not inside or not math.isfinite(zoom) or zoom <= 0:
            return False
        leading = viewer.dims.point[-layer.ndim :][:-2]
        planes = np.asarray(layer.world_to_data([*leading, 0, 0]))[:-2]
        camera = viewer.scene.camera
        world = np.asarray(layer.data_to_world([*planes, y, x]))[-2:]
        camera.center = (*camera.center[:-2], *(float(value) for value in world))
        camera.zoom = zoom / _scale(layer)
        for band, other in _bands(image):
            other.visible = band not in hidden
        return True
    return False


def _is_whole(viewer: Any, layer: Any) -> bool:
    """Return whether an image is in view as a whole, as when it is opened.

    The canvas may have become narrower since then, so that the edges are out of view.
    """
    seen, (height, width) = view_rectangle(viewer, layer), image_size(layer)
    return (
        seen is not None
        and seen.height >= WHOLE * height
        and seen.width >= WHOLE * width
    )


def _scale(layer: Any) -> float:
    """Return the side of a pixel of a layer in world units."""
    return float(np.abs(layer.scale[-2:]).max())


def _bands(image: Image) -> list[tuple[int, Any]]:
    """Return the layers that show one band each, with the index of the band."""
    layers = display_of(image).layers()
    return [(int(x.metadata[BAND]), x) for x in layers if BAND in x.metadata]
