"""Tests of georeferenced layers, which lie side by side on the map."""

import numpy as np
import pytest
import rasterio
import rasterio.warp
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from rasterio.transform import from_origin

from helpers.canvas import Mouse, look_at, make_image, make_store
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.open import open_image
from napari_uhrseg.ui.correct.paint_area import PaintArea
from napari_uhrseg.ui.correct.write_queue import WriteQueue
from napari_uhrseg.ui.layers.label_layers import LabelsView, add_image
from napari_uhrseg.ui.layers.map_placement import MapOrigin, MapPlacement
from napari_uhrseg.ui.layers.map_position import position_text
from napari_uhrseg.ui.layers.viewport import view_rectangle

UTM32, UTM33, FEET, WGS84 = "EPSG:32632", "EPSG:32633", "EPSG:2225", "EPSG:4326"


def wkt(crs):
    return rasterio.CRS.from_string(crs).to_wkt()


def tile(path, crs, transform, size=(60, 40)):
    width, height = size
    options = {"crs": crs, "transform": transform, "dtype": "uint8", "count": 3}
    with rasterio.open(path, "w", width=width, height=height, **options) as out:
        out.write(np.zeros((3, height, width), np.uint8))
    return open_image(path)


@pytest.fixture
def model():
    viewer = ViewerModel()
    placement = MapPlacement(viewer)
    yield viewer
    placement.stop()


def placed(image, affine, crs, pixel_size, unit="metre"):
    image.affine, image.crs = affine, wkt(crs)
    image.pixel_size, image.unit = pixel_size, unit
    return image


def test_adjoining_tiles_lie_side_by_side(model, tmp_path):
    west = tile(tmp_path / "w.tif", UTM32, from_origin(500_000, 5_300_000, 0.2, 0.2))
    east = tile(tmp_path / "e.tif", UTM32, from_origin(500_012, 5_300_000, 0.2, 0.2))
    south = tile(tmp_path / "s.tif", UTM32, from_origin(500_000, 5_299_992, 0.2, 0.2))
    one, two, three = (add_image(model, image)[0] for image in (west, east, south))
    np.testing.assert_array_equal(one.affine.affine_matrix, np.eye(3))
    np.testing.assert_allclose(two.data_to_world((0, 0)), (0, 12), atol=1e-9)
    np.testing.assert_allclose(one.data_to_world((5, 60)), two.data_to_world((5, 0)))
    np.testing.assert_allclose(one.data_to_world((40, 7)), three.data_to_world((0, 7)))


def test_tiles_in_degrees_lie_side_by_side(model, tmp_path):
    north = tile(tmp_path / "n.tif", WGS84, from_origin(9, 48, 1e-5, 1e-5))
    south = tile(tmp_path / "s.tif", WGS84, from_origin(9, 48 - 40e-5, 1e-5, 1e-5))
    one, two = (add_image(model, image)[0] for image in (north, south))
    np.testing.assert_allclose(one.data_to_world((40, 0)), two.data_to_world((0, 0)))


def test_tile_opened_after_the_first_one_was_closed_keeps_its_place(model, tmp_path):
    at = [from_origin(500_000 + 12 * i, 5_300_000, 0.2, 0.2) for i in range(3)]
    tiles = [tile(tmp_path / f"{i}.tif", UTM32, t) for i, t in enumerate(at)]
    first, second = (add_image(model, image)[0] for image in tiles[:2])
    model.layers.remove(first)
    third = add_image(model, tiles[2])[0]
    np.testing.assert_allclose(
        second.data_to_world((0, 60)), third.data_to_world((0, 0))
    )


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        (UTM33, from_origin(400_000, 5_300_000, 0.5, 0.5)),
        (WGS84, from_origin(13.6, 47.8, 5e-6, 4e-6)),
    ],
)
def test_image_of_another_crs_is_reprojected_for_showing(model, tmp_path, crs, place):
    first = tile(tmp_path / "a.tif", UTM32, from_origin(840_000, 5_300_000, 1, 1))
    other = tile(tmp_path / "b.tif", crs, place)
    add_image(model, first)
    layer = add_image(model, other)[0]
    message = notification_manager.records[-1].message
    assert message.startswith("b.tif has another coordinate system than a.tif")
    assert "reprojected for showing" in message
    origin = MapOrigin.of_image(first)
    for y, x in ((0, 0), (39, 0), (20, 59)):
        (east,), (north,) = rasterio.warp.transform(
            crs, UTM32, *([v] for v in place @ (x + 0.5, y + 0.5))
        )
        found = origin.to_map(layer.data_to_world((y, x)))
        np.testing.assert_allclose(found, (east, north), atol=0.005)


def test_image_of_another_crs_that_is_not_affine_is_reported(model, tmp_path):
    first = tile(tmp_path / "a.tif", UTM32, from_origin(500_000, 5_300_000, 1, 1))
    other = tile(tmp_path / "b.tif", WGS84, from_origin(-20, 80, 1, 1.5))
    add_image(model, first)
    layer = add_image(model, other)[0]
    message = notification_manager.records[-1].message
    assert message.startswith("b.tif has another coordinate system than a.tif")
    assert "WGS 84, not WGS 84 / UTM zone 32N" in message
    assert "pixels off in that system. Reproject one of them with gdalwarp" in message
    np.testing.assert_array_equal(layer.affine.affine_matrix, np.eye(3))


def test_channels_and_planes_are_placed(model):
    at = from_origin(500_000, 5_300_000, 0.5, 0.5)
    first = image_from_array(np.zeros((20, 30), np.uint8), name="flat", axes="yx")
    stack = image_from_array(np.zeros((2, 3, 20, 30), np.uint8), name="st", axes="czyx")
    add_image(model, placed(first, tuple(at)[:6], UTM32, (0.5, 0.5)))
    at = from_origin(500_015, 5_300_000, 0.5, 0.5)
    layers = add_image(model, placed(stack, tuple(at)[:6], UTM32, (0.5, 0.5)))
    assert [tuple(x.data_to_world((1, 0, 0))) for x in layers] == [(1, 0, 15)] * 2


degrees = st.floats(0, 360)
side = st.floats(0.01, 50)


@pytest.mark.slow
@given(degrees, side, side, st.booleans(), st.sampled_from([UTM32, FEET]), side, side)
def test_every_pixel_is_at_its_map_position(angle, across, down, up, crs, y, x):
    turn = rasterio.Affine.rotation(angle)
    size = rasterio.Affine.scale(across, down if up else -down)
    place = rasterio.Affine.translation(600_000, 5_000_000) * turn * size
    factor = rasterio.CRS.from_string(crs).linear_units_factor[1]
    image = image_from_array(np.zeros((20, 30), np.uint8), name="i")
    sides = (down * factor, across * factor)
    placed(image, tuple(place)[:6], crs, sides)
    unit = MapOrigin.of_image(image).unit
    assert unit == pytest.approx(factor)
    origin = MapOrigin(image.crs, 599_900.0, 5_000_100.0, unit)
    world = origin.matrix(image.affine, sides) @ (y * sides[0], x * sides[1], 1)
    expected = place @ (x + 0.5, y + 0.5)
    np.testing.assert_allclose(origin.to_map(world[:2]), expected, rtol=1e-9)


def test_position_has_map_coordinates_longitude_and_latitude():
    assert position_text(wkt(UTM32), 0.5, 500_000.26, 0) == (
        "x 500,000.26, y 0.00 (WGS 84 / UTM zone 32N)   0.000000° N, 9.000002° E"
    )
    text = position_text(wkt(WGS84), 1e-5, -70.5, -30.25)
    assert text == "30.250000° S, 70.500000° W"


@pytest.fixture
def rotated(make_napari_viewer):
    """Return a viewer with an image that is turned by 30 degrees."""
    viewer = make_napari_viewer(show=True)
    placement = MapPlacement(viewer)
    turn = rasterio.Affine.rotation(30) * rasterio.Affine.scale(0.5, -0.5)
    place = rasterio.Affine.translation(500_000, 5_300_000) * turn
    image = placed(make_image(3000, 4000), tuple(place)[:6], UTM32, (0.5, 0.5))
    (layer,) = add_image(viewer, image)
    yield viewer, image, layer
    placement.stop()


@pytest.mark.gui
@pytest.mark.slow
def test_strokes_on_a_rotated_image_are_at_the_mouse(rotated, tmp_path, qtbot):
    viewer, image, layer = rotated
    with make_store(tmp_path / "labels.zarr", image) as store:
        view = LabelsView(viewer, store, image)
        corrections, writer = Corrections.open(store), WriteQueue()
        look_at(viewer, layer, 1500, 2000)
        seen = view_rectangle(viewer, layer)
        assert seen is not None
        center = seen.y + seen.height / 2, seen.x + seen.width / 2
        np.testing.assert_allclose(center, (1500.5, 2000.5), atol=2)
        area = PaintArea(viewer, view, corrections, writer)
        qtbot.waitUntil(lambda: area.layer.visible, timeout=20_000)
        area.layer.mode, area.layer.brush_size = "paint", 9
        area.layer.selected_label = 2
        Mouse(viewer, layer).drag((1500, 2000), (1500, 2040))
        qtbot.waitUntil(lambda: corrections.counts().get(2, 0) > 0, timeout=20_000)
        found = np.argwhere(np.asarray(store.correction[0]) == 2)
        np.testing.assert_allclose(found.min(0), (1496, 1996), atol=2)
        np.testing.assert_allclose(found.max(0), (1504, 2044), atol=2)
        area.stop()
        writer.close()
        corrections.close()
