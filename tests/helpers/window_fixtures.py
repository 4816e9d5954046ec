"""Fixtures of all tests that open a window; a conftest.py imports those it uses."""

from pathlib import Path

import pytest
from qtpy.QtCore import QSettings, QTimer
from qtpy.QtWidgets import QDialog

from helpers.gated_network import save_networks
from helpers.patient_bot import WAIT_MS
from napari_uhrseg.ui.session.session_file import session_path


@pytest.fixture(autouse=True)
def no_remembered_choices():
    """Forget the checkpoints, labels, pictures and sessions of earlier tests."""
    QSettings("napari-uhrseg", "napari-uhrseg").clear()
    session_path().unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def dialogs_need_answers(monkeypatch):
    """Fail a test with a dialog that it does not answer, instead of waiting."""
    execute, unanswered = QDialog.exec, []

    def show(dialog: QDialog) -> int:
        def give_up() -> None:
            unanswered.append(dialog.windowTitle())
            dialog.reject()

        timer = QTimer(dialog)
        timer.setSingleShot(True)
        timer.timeout.connect(give_up)
        timer.start(WAIT_MS)
        try:
            return execute(dialog)
        finally:
            timer.stop()

    monkeypatch.setattr(QDialog, "exec", show)
    yield
    assert unanswered == []


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory) -> Path:
    """Return a checkpoint that is quick to plan with, and waits at no gate."""
    folder = tmp_path_factory.mktemp("small")
    return save_networks(folder, "tu-test_efficientnet")[0]
