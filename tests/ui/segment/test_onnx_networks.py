"""ONNX networks in the panel: choice, description, and training that is refused."""

import pytest
from qtpy.QtWidgets import QDialogButtonBox

from helpers.corrections import correct
from helpers.onnx_networks import DEEPNESS, export, small_network
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.onnx.card import card_path
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.finetune.state import FineTuneState
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.segment.checkpoints.onnx_description import (
    OnnxDescriptionDialog,
)

OK = QDialogButtonBox.StandardButton.Ok


@pytest.fixture
def part(panel):
    return panel.segment.model


def asked(part, path, qtbot) -> OnnxDescriptionDialog:
    """Return the dialog that choosing the network opens."""
    part.use(path)
    qtbot.waitUntil(
        lambda: bool(part.findChildren(OnnxDescriptionDialog)), timeout=10_000
    )
    (dialog,) = part.findChildren(OnnxDescriptionDialog)
    return dialog


def test_network_with_metadata_is_chosen(part, tmp_path, qtbot):
    path = export(small_network(), tmp_path / "net.onnx", DEEPNESS)
    part.use(path)
    qtbot.waitUntil(lambda: part.path == path, timeout=10_000)
    assert part.model.currentText() == "ONNX network"
    assert "cannot be trained" in part.model.toolTip()
    assert [c.name for c in part.card.legend] == ["background", "field", "water"]


def test_network_without_metadata_is_described_once(part, tmp_path, qtbot):
    path = export(small_network(), tmp_path / "net.onnx", window=48)
    dialog = asked(part, path, qtbot)
    assert dialog.names.text() == "class 1, class 2, class 3"
    assert dialog.side.text() == "48"
    ok = dialog.findChild(QDialogButtonBox).button(OK)
    for line, text in ((dialog.names, "a, a, b"), (dialog.mean, "none")):
        before = line.text()
        line.setText(text)
        ok.click()
        assert dialog.isVisible()
        assert "not complete" in dialog.problem.text()
        line.setText(before)
    dialog.names.setText("wall, roof, door")
    dialog.pixel_size.setText("0.1")
    ok.click()
    qtbot.waitUntil(lambda: part.path == path, timeout=10_000)
    assert card_path(path).is_file()
    assert [c.name for c in part.card.legend] == ["wall", "roof", "door"]
    assert part.card.spec.pixel_size == 0.1
    part.use(path)
    assert not part.findChildren(OnnxDescriptionDialog)


def test_training_states_why_it_cannot_start(viewer, panel, tmp_path, image, qtbot):
    path = export(small_network(), tmp_path / "net.onnx", DEEPNESS)
    legend = read_card(path).legend
    with LabelStore.create(tmp_path / "labels.zarr", image, legend) as store:
        correct(store, Roi(10, 10, 50, 50), 1)
    panel.segment.model.use(path)
    add_image(viewer, image)
    panel.labels.open(tmp_path / "labels.zarr")
    qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=30_000)
    qtbot.waitUntil(lambda: panel.segment.model.path == path, timeout=10_000)
    panel.show_step("Train")
    part = panel.finetune
    qtbot.waitUntil(lambda: "ONNX" in part.bar.status.text(), timeout=30_000)
    assert part.state is FineTuneState.BLOCKED
    assert not part.bar.start.isEnabled()
