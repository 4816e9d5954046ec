"""New labels, some strokes, and a new model trained on them."""

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

from helpers.corrections import squares
from helpers.finetune_panel import paint, set_custom, train, wait_for_summary
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.registry import DEFAULT_ENCODER, REGISTRY, build
from napari_uhrseg.types import LabelClass, Legend, Roi
from napari_uhrseg.ui.finetune.new_model import NewModelDialog, offered_encoders
from napari_uhrseg.ui.image.new_labels_dialog import NewLabelsDialog
from napari_uhrseg.ui.layers.label_layers import add_image

TWO = Legend((LabelClass(1, "a", "#000000"), LabelClass(2, "b", "#ffffff")))


@pytest.fixture
def opened(viewer, panel, qtbot, tmp_path):
    """A picture without any labels, the tab Train shown."""
    truth, image = squares((576, 640))
    add_image(viewer, image)
    panel.segment.output.use(tmp_path / "labels.zarr")
    panel.show_step("Train")
    qtbot.waitUntil(lambda: panel.finetune.isVisible())
    return panel, truth


@pytest.fixture
def parent(qtbot):
    widget = QWidget()
    qtbot.addWidget(widget)
    return widget


def begin_labels(panel, qtbot, names):
    panel.finetune.new_model.labels_button.click()
    (dialog,) = panel.findChildren(NewLabelsDialog)
    for row, name in zip(dialog.rows, names, strict=False):
        row.line.setText(name)
    dialog.ok.click()
    qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=20_000)
    return panel.segment.view.store


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "started"),
    [
        (DEFAULT_ENCODER, "ImageNet weights of tf_efficientnet_lite0"),
        ("tu-mobilenetv4_conv_small_050", "random weights"),
    ],
)
def test_new_model_is_trained_from_strokes_alone(
    encoder, started, opened, qtbot, monkeypatch, tmp_path
):
    cache = "huggingface_hub.constants.HF_HUB_CACHE"
    monkeypatch.setattr(cache, str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    panel, truth = opened
    part = panel.finetune
    store = begin_labels(panel, qtbot, ["dark", "light"])
    assert [c.name for c in store.legend] == ["dark", "light"]
    assert not store.runs
    paint(store, truth, *(Roi(y, x, 40, 40) for y in (0, 300) for x in (0, 200, 400)))
    compares = encoder == DEFAULT_ENCODER
    if compares:
        part.new_model.ask_network()
    else:
        part.new_model.model_button.click()
    (dialog,) = part.findChildren(NewModelDialog)
    assert "dark, light" in dialog.classes.text()
    dialog.method.setCurrentIndex(dialog.method.findData("plain"))
    assert dialog.encoder.currentData() == DEFAULT_ENCODER
    dialog.encoder.setCurrentIndex(dialog.encoder.findData(encoder))
    dialog.accept()
    assert part.form.length.currentText().startswith("From scratch")
    set_custom(part, steps=2, batch_size=2)
    assert "window" in wait_for_summary(part, qtbot)
    train(part, qtbot)
    assert part.bar.status.text() == "Done: 2 steps."
    told = [n.message for n in notification_manager.records]
    random = started == "random weights"
    assert any("starts from random weights" in text for text in told) == random
    check_comparison(part, compares)
    assert part.trained.target == tmp_path / "plain.safetensors"
    part.keep(part.trained.target)
    qtbot.waitUntil(
        lambda: panel.segment.model.path == tmp_path / "plain.safetensors",
        timeout=20_000,
    )
    card = read_card(tmp_path / "plain.safetensors")
    assert card.model == "plain"
    assert card.arguments["encoder"] == encoder
    assert card.encoder_weights.startswith(started)
    assert [c.name for c in card.legend] == ["dark", "light"]
    assert card.parent is None
    assert part.form.start == tmp_path / "plain.safetensors"


def check_comparison(part, compares):
    """Check that a classifier and the network are compared on held-out regions."""
    header, result = part.result.table.headerItem(), part.trained.result
    names = [header.text(k) for k in (1, 2)]
    assert names == (["Classifier", "Network"] if compares else ["Before", "After"])
    assert part.result.table.isVisible() == compares
    assert bool(result.before) == bool(result.after) == compares
    assert ("pixel classifier" in part.result.message.text()) == compares


def test_the_dialog_refuses_classes_that_cannot_be(parent):
    dialog = NewLabelsDialog(parent)
    first, second, third = dialog.rows
    assert not dialog.ok.isEnabled()
    first.line.setText("road")
    assert "at least two" in dialog.note.text()
    second.line.setText("road ")
    assert "same name" in dialog.note.text()
    assert not dialog.ok.isEnabled()
    second.line.setText("")
    third.line.setText("field")
    assert dialog.ok.isEnabled()
    dialog.add.click()
    dialog.rows[3].line.setText("water")
    legend = dialog.legend()
    assert [(c.id, c.name) for c in legend] == [(1, "road"), (2, "field"), (3, "water")]
    assert len({c.color for c in legend}) == 3
    dialog.reject()


def test_a_colour_is_chosen(parent, monkeypatch):
    from qtpy.QtGui import QColor
    from qtpy.QtWidgets import QColorDialog

    dialog = NewLabelsDialog(parent)
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#123456"))
    row = dialog.rows[0]
    row.line.setText("x")
    dialog.rows[1].line.setText("y")
    row.button.click()
    assert dialog.legend().named("x").color == "#123456"
    dialog.reject()


@pytest.mark.slow
def test_every_method_is_offered_with_encoders_it_takes(parent):
    dialog = NewModelDialog(TWO, parent)
    assert dialog.method.count() == len(REGISTRY)
    for row, name in enumerate(REGISTRY):
        dialog.method.setCurrentIndex(row)
        assert dialog.sentence.text() == REGISTRY[name].sentence
        offered = offered_encoders(name)
        assert dialog.encoder.count() == len(offered)
        smallest = min(offered, key=lambda e: e.parameters)
        network = build(name, {"encoder": smallest.name}, TWO)
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        assert millions > 0.9 * smallest.parameters
    dialog.reject()


def test_new_labels_do_not_touch_what_is_at_the_output(opened, qtbot, tmp_path):
    panel, _ = opened
    (tmp_path / "labels.zarr").mkdir()
    store = begin_labels(panel, qtbot, ["a", "b"])
    assert store.path == tmp_path / "labels_2.zarr"
    assert panel.segment.output.path == store.path
    assert not np.asarray(store.prediction[0][:]).any()


def test_the_dialogs_are_used_with_the_keyboard(opened, qtbot):
    panel, _ = opened
    panel.finetune.new_model.labels_button.setFocus()
    qtbot.keyClick(panel.finetune.new_model.labels_button, Qt.Key.Key_Return)
    (dialog,) = panel.findChildren(NewLabelsDialog)
    qtbot.waitUntil(dialog.isVisible)
    for row, name in zip(dialog.rows, ("one", "two"), strict=False):
        qtbot.keyClicks(row.line, name)
    qtbot.keyClick(dialog.ok, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=20_000)
    assert [c.name for c in panel.segment.view.legend] == ["one", "two"]
