"""Visible rectangle and drawn shapes, in level-0 pixels of an image."""

from typing import Any

import numpy as np
from napari.components.overlays import BrushCircleOverlay
from qtpy.QtCore import QObject
from superqt.utils import qdebounced

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import Polygon, Region, Roi

REGIONS = "uhrseg_regions"  # metadata key: regions of a layer with holes and names
ANNOTATIONS = "uhrseg_annotations"  # metadata key: annotation regions of a layer


def view_rectangle(viewer: Any, layer: Any) -> Roi | None:
    """Return the visible rectangle of a layer, or None if it is out of view."""
    camera, (height, width) = viewer.scene.camera, viewer.canvas.size
    center = np.asarray(camera.center[-2:], float)
    half = np.array([height, width]) / 2 / max(camera.zoom, 1e-12)
    signs = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)])
    corners = [_to_pixels(viewer, layer, center + s * half) for s in signs]
    (y0, x0), (y1, x1) = np.min(corners, 0), np.max(corners, 0)
    roi = Roi(int(y0), int(x0), int(np.ceil(y1 - int(y0))), int(np.ceil(x1 - int(x0))))
    seen = roi.intersect(Roi(0, 0, *image_size(layer)))
    return seen if seen.area else None


def image_size(layer: Any) -> tuple[int, int]:
    """Return height and width of an image layer at full resolution."""
    shape = layer.data[0].shape if layer.multiscale else layer.data.shape
    height, width = shape[-3:-1] if getattr(layer, "rgb", False) else shape[-2:]
    return int(height), int(width)


def shown_plane(viewer: Any, layer: Any, image: Image) -> dict[str, int]:
    """Return the plane that napari's sliders show.

    Parameters
    ----------
    viewer
        napari viewer.
    layer
        Layer of the image.
    image
        Image with the axes of its planes.

    Returns
    -------
    dict of str to int
        Index in each axis of the planes.
    """
    at = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    return {
        axis: min(max(0, round(float(at[i]))), size - 1)
        for i, (axis, size) in enumerate(image.planes.items())
    }


def show_plane(viewer: Any, layer: Any, image: Image) -> None:
    """Move napari's sliders to the chosen plane of an image.

    Parameters
    ----------
    viewer
        napari viewer.
    layer
        Layer of the image.
    image
        Image with the chosen plane.
    """
    at = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    indices = [image.plane[axis] for axis in image.planes]
    world = layer.data_to_world([*indices, *at[len(indices) :]])
    first = viewer.dims.ndim - layer.ndim
    for i in range(len(indices)):
        viewer.dims.set_point(first + i, float(world[i]))


def drawn_region(viewer: Any, shapes: Any, layer: Any) -> Region:
    """Return the selected shape of a Shapes layer, or the last one if none is selected.

    Parameters
    ----------
    viewer
        napari viewer.
    shapes
        Shapes layer.
    layer
        Image or labels layer whose level-0 pixels the region refers to.

    Raises
    ------
    PlanError
        If the Shapes layer has no shape with an area.
    """
    areas = [i for i, kind in enumerate(shapes.shape_type) if kind != "line"]
    chosen = [i for i in areas if i in shapes.selected_data] or areas[-1:]
    return _regions(viewer, shapes, layer, chosen)[-1]


def drawn_regions(viewer: Any, shapes: Any, layer: Any) -> list[Region]:
    """Return the selected shapes of a Shapes layer, or all if none is selected.

    Parameters
    ----------
    viewer
        napari viewer.
    shapes
        Shapes layer.
    layer
        Image or labels layer whose level-0 pixels the regions refer to.

    Raises
    ------
    PlanError
        If the Shapes layer has no shape with an area.
    """
    areas = [i for i, kind in enumerate(shapes.shape_type) if kind != "line"]
    chosen = [i for i in areas if i in shapes.selected_data] or areas
    return _regions(viewer, shapes, layer, chosen)


def selected_shapes(viewer: Any, layer: Any) -> list[Region]:
    """Return the selected (or all) shapes of the selected (or last) Shapes layer.

    Raises
    ------
    PlanError
        If there is no Shapes layer, or if it has no shape with an area.
    """
    layers = [
        x
        for x in viewer.layers
        if type(x).__name__ == "Shapes" and ANNOTATIONS not in x.metadata
    ]
    layers.sort(key=lambda x: x is viewer.layers.selection.active)
    if not layers:
        raise PlanError(
            "There is no Shapes layer.",
            "Add one, and draw a rectangle or a polygon in it.",
        )
    return drawn_regions(viewer, layers[-1], layer)


def look_at(viewer: Any, layer: Any, roi: Roi) -> None:
    """Move the view to a rectangle of a layer, and zoom in until it fills the window.

    Parameters
    ----------
    viewer
        napari viewer.
    layer
        Image or labels layer.
    roi
        Rectangle in level-0 pixels of the layer. One of these pixels covers at most
        two screen pixels per side.
    """
    corners = [
        np.asarray(layer.data_to_world([y - 0.5, x - 0.5]))[-2:]
        for y in (roi.y, roi.bottom)
        for x in (roi.x, roi.right)
    ]
    low, high = np.min(corners, 0), np.max(corners, 0)
    closest = 2 / float(np.abs(layer.scale[-2:]).max())
    wide = np.maximum(high - low, 1e-12)
    camera = viewer.scene.camera
    camera.center = (*camera.center[:-2], *((low + high) / 2))
    camera.zoom = min(closest, float((0.7 * np.array(viewer.canvas.size) / wide).min()))


def _regions(viewer: Any, shapes: Any, layer: Any, chosen: list[int]) -> list[Region]:
    if not chosen:
        raise PlanError(
            f"The layer {shapes.name!r} has no shape.",
            "Draw a rectangle or a polygon in it.",
        )
    return [
        _region(viewer, shapes.shape_type[i], shapes.data[i], shapes, layer)
        for i in chosen
    ]


def _region(viewer: Any, kind: str, data: Any, shapes: Any, layer: Any) -> Region:
    corners = np.asarray(data)
    if kind == "ellipse":
        corners = _ellipse(corners)
    pixels = np.array(
        [
            _to_pixels(viewer, layer, np.asarray(shapes.data_to_world(corner))[-2:])
            for corner in corners
        ]
    )
    low, high = pixels.min(0), pixels.max(0)
    straight = np.isclose(pixels, low) | np.isclose(pixels, high)
    if kind == "rectangle" and straight.all():
        (y, x), (bottom, right) = np.round(low).astype(int), np.round(high).astype(int)
        return Roi(int(y), int(x), int(bottom - y), int(right - x))
    return Polygon(tuple((float(y), float(x)) for y, x in pixels))


class Focus(QObject):
    """Visible rectangle of one layer, updated on the Qt thread.

    A call only reads an attribute, so any thread may call it.
    """

    def __init__(self, viewer: Any, layer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._layer = viewer, layer
        self._later = qdebounced(self._update, timeout=80, parent=self)
        camera, canvas = viewer.scene.camera, viewer.canvas
        self._events = (camera.events.center, camera.events.zoom, canvas.events.size)
        for event in self._events:
            event.connect(self._moved)
        self._roi = view_rectangle(viewer, layer)

    def __call__(self) -> Roi | None:
        return self._roi

    def stop(self) -> None:
        for event in self._events:
            event.disconnect(self._moved)
        self._later.cancel()

    def _moved(self) -> None:
        self._later()

    def _update(self) -> None:
        self._roi = view_rectangle(self._viewer, self._layer)


def _to_pixels(viewer: Any, layer: Any, world: np.ndarray) -> np.ndarray:
    """Convert world coordinates (y, x) to level-0 pixels from the image's corner."""
    point = [*viewer.dims.point[: viewer.dims.ndim - 2], *world]
    spatial: np.ndarray = np.asarray(layer.world_to_data(point))[-2:] + 0.5
    return spatial


def _ellipse(corners: np.ndarray) -> np.ndarray:
    """Return 64 points of the ellipse whose bounding box has these corners."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None]
    center = corners.mean(0)
    down, across = (corners[3] - corners[0]) / 2, (corners[1] - corners[0]) / 2
    points: np.ndarray = center + np.cos(angle) * across + np.sin(angle) * down
    return points


def hide_brush_background(viewer: Any) -> None:
    """Hide the background of napari's brush circle.

    napari leaves it on the canvas as a square of 8 pixels where a stroke ended.
    """
    for overlay in dict(viewer.canvas.overlays).values():
        if isinstance(overlay, BrushCircleOverlay):
            overlay.box = False
