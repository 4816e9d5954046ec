"""Tests of the switch between images: the active layer is the one worked on."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.ui.image.image_switch import ImageSwitch
from napari_uhrseg.ui.image.panel import ImagePanel
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.layers.map_placement import MapPlacement
from napari_uhrseg.ui.workers.worker import Workers

CRS = 'PROJCS["a map"]'


def image(name, height=40, width=30, channels=None):
    if channels is None:
        pixels, axes = np.zeros((height, width, 3), np.uint8), "yxs"
    else:
        pixels, axes = np.zeros((channels, height, width), np.uint16), "cyx"
    made = image_from_array(pixels, name=name, rgb=channels is None, axes=axes)
    made.pixel_size, made.unit = (0.5, 0.5), "micrometer"
    return made


def tile(name, x):
    made = image(name)
    made.crs, made.affine = CRS, (0.5, 0, x, 0, -0.5, 5e6)
    made.unit = "metre"
    return made


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def panel(viewer, qtbot):
    placement = MapPlacement(viewer)
    workers = Workers()
    panel = ImagePanel(viewer, workers)
    qtbot.addWidget(panel)
    switch = ImageSwitch(viewer, panel)
    yield panel
    switch.stop()
    panel.stop()
    placement.stop()
    workers.close()


def wait_for(panel, layer, qtbot):
    qtbot.waitUntil(lambda: panel.layer is layer)


def shown(viewer):
    return [layer.name for layer in viewer.layers if layer.visible]


def test_image_opened_last_is_chosen_and_shown_alone(viewer, panel, qtbot):
    first = add_image(viewer, image("first"))[0]
    wait_for(panel, first, qtbot)
    second = add_image(viewer, image("second"))[0]
    wait_for(panel, second, qtbot)
    assert panel.image.name == "second"
    assert shown(viewer) == ["second"]


def test_click_on_layer_chooses_its_image(viewer, panel, qtbot):
    first, second = (add_image(viewer, image(n))[0] for n in ("first", "second"))
    wait_for(panel, second, qtbot)
    viewer.layers.selection.active = first
    wait_for(panel, first, qtbot)
    assert shown(viewer) == ["first"]


def test_each_image_keeps_its_view(viewer, panel, qtbot):
    camera = viewer.scene.camera
    first = add_image(viewer, image("first"))[0]
    wait_for(panel, first, qtbot)
    camera.center, camera.zoom = (0.0, 3.0, 4.0), 7.0
    second = add_image(viewer, image("second", 400, 300))[0]
    wait_for(panel, second, qtbot)
    assert tuple(camera.center[-2:]) == pytest.approx((99.75, 74.75))  # its middle
    panel.choose_layer(first)
    assert tuple(camera.center[-2:]) == (3.0, 4.0)
    assert camera.zoom == 7.0


def test_hidden_channels_stay_hidden(viewer, panel, qtbot):
    channels = add_image(viewer, image("stack", channels=4))
    channels[0].visible = False
    before = shown(viewer)
    wait_for(panel, channels[0], qtbot)
    other = add_image(viewer, image("other"))[0]
    wait_for(panel, other, qtbot)
    assert shown(viewer) == ["other"]
    viewer.layers.selection.active = channels[2]
    wait_for(panel, channels[0], qtbot)
    assert shown(viewer) == before


def test_tiles_of_one_map_are_shown_together(viewer, panel, qtbot):
    first, second = (add_image(viewer, tile(n, x))[0] for n, x in (("w", 0), ("e", 15)))
    wait_for(panel, second, qtbot)
    assert shown(viewer) == ["w", "e"]
    viewer.layers.selection.active = first
    wait_for(panel, first, qtbot)
    assert shown(viewer) == ["w", "e"]


def test_layers_of_other_plugins_stay_visible(viewer, panel, qtbot):
    viewer.add_image(np.zeros((9, 9)), name="filtered")
    layer = add_image(viewer, image("slide"))[0]
    wait_for(panel, layer, qtbot)
    assert shown(viewer) == ["filtered", "slide"]
    qtbot.waitUntil(lambda: panel.image is not None)


def test_image_chosen_in_list_becomes_active(viewer, panel, qtbot):
    first, second = (add_image(viewer, image(n))[0] for n in ("first", "second"))
    wait_for(panel, second, qtbot)
    panel.box.setCurrentIndex(panel.row(first))
    assert viewer.layers.selection.active is first


@pytest.mark.slow
def test_other_layers_of_the_same_image_keep_the_view(viewer, panel, qtbot):
    stack = image("stack", channels=4)
    before = add_image(viewer, stack)
    wait_for(panel, before[0], qtbot)
    camera = viewer.scene.camera
    camera.center, camera.zoom = (0.0, 3.0, 4.0), 7.0
    after = add_image(viewer, stack)
    for layer in before:
        viewer.layers.remove(layer)
    wait_for(panel, after[0], qtbot)
    assert tuple(camera.center[-2:]) == (3.0, 4.0)
    assert camera.zoom == 7.0
