"""Tests of the display of images: composites, channels, contrast, what is kept."""

import napari
import numpy as np
import pytest
import rasterio
import tifffile
from qtpy.QtCore import QSettings
from rasterio.transform import from_origin

from napari_uhrseg.io.image.composite import Picture
from napari_uhrseg.io.open import open_image
from napari_uhrseg.ui.image.panel import ImagePanel
from napari_uhrseg.ui.layers.label_layers import add_image, show_picture
from napari_uhrseg.ui.layers.picture import display_of
from napari_uhrseg.ui.workers.worker import Workers

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_pictures():
    """Forget the pictures of other tests."""
    QSettings("napari-uhrseg", "napari-uhrseg").remove("pictures")


@pytest.fixture
def viewer(qapp):
    """Return a viewer without a window."""
    return napari.components.ViewerModel()


@pytest.fixture
def panel(viewer, qtbot):
    workers = Workers()
    panel = ImagePanel(viewer, workers)
    qtbot.addWidget(panel)
    yield panel
    panel.stop()
    workers.close()


@pytest.fixture
def raster(tmp_path):
    """Return a 16-bit raster of blue, green, red and NIR with a nodata border."""
    values = RNG.integers(300, 3000, (4, 120, 100)).astype(np.uint16)
    values[3] *= 2
    values[:, :20] = 0
    path = tmp_path / "four.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=120, width=100, count=4, dtype="uint16",
        nodata=0, crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10),
        photometric="MINISBLACK",
    ) as file:  # fmt: skip
        file.write(values)
        for i, name in enumerate(("blue", "green", "red", "nir"), 1):
            file.set_band_description(i, name)
    return path, values


@pytest.fixture
def channels(tmp_path):
    path = tmp_path / "cells.ome.tif"
    data = RNG.integers(100, 900, (4, 96, 80)).astype(np.uint16)
    about = {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "Cy3", "Cy5"]}}
    tifffile.imwrite(path, data, metadata=about, photometric="minisblack")
    return path, data


def pixels(layer):
    data = layer.data[0] if layer.multiscale else layer.data
    return np.asarray(data)


def stretched(values, bands):
    """Return bands with the 2nd and 98th percentile as 0 and 255."""
    raw = values[list(bands)].transpose(1, 2, 0).astype(float)
    low, high = np.percentile(raw[20:], (2, 98), axis=(0, 1))
    shown = np.rint(np.clip((raw - low) * (255 / (high - low)), 0, 255))
    shown[:20] = 0
    return shown


def shows(viewer, values, bands):
    (layer,) = viewer.layers
    found = pixels(layer)
    return layer.rgb and (found[..., :3] == stretched(values, bands)).all()


def choose(box, kind):
    box.setCurrentIndex(box.findData(kind))
    box.activated.emit(box.currentIndex())


def test_raster_of_16_bits_is_shown_in_true_color(viewer, panel, qtbot, raster):
    path, values = raster
    add_image(viewer, open_image(path))
    qtbot.waitUntil(lambda: shows(viewer, values, (2, 1, 0)))
    form = panel.picture
    assert form.colors.currentText() == "True colour"
    assert [box.currentText() for box in form.bands] == ["red", "green", "blue"]
    assert not pixels(viewer.layers[0])[:20, :, 3].any()  # nodata is transparent


def test_false_color_and_stretch_are_remembered(viewer, panel, qtbot, raster):
    path, values = raster
    add_image(viewer, open_image(path))
    form = panel.picture
    choose(form.colors, "false")
    qtbot.waitUntil(lambda: shows(viewer, values, (3, 2, 1)))
    form.limits.setText("600 to 6000; 300 to 3000; 300 to 3000")
    form.limits.setModified(True)
    form.limits.editingFinished.emit()
    assert form.stretch.currentText() == "Custom"
    custom = np.rint((values[3, 50].astype(float) - 600) * (255 / 5400))
    np.testing.assert_array_equal(pixels(viewer.layers[0])[50, :, 0], custom)
    viewer.layers.clear()
    add_image(viewer, open_image(path))
    assert form.colors.currentText() == "False colour (NIR)"
    np.testing.assert_array_equal(pixels(viewer.layers[0])[50, :, 0], custom)


def test_limits_that_are_not_valid_change_nothing(viewer, panel, qtbot, raster):
    path, values = raster
    add_image(viewer, open_image(path))
    qtbot.waitUntil(lambda: shows(viewer, values, (2, 1, 0)))
    before = panel.picture.limits.text()
    for text in ("words", "1 to 2", "9 to 1; 0 to 1; 0 to 1"):
        panel.picture.limits.setText(text)
        panel.picture.limits.setModified(True)
        panel.picture.limits.editingFinished.emit()
        assert panel.picture.limits.text() == before
    assert shows(viewer, values, (2, 1, 0))


@pytest.mark.slow
def test_composite_becomes_one_layer_per_band_and_back(viewer, panel, qtbot, raster):
    path, values = raster
    below = viewer.add_points(np.zeros((1, 2)), name="below")
    add_image(viewer, open_image(path))
    above = viewer.add_points(np.zeros((1, 2)), name="above")
    image = panel.image
    choose(panel.picture.colors, "channels")
    names = [f"four.tif: {name}" for name in ("blue", "green", "red", "nir")]
    assert [x.name for x in viewer.layers] == ["below", *names, "above"]
    assert panel.image is image
    assert panel.layer is viewer.layers[1]
    limits = np.percentile(values[3, 20:], (2, 98))
    layer = viewer.layers[4]
    qtbot.waitUntil(lambda: tuple(layer.contrast_limits) == tuple(limits))
    assert tuple(layer.contrast_limits_range) == (0, 65_535)
    np.testing.assert_array_equal(pixels(layer), values[3])
    choose(panel.picture.colors, "true")
    assert len(viewer.layers) == 3
    assert viewer.layers[0] is below
    assert viewer.layers[2] is above
    viewer.layers.remove(below)
    viewer.layers.remove(above)
    qtbot.waitUntil(lambda: shows(viewer, values, (2, 1, 0)))


def test_channels_have_colors_and_contrast_of_their_own(viewer, qtbot, channels):
    path, data = channels
    layers = add_image(viewer, open_image(path))
    colors = [layer.colormap.name for layer in layers]
    assert colors == ["blue", "green", "orange", "magenta"]
    assert {str(layer.blending) for layer in layers} == {"additive"}
    assert all(layer.visible for layer in layers)
    assert tuple(layers[0].contrast_limits) == (0, 65_535)  # at once
    expected = [tuple(np.percentile(c, (2, 98))) for c in data]
    qtbot.waitUntil(
        lambda: [tuple(layer.contrast_limits) for layer in layers] == expected
    )
    assert {tuple(layer.contrast_limits_range) for layer in layers} == {(0, 65_535)}


@pytest.mark.slow
def test_contrast_that_the_user_sets_is_remembered(viewer, qtbot, channels):
    path, _ = channels
    image = open_image(path)
    layers = add_image(viewer, image)
    qtbot.waitUntil(lambda: layers[0].contrast_limits[1] < 65_535)
    layers[2].contrast_limits = (200, 500)
    qtbot.waitUntil(lambda: display_of(image).picture.stretch == "custom")
    viewer.layers.clear()
    again = add_image(viewer, open_image(path))
    assert tuple(again[2].contrast_limits) == (200, 500)


def test_float_band_gets_contrast_and_the_range_of_its_values(viewer, qtbot, tmp_path):
    path = tmp_path / "heights.tif"
    values = RNG.normal(500, 10, (90, 80)).astype(np.float32)
    values[:9] = -9999
    with rasterio.open(
        path, "w", driver="GTiff", height=90, width=80, count=1, dtype="float32",
        nodata=-9999, crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10),
    ) as file:  # fmt: skip
        file.write(values, 1)
    (layer,) = add_image(viewer, open_image(path))
    low, high = np.percentile(values[9:], (2, 98))
    qtbot.waitUntil(lambda: layer.contrast_limits[0] > 100)
    np.testing.assert_allclose(layer.contrast_limits, (low, high), 1e-5)
    np.testing.assert_allclose(
        layer.contrast_limits_range, (values[9:].min(), values[9:].max()), 1e-5
    )


def test_images_of_8_bits_are_shown_unchanged(viewer, panel, tmp_path):
    path = tmp_path / "photo.tif"
    photo = RNG.integers(90, 120, (64, 48, 3)).astype(np.uint8)
    tifffile.imwrite(path, photo, photometric="rgb")
    add_image(viewer, open_image(path))
    np.testing.assert_array_equal(pixels(viewer.layers[0]), photo)
    assert panel.picture.isHidden()
    show_picture(viewer, panel.image, Picture((2, 1, 0), "full"))
    np.testing.assert_array_equal(pixels(viewer.layers[0]), photo[..., ::-1])
