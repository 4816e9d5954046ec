"""Labels of the view while one paints; once in a real window."""

import numpy as np
import pytest
from napari import Viewer
from napari.utils.notifications import notification_manager

from helpers.canvas import ModelMouse, Mouse, look_at
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.registry import DEFAULT_ENCODER
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.ui.finetune.new_model import NewModelDialog
from napari_uhrseg.ui.finetune.worker import NewModel
from napari_uhrseg.ui.layers.label_layers import add_image

pytestmark = pytest.mark.slow

TWO = Legend((LabelClass(1, "red", "#ff0000"), LabelClass(2, "blue", "#0000ff")))
NEW = NewModel("pixel_classifier", DEFAULT_ENCODER)
HEIGHT, WIDTH = 240, 320
LEFT, RIGHT = (60, 60), (60, 260)
FAR = np.abs(np.arange(WIDTH) - WIDTH // 2) > 50  # columns far from the border


def plain_colours(channels=3, shape=(HEIGHT, WIDTH)):
    """Return an image, dark on the left and light on the right."""
    data = np.full((*shape, channels), 40, np.uint8)
    data[:, shape[1] // 2 :] = 200
    if channels == 1:
        return image_from_array(data[..., 0], name="grey")
    return image_from_array(data, name="colours", rgb=channels == 3)


class Painter:
    """Viewer with empty labels, Correct on, and a new pixel classifier."""

    def __init__(self, viewer, panel, qtbot, folder, image):
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot
        self.live = panel.finetune.live
        (self.ground, *_) = add_image(viewer, image)
        panel.segment.output.use(folder / "labels.zarr")
        panel.labels.begin(image, folder / "labels.zarr")
        (dialog,) = [d for d in panel.findChildren(object) if hasattr(d, "rows")]
        for row, cls in zip(dialog.rows, TWO, strict=False):
            row.line.setText(cls.name)
        dialog.ok.click()
        qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=60_000)
        self.store = panel.segment.view.store
        look_at(viewer, self.ground, *(n / 2 for n in image.shape), zoom=1)
        panel.show_step("Correct")
        panel.finetune.form.use_new(NEW)
        panel.correct.correct.setChecked(True)
        qtbot.waitUntil(lambda: panel.correct.area is not None, timeout=60_000)
        qtbot.waitUntil(lambda: panel.correct.area.layer.visible, timeout=60_000)
        mouse = Mouse if isinstance(viewer, Viewer) else ModelMouse
        self.mouse = mouse(viewer, self.ground)

    def stroke(self, class_id, y, x):
        layer = self.panel.correct.area.layer
        layer.brush_size, layer.selected_label = 15, class_id
        layer.mode = "paint"
        before = np.asarray(self.store.correction[0][:])
        self.mouse.drag((y, x - 15), (y, x), (y, x + 15))
        self.qtbot.waitUntil(
            lambda: not np.array_equal(self.store.correction[0][:], before),
            timeout=60_000,
        )

    def rest(self):
        """Wait until nothing is computed any more."""
        self.qtbot.wait(300)
        self.qtbot.waitUntil(lambda: not self.live.working, timeout=120_000)

    def label(self, y, x):
        """Return the live label at an image pixel; 0: none."""
        layer = self.live.layer
        world = np.array([y, x]) * self.ground.scale[-2:]
        return int(layer.get_value(tuple(world), world=True) or 0)

    def wait_for_labels(self, **expected):
        at = {"left": LEFT, "right": RIGHT}
        self.qtbot.waitUntil(
            lambda: all(self.label(*at[k]) == v for k, v in expected.items()),
            timeout=120_000,
        )


@pytest.fixture
def painter(viewer, panel, qtbot, tmp_path):
    return Painter(viewer, panel, qtbot, tmp_path, plain_colours())


@pytest.mark.gui
def test_labels_appear_with_the_second_class_and_change_with_a_stroke(painter):
    live, viewer = painter.live, painter.viewer
    assert live.isVisible()
    assert "Paint two classes" in live.status.text()
    painter.stroke(1, *LEFT)
    painter.rest()
    painter.qtbot.waitUntil(lambda: "second class" in live.status.text())
    assert "red" in live.status.text()
    assert not np.asarray(live.layer.data).any()
    assert not live.keep.isEnabled()
    painter.stroke(2, *RIGHT)
    painter.wait_for_labels(left=1, right=2)
    painter.rest()
    data = np.asarray(live.layer.data)
    assert data.shape == (HEIGHT, WIDTH)
    expected = np.where(np.arange(WIDTH) < WIDTH // 2, 1, 2)
    assert (data[:, FAR] == expected[FAR]).all()
    assert "up to date" in live.status.text()
    order = [layer.name for layer in viewer.layers]
    assert order.index("colours") < order.index("Live preview")
    paint = painter.panel.correct.area.layer
    assert order.index("Live preview") < list(viewer.layers).index(paint)
    assert viewer.layers.selection.active is paint
    painter.stroke(2, *LEFT)
    painter.stroke(1, *RIGHT)
    painter.wait_for_labels(left=2, right=1)
    check_ends(painter)


def check_ends(painter):
    """Check the switch, the removal of the layer, and the end of painting."""
    live, panel, viewer = painter.live, painter.panel, painter.viewer
    live.switch.click()
    assert live.layer is None
    assert "Live preview" not in [layer.name for layer in viewer.layers]
    assert "off" in live.status.text()
    live.switch.click()
    painter.wait_for_labels(left=2, right=1)
    viewer.layers.remove(live.layer)
    assert not live.switch.isChecked()
    live.switch.click()
    painter.wait_for_labels(left=2, right=1)
    panel.correct.correct.click()
    assert live.layer is None
    assert "Press Correct" in live.status.text()


def test_labels_follow_zoom_and_pan(viewer, panel, qtbot, tmp_path):
    image = plain_colours(shape=(700, 1400))
    painter = Painter(viewer, panel, qtbot, tmp_path, image)
    look_at(viewer, painter.ground, 350, 700, zoom=2)
    painter.rest()
    painter.stroke(1, 350, 650)
    painter.stroke(2, 350, 750)
    qtbot.waitUntil(lambda: painter.label(350, 600) == 1, timeout=120_000)
    painter.rest()
    assert painter.label(350, 1300) == 0
    look_at(viewer, painter.ground, 350, 1200, zoom=2)
    qtbot.waitUntil(lambda: painter.label(350, 1200) == 2, timeout=120_000)
    look_at(viewer, painter.ground, 350, 200, zoom=2)
    qtbot.waitUntil(lambda: painter.label(350, 200) == 1, timeout=120_000)


def test_classifier_is_kept_and_segments_all(painter, tmp_path):
    live, panel, qtbot = painter.live, painter.panel, painter.qtbot
    painter.stroke(1, *LEFT)
    painter.stroke(2, *RIGHT)
    painter.wait_for_labels(left=1, right=2)
    live.keep.click()
    made = tmp_path / "pixel_classifier.safetensors"
    qtbot.waitUntil(lambda: bool(painter.store.runs), timeout=120_000)
    qtbot.waitUntil(lambda: panel.segment.bar.status.text().startswith("Done"))
    assert read_card(made).model == "pixel_classifier"
    assert panel.segment.model.path == made
    found = np.asarray(painter.store.prediction[0][:])
    expected = np.where(np.arange(WIDTH) < WIDTH // 2, 1, 2)
    assert (found[:, FAR] == expected[FAR]).all()
    qtbot.waitUntil(lambda: live.layer is not None, timeout=60_000)
    painter.wait_for_labels(left=1, right=2)
    assert panel.correct.only_corrections.isChecked()
    live.switch.click()
    assert not panel.correct.only_corrections.isChecked()


def test_image_of_one_channel_is_labelled_and_its_window_closed_at_work(
    viewer, panel, qtbot, tmp_path
):
    painter = Painter(viewer, panel, qtbot, tmp_path, plain_colours(1))
    painter.stroke(1, *LEFT)
    painter.stroke(2, *RIGHT)
    painter.wait_for_labels(left=1, right=2)
    painter.stroke(2, *LEFT)
    panel.stop()
    assert "Live preview" not in [layer.name for layer in viewer.layers]


def test_errors_reach_the_user(painter):
    painter.live.switch.setChecked(False)
    painter.panel.finetune.form.use_new(NewModel("pixel_classifier", "no_encoder"))
    painter.live.switch.setChecked(True)
    painter.qtbot.waitUntil(lambda: not painter.live.switch.isChecked(), timeout=60_000)
    shown = [n.message for n in notification_manager.records]
    assert any("no_encoder" in text for text in shown)
    assert painter.live.layer is None
    check_choice(painter)


def check_choice(painter):
    """Check the first choice of a new model, and the choice of a network."""
    part = painter.panel.finetune
    part.new_model.model_button.click()
    (dialog,) = part.findChildren(NewModelDialog)
    assert dialog.method.currentData() == "pixel_classifier"
    dialog.accept()
    assert part.form.start == NEW
    part.form.use_new(NewModel("plain", DEFAULT_ENCODER))
    assert not painter.live.isVisible()
    part.form.use_new(NEW)
    painter.live.set_regions(3)
    assert not painter.live.network.isVisible()
    painter.live.set_regions(4)
    painter.live.network.click()
    (dialog,) = [d for d in part.findChildren(NewModelDialog) if d.isVisible()]
    assert dialog.method.findData("pixel_classifier") < 0
    dialog.accept()
    assert part.form.start.compares
    assert part.form.start.method == "plain"


def test_settings_of_steps_are_hidden_for_a_pixel_classifier(painter):
    form = painter.panel.finetune.form
    assert form.checkpoint.currentText().startswith("new Pixel classifier")
    assert form.length.isHidden()
    assert form.distillation.isHidden()
    form.use_new(NewModel("plain", DEFAULT_ENCODER))
    assert not form.length.isHidden()
    assert not form.distillation.isHidden()
