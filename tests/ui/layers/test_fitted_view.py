"""The whole image stays in view while the canvas changes its size."""

import inspect

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.ui.layers.fitted_view import FittedView
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.layers.viewport import view_rectangle

WHOLE = (300, 400)


@pytest.fixture
def viewer(qapp):
    made = ViewerModel()
    made.canvas.size = (600, 800)
    view = FittedView(made)
    yield made
    view.stop()


def shown(viewer) -> tuple[int, int]:
    seen = view_rectangle(viewer, viewer.layers[0])
    return seen.height, seen.width


def add(viewer) -> None:
    pixels = np.zeros((*WHOLE, 3), np.uint8)
    add_image(viewer, image_from_array([pixels], name="image", rgb=True))


def test_image_stays_in_view_as_the_canvas_shrinks(viewer):
    add(viewer)
    assert shown(viewer) == WHOLE
    for size in ((600, 500), (200, 900), (600, 800)):
        viewer.canvas.size = size
        assert shown(viewer) == WHOLE


def test_view_that_the_user_has_moved_stays(viewer):
    add(viewer)
    viewer.scene.camera.zoom *= 3
    zoom = viewer.scene.camera.zoom
    viewer.canvas.size = (600, 500)
    assert viewer.scene.camera.zoom == zoom


@pytest.mark.skipif(
    "layers" not in inspect.signature(ViewerModel.reset_view).parameters,
    reason="napari before 0.9.2 fits the view to all layers only",
)
def test_view_of_chosen_layers_stays(viewer):
    add(viewer)
    viewer.add_image(np.zeros((50, 50)), translate=(100, 1000))
    viewer.reset_view(layers=[viewer.layers[1]])
    zoom = viewer.scene.camera.zoom
    viewer.canvas.size = (600, 500)
    assert viewer.scene.camera.zoom == zoom


def test_layers_of_others_are_left_alone(viewer):
    viewer.add_image(np.zeros(WHOLE))
    zoom = viewer.scene.camera.zoom
    viewer.canvas.size = (600, 500)
    assert viewer.scene.camera.zoom == zoom
