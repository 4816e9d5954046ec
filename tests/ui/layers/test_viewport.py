"""The rectangle in view and drawn shapes."""

import numpy as np
import pytest

from napari_uhrseg.errors import PlanError
from napari_uhrseg.types import Polygon, Roi
from napari_uhrseg.ui.layers.viewport import (
    Focus,
    drawn_region,
    image_size,
    view_rectangle,
)


@pytest.fixture
def layer(viewer):
    levels = [np.zeros((n, 2 * n, 3), np.uint8) for n in (1000, 500, 250)]
    return viewer.add_image(
        levels, multiscale=True, rgb=True, scale=(0.5, 0.5), units=("um", "um")
    )


@pytest.mark.slow
def test_size_of_layers(viewer, layer):
    assert image_size(layer) == (1000, 2000)
    assert image_size(viewer.add_image(np.zeros((3, 40, 50)))) == (40, 50)


@pytest.mark.gui
def test_what_is_in_view_follows_the_camera(viewer, layer, qtbot):
    viewer.scene.camera.center = (250, 500)  # micrometres: the image's middle
    for zoom in (2.0, 8.0, 40.0):  # screen pixels a micrometre
        viewer.scene.camera.zoom = zoom
        qtbot.wait(50)
        seen = view_rectangle(viewer, layer)
        height, width = viewer.canvas.size
        assert seen.center == pytest.approx((500, 1000), abs=2)
        assert seen.height == pytest.approx(min(1000, height / zoom / 0.5), abs=3)
        assert seen.width == pytest.approx(min(2000, width / zoom / 0.5), abs=3)


def test_out_of_view_is_none(viewer, layer):
    viewer.scene.camera.zoom = 20
    viewer.scene.camera.center = (-5000, -5000)
    assert view_rectangle(viewer, layer) is None


def test_focus_is_told_of_moves_until_it_stops(viewer, layer, qtbot):
    viewer.scene.camera.zoom = 20
    focus = Focus(viewer, layer)
    viewer.scene.camera.center = (100, 100)
    qtbot.waitUntil(
        lambda: focus() is not None and focus().contains(Roi(199, 199, 2, 2))
    )
    before = focus()
    focus.stop()
    viewer.scene.camera.center = (400, 400)
    qtbot.wait(200)
    assert focus() == before


def test_a_drawn_rectangle_is_a_roi(viewer, layer):
    shapes = viewer.add_shapes(
        [np.array([[10, 20], [10, 60], [30, 60], [30, 20]])], shape_type="rectangle"
    )
    # world: micrometres; pixel centres lie at multiples of half a micrometre
    assert drawn_region(viewer, shapes, layer) == Roi(20, 40, 40, 80)


def test_the_chosen_shape_counts_else_the_last(viewer, layer):
    first = np.array([[0, 0], [0, 10], [10, 5]])
    last = first + 100
    shapes = viewer.add_shapes([first, last], shape_type="polygon")
    region = drawn_region(viewer, shapes, layer)
    assert isinstance(region, Polygon)
    assert region.bounds.y == 200
    shapes.selected_data = {0}
    assert drawn_region(viewer, shapes, layer).bounds.y == 0


def test_an_ellipse_has_its_area(viewer, layer):
    box = np.array([[100, 100], [100, 200], [160, 200], [160, 100]])
    shapes = viewer.add_shapes([box], shape_type="ellipse")
    corners = np.array(drawn_region(viewer, shapes, layer).corners)
    y, x = corners.T
    area = abs(np.sum(y * np.roll(x, 1) - x * np.roll(y, 1))) / 2
    assert area == pytest.approx(np.pi * 60 * 100, rel=0.01)  # half axes in pixels


def test_no_shape_says_what_to_do(viewer, layer):
    shapes = viewer.add_shapes(name="mine")
    with pytest.raises(PlanError, match=r"mine.*Draw a rectangle"):
        drawn_region(viewer, shapes, layer)
