"""Opening of rasters, tiles of a map and fluorescence slides, as a user sees them."""

import numpy as np
import pytest
import rasterio
from qtpy.QtCore import Qt
from rasterio.transform import from_origin

from helpers.canvas import Mouse
from helpers.qptiff import write_qptiff
from helpers.window_story import WindowUser, color_at

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
]

UTM = "EPSG:32632"
DARK = 30  # of 255: darker pixels look black


@pytest.fixture
def user(open_window, small_checkpoint, qtbot):
    """Return a window with the tab Image, and a checkpoint that is planned quickly."""
    user = WindowUser(*open_window(), qtbot)
    user.panel.segment.model.use(small_checkpoint)
    user.panel.show_step("Image")
    return user


def write_tile(path, bands, west=500_000, pixel=10.0, names=()):
    """Write bands, (bands, h, w), as a GeoTIFF of UTM zone 32."""
    count, height, width = bands.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count,
        dtype=bands.dtype, crs=UTM, photometric="RGB" if count == 3 else "MINISBLACK",
        transform=from_origin(west, 5_300_000, pixel, pixel),
    ) as file:  # fmt: skip
        file.write(bands)
        for i, name in enumerate(names, 1):
            file.set_band_description(i, name)


def landscape():
    """Return blue, green, red and NIR of water, wood and soil, from left to right."""
    water, wood, soil = (
        (800, 500, 300, 150), (350, 800, 450, 2600), (900, 1100, 1500, 1700)
    )  # fmt: skip
    cover = np.repeat([water, wood, soil], 100, 0).T[:, None].repeat(240, 1)
    noise = np.random.default_rng(0).integers(-40, 40, cover.shape)
    return (cover + noise).astype(np.uint16)


def test_raster_of_16_bits_is_seen_at_once_and_in_false_colour(
    user, qtbot, tmp_path, take_picture
):
    viewer, panel = user.viewer, user.panel
    path = tmp_path / "four.tif"
    write_tile(path, landscape(), names=("blue", "green", "red", "nir"))
    user.open(path)
    form = panel.image.picture
    qtbot.waitUntil(lambda: "65535" not in form.limits.text())
    (layer,) = viewer.layers

    def colors(name):
        canvas = take_picture(viewer, name)
        return [color_at(canvas, viewer, layer, 120, x) for x in (50, 150, 250)]

    water, wood, soil = colors("true-colour")
    assert form.colors.currentText() == "True colour"
    assert water[2] > max(water[:2]) + DARK  # blue
    assert wood[1] > max(wood[0], wood[2]) + DARK  # green
    assert min(soil) > 200  # bright
    qtbot.waitUntil(lambda: "red" in form.input.text())  # what the network gets

    form.colors.setFocus()
    qtbot.keyClick(form.colors, Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: form.bands[0].currentText() == "nir")
    assert form.colors.currentText() == "False colour (NIR)"
    assert [box.currentText() for box in form.bands] == ["nir", "red", "green"]
    qtbot.waitUntil(lambda: "65535" not in form.limits.text())
    water, wood, soil = colors("false-colour")
    assert wood[0] > max(wood[1:]) + DARK  # vegetation is red
    assert max(water) < DARK  # water reflects no infrared, and least red and green
    assert soil[1] > 200


def test_adjoining_tiles_lie_side_by_side_on_the_map(
    user, qtbot, tmp_path, take_picture
):
    viewer, panel = user.viewer, user.panel
    tiles = {"west": (220, 60, 40), "east": (40, 60, 220)}
    width, pixel = 300, 0.2
    for i, (name, color) in enumerate(tiles.items()):
        bands = np.empty((3, 240, width), np.uint8)
        bands[:] = np.reshape(color, (3, 1, 1))
        west = 500_000 + i * width * pixel
        write_tile(tmp_path / f"{name}.tif", bands, west, pixel)
        user.open(tmp_path / f"{name}.tif")
    west, east = viewer.layers
    viewer.reset_view()
    assert west.visible
    assert east.visible
    for y in (-0.5, 239.5):  # the right side of one is the left side of the other
        right, left = west.data_to_world((y, 299.5)), east.data_to_world((y, -0.5))
        assert right == pytest.approx(left, abs=1e-6)
    canvas = take_picture(viewer, "tiles")
    for layer, x, color in (
        (west, 150, tiles["west"]), (west, 290, tiles["west"]),
        (east, 10, tiles["east"]), (east, 150, tiles["east"]),
    ):  # fmt: skip
        assert color_at(canvas, viewer, layer, 120, x) == pytest.approx(color, abs=3)
    y, x = Mouse(viewer, east).at(120, -0.5).y(), Mouse(viewer, east).at(120, -0.5).x()
    assert canvas[y, x - 20 : x + 20].max(-1).min() > 200  # no gap

    # the status bar has map coordinates, and longitude and latitude
    text = panel.position
    Mouse(viewer, east).move(120, 100)
    qtbot.waitUntil(text.isVisible)
    qtbot.waitUntil(lambda: "x 500,080" in text.text())
    assert "y 5,299,97" in text.text()
    assert "WGS 84 / UTM zone 32N" in text.text()
    assert "° N, 9.00" in text.text()
    assert "32632" in panel.image.facts.text()
    Mouse(viewer, west).move(120, 100)
    qtbot.waitUntil(lambda: "x 500,020" in text.text())
    take_picture(viewer, "tiles")


def test_channels_of_a_qptiff_are_layers_in_their_colours(
    user, qtbot, tmp_path, take_picture
):
    viewer = user.viewer
    path = tmp_path / "panel.qptiff"
    rng, channels = np.random.default_rng(0), {}
    for i, name in enumerate(("DAPI", "FITC", "Cy3", "Cy5")):
        plane = rng.integers(80, 120, (160, 320)).astype(np.uint16)
        plane[40:120, 80 * i + 10 : 80 * i + 70] += 900  # its cells
        channels[name] = plane
    write_qptiff(path, channels)
    user.open(path)
    layers = list(viewer.layers)
    assert [x.name for x in layers] == [f"panel.qptiff: {name}" for name in channels]
    assert [x.colormap.name for x in layers] == ["blue", "green", "orange", "magenta"]
    qtbot.waitUntil(lambda: all(x.contrast_limits[1] < 2000 for x in layers))

    def colors(name):
        canvas = take_picture(viewer, name)
        return [color_at(canvas, viewer, layers[0], 80, 80 * i + 40) for i in range(4)]

    blue, green, orange, magenta = colors("channels")
    assert blue[2] > max(blue[:2]) + 100
    assert green[1] > max(green[0], green[2]) + 100
    assert orange[0] > orange[1] > orange[2] + DARK
    assert min(magenta[0], magenta[2]) > magenta[1] + 100
    layers[1].visible = False
    blue, green, *_ = colors("channels-hidden")
    assert max(green) < DARK
    assert blue[2] > 100
