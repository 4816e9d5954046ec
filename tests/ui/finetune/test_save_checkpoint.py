"""Keep and Import ask before they replace a checkpoint."""

import os
import shutil
from pathlib import Path

import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.types import FineTuneSettings
from napari_uhrseg.ui.finetune.worker import FineTuneRequest
from napari_uhrseg.ui.segment.checkpoints.import_checkpoint import ImportDialog


def offer(part, draft, start):
    """Offer a trained model whose draft is at a path."""
    request = FineTuneRequest(None, start.parent, start, FineTuneSettings(), 0)
    part.offer(FineTuneFinished({}, {}, "Better", draft), request)


@pytest.fixture
def mine(checkpoints, tmp_path) -> Path:
    return Path(shutil.copy(checkpoints[0], tmp_path / "mine.safetensors"))


@pytest.fixture
def answer(monkeypatch):
    """Names typed one after the other, and what is said to being asked about them."""

    def answer(names, *said):
        names, said, asked = iter(names), iter(said), []
        monkeypatch.setattr(
            QFileDialog, "getSaveFileName", lambda *_: (str(next(names)), "")
        )

        def question(parent, title, text):
            asked.append(text)
            return next(said)

        monkeypatch.setattr(QMessageBox, "question", question)
        return asked

    return answer


NO, YES = QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes


def test_keep_asks_about_the_name_with_its_ending(
    panel, checkpoints, mine, answer, qtbot, tmp_path
):
    part, before = panel.finetune, mine.read_bytes()
    draft = Path(shutil.copy(checkpoints[1], tmp_path / "draft.safetensors"))
    offer(part, draft, mine)
    asked = answer([mine.with_suffix(""), ""], NO)  # then the dialog is cancelled
    part.result.keep.click()
    qtbot.waitUntil(part.result.isEnabled, timeout=20_000)
    assert mine.read_bytes() == before
    assert asked[0].startswith("mine.safetensors already exists")
    assert part.trained is not None
    answer([mine.with_suffix(""), tmp_path / "v1.5"], NO)  # another one instead
    part.result.keep.click()
    qtbot.waitUntil((tmp_path / "v1.5.safetensors").exists, timeout=20_000)
    assert mine.read_bytes() == before
    qtbot.waitUntil(lambda: part.trained is None, timeout=20_000)


def test_keep_replaces_what_it_was_told_to(
    panel, checkpoints, mine, answer, qtbot, tmp_path
):
    part, before = panel.finetune, mine.read_bytes()
    draft = Path(shutil.copy(checkpoints[1], tmp_path / "draft.safetensors"))
    offer(part, draft, mine)
    assert len(answer([mine.with_suffix("")], YES)) == 0
    part.result.keep.click()
    qtbot.waitUntil(lambda: part.trained is None, timeout=20_000)
    assert mine.read_bytes() != before


def test_import_asks_about_the_name_with_its_ending(panel, mine, answer, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = mine.read_bytes()
    asked = answer([mine.with_suffix(""), ""], NO)
    part, other = panel.segment.model, mine.with_name("net.pth")
    other.touch()
    part.use(other)
    (dialog,) = part.findChildren(ImportDialog)
    dialog.accept()
    assert len(asked) == 1
    assert part.browse.isEnabled()
    assert mine.read_bytes() == before
