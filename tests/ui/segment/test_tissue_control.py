"""Control of the tissue mask, without a window."""

import numpy as np
import pytest
from napari.components import ViewerModel

from helpers.label_stores import LEGEND
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.tissue.stored_mask import read_tissue, write_tissue
from napari_uhrseg.types import AreaSize, TissueMask
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.segment.tissue import TissueControl
from napari_uhrseg.ui.workers.worker import Workers

SHAPE = (300, 200)


@pytest.fixture
def image():
    data = np.full((*SHAPE, 3), (240, 238, 242), np.uint8)
    data[100:200, 50:150] = (180, 90, 160)
    return image_from_array(
        data, name="slide", rgb=True, pixel_size=(0.5, 0.5), unit="micrometer"
    )


@pytest.fixture
def control(image, qtbot):
    viewer, workers = ViewerModel(), Workers()
    made = TissueControl(viewer, workers)
    qtbot.addWidget(made)
    (layer,) = add_image(viewer, image)
    made.set_image(layer, image)
    made.piece.setText("100 um2")
    made.viewer = viewer
    yield made
    made.close_editor()
    workers.close()


def layer_of(control, qtbot):
    qtbot.waitUntil(lambda: "Tissue" in control.viewer.layers)
    return control.viewer.layers["Tissue"]


def test_detected_mask_is_shown_and_used_after_apply(control, image, qtbot):
    assert control.run_mask is None
    assert not control.only.isEnabled()
    control.detect.click()
    layer = layer_of(control, qtbot)
    shown = np.asarray(layer.data) > 0
    assert shown[110:190, 60:140].all()
    assert not shown[:80].any()
    np.testing.assert_array_equal(layer.scale, (0.5, 0.5))
    assert "of the image" in control.result.text()
    assert control.run_mask is None  # not before Apply
    with qtbot.waitSignal(control.changed):
        control.apply.click()
    np.testing.assert_array_equal(control.run_mask.pixels, shown)
    assert control.run_mask.settings.smallest_piece == AreaSize(100, "µm²")
    qtbot.waitUntil(lambda: "Tissue" not in control.viewer.layers)
    control.only.click()
    assert control.run_mask is None


def test_settings_change_the_preview(control, qtbot):
    control.detect.click()
    layer = layer_of(control, qtbot)
    control.form.set_values({"saturation": 1.0, "density": 3.0})
    qtbot.waitUntil(lambda: not np.asarray(layer.data).any())
    control.piece.setText("5 apples")
    control.piece.setModified(True)
    control.piece.editingFinished.emit()
    qtbot.waitUntil(lambda: "is not an area" in control.result.text())


def test_painted_mask_is_kept_with_the_labels(control, image, tmp_path, qtbot):
    with LabelStore.create(tmp_path / "a.zarr", image, LEGEND) as store:
        control.set_store(store)
        control.detect.click()
        layer = layer_of(control, qtbot)
        layer.data[0:10, 0:10] = 1
        control.apply.click()

        def is_kept() -> bool:
            found = read_tissue(store.path, SHAPE)
            return found is not None and found.source == "corrected by the user"

        qtbot.waitUntil(is_kept)
        assert read_tissue(store.path, SHAPE) == control.run_mask
        assert control.run_mask.pixels[0:10, 0:10].all()


def test_discard_and_removed_layer_change_nothing(control, qtbot):
    for close in (
        control.discard.click,
        lambda: control.viewer.layers.remove("Tissue"),
    ):
        control.detect.click()
        layer_of(control, qtbot)
        close()
        qtbot.waitUntil(lambda: "Tissue" not in control.viewer.layers)
        assert control.run_mask is None
        assert control.editor.isHidden()
        assert control.detect.isEnabled()


def test_mask_of_opened_labels_is_restored(control, image, tmp_path, qtbot):
    pixels = np.zeros(SHAPE, bool)
    pixels[5:9] = True
    mask = TissueMask.of(pixels, SHAPE, "corrected by the user")
    with LabelStore.create(tmp_path / "a.zarr", image, LEGEND) as store:
        write_tissue(store, mask)
        with qtbot.waitSignal(control.changed):
            control.restore(store, image)
    assert control.run_mask == mask
    assert control.only.text() == "Only tissue (1%)"
    control.detect.click()  # shows the mask that is kept
    np.testing.assert_array_equal(np.asarray(layer_of(control, qtbot).data), pixels)


def test_image_without_colours_has_no_detection(control):
    grey = image_from_array(np.zeros((20, 20), np.uint8), name="grey")
    (layer,) = add_image(control.viewer, grey)
    control.set_image(layer, grey)
    assert not control.detect.isEnabled()
