"""Tests of importing checkpoints of other programs in the panel."""

import os
from pathlib import Path

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QDialogButtonBox, QFileDialog

from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.ui.segment.checkpoints.import_checkpoint import (
    ImportDialog,
    default_target,
)
from napari_uhrseg.ui.workers.import_torch import keep_triton_out


@pytest.fixture
def folder(tmp_path) -> Path:
    keep_triton_out()
    import segmentation_models_pytorch as smp

    net = smp.Unet(
        "tu-test_efficientnet", encoder_weights=None, classes=2,
        decoder_channels=(16, 8, 8, 8, 8),
    )  # fmt: skip
    net.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


@pytest.fixture
def part(panel):
    return panel.segment.model


def asked(part, path: Path) -> ImportDialog:
    """Return the dialog that choosing the path opens."""
    part.use(path)
    (dialog,) = part.findChildren(ImportDialog)
    assert dialog.isVisible()
    return dialog


def press(dialog, button=QDialogButtonBox.StandardButton.Ok) -> None:
    dialog.findChild(QDialogButtonBox).button(button).click()


def choose(box, data) -> None:
    box.setCurrentIndex(box.findData(data))
    assert box.currentData() == data


@pytest.mark.slow
def test_checkpoint_import_of_smp_folder(part, folder, qtbot):
    for chosen, name in (("", "unet"), ("config.json", "unet_2"),
                         ("model.safetensors", "unet_3")):  # fmt: skip
        dialog = asked(part, folder / chosen)
        assert dialog.method.count() == 1
        assert not dialog.second.isVisibleTo(dialog)
        choose(dialog.legend, "inria")
        press(dialog)
        assert not part.browse.isEnabled()
        made = folder.with_name(f"{name}.safetensors")
        qtbot.waitUntil(lambda made=made: part.path == made, timeout=30_000)
        qtbot.waitUntil(part.browse.isEnabled)
        qtbot.waitUntil(lambda: not part.findChildren(ImportDialog))
        assert part.model.currentData() == "plain"
        assert [c.name for c in part.card.legend] == ["background", "building"]
        assert read_card(made).name == "unet"
    assert default_target(folder) == folder.with_name("unet_4.safetensors")


def test_checkpoint_import_asks_only_glnet_for_second_file(part, tmp_path):
    (tmp_path / "net.pth").touch()
    dialog = asked(part, tmp_path / "net.pth")
    choose(dialog.method, "isdnet")
    assert not dialog.second.isVisibleTo(dialog)
    dialog.second.setText("other.pth")
    assert dialog.request().second is None
    choose(dialog.method, "glnet")
    assert dialog.second.isVisibleTo(dialog)
    assert dialog.request().second == Path("other.pth")
    press(dialog, QDialogButtonBox.StandardButton.Cancel)
    assert part.browse.isEnabled()


def test_checkpoint_import_reports_error_once(part, tmp_path, qtbot):
    import torch

    torch.save({"a": torch.zeros(3)}, tmp_path / "net.pth")
    before = len(notification_manager.records)
    press(asked(part, tmp_path / "net.pth"))
    qtbot.waitUntil(lambda: len(notification_manager.records) > before, timeout=30_000)
    qtbot.waitUntil(part.browse.isEnabled)
    (record,) = notification_manager.records[before:]
    assert "not of ISDNet" in record.message
    assert not (tmp_path / "net.safetensors").exists()


def test_checkpoint_import_asks_for_path_if_folder_is_read_only(
    part, folder, qtbot, monkeypatch, tmp_path
):
    other = tmp_path / "elsewhere" / "mine"
    answers = [str(other), ""]
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *args: (answers.pop(0), "")
    )
    press(asked(part, folder))
    made = other.with_suffix(".safetensors")
    qtbot.waitUntil(lambda: part.path == made, timeout=30_000)
    qtbot.waitUntil(part.browse.isEnabled)
    qtbot.waitUntil(lambda: not part.findChildren(ImportDialog))
    press(asked(part, folder))  # cancelled there
    assert part.browse.isEnabled()
    assert not folder.with_name("unet.safetensors").exists()


def test_own_checkpoint_is_chosen_without_import(part, folder, qtbot):
    press(asked(part, folder))
    made = folder.with_name("unet.safetensors")
    qtbot.waitUntil(lambda: part.path == made, timeout=30_000)
    qtbot.waitUntil(lambda: not part.findChildren(ImportDialog))
    made.replace(folder / "model.safetensors")
    part.use(folder / "model.safetensors")
    assert not part.findChildren(ImportDialog)
    qtbot.waitUntil(lambda: part.path == folder / "model.safetensors", timeout=30_000)
