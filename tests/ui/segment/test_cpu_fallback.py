"""Tests of the dialog that asks whether a run continues on the CPU."""

import pytest
from qtpy.QtWidgets import QApplication, QMessageBox

from helpers.fake_gpu import fake_gpu
from helpers.wait import wait_for_end


@pytest.fixture
def gpu(monkeypatch):
    """Let torch find a GPU; return the event that fills its memory."""
    return fake_gpu(monkeypatch)


@pytest.fixture
def full_gpu(gpu, ready):
    """Return the panel with a plan for a GPU whose memory is full by now."""
    assert ready.segment.form.hardware.device == "mps"
    gpu.set()
    return ready


def asked() -> list[QMessageBox]:
    boxes = QApplication.topLevelWidgets()
    return [b for b in boxes if isinstance(b, QMessageBox) and b.isVisible()]


def question(qtbot) -> QMessageBox:
    qtbot.waitUntil(lambda: bool(asked()), timeout=30_000)
    return asked()[0]


def press(box, text):
    (button,) = [b for b in box.buttons() if b.text().replace("&", "") == text]
    button.click()


@pytest.mark.slow
def test_cpu_fallback_accepted_writes_labels(full_gpu, qtbot):
    full_gpu.segment.bar.start.click()
    box = question(qtbot)
    assert "Apple GPU has too little memory for one window" in box.text()
    assert not box.isModal()  # one can look around meanwhile
    press(box, "Continue on the CPU")
    assert wait_for_end(full_gpu, qtbot).startswith("Done")


def test_cpu_fallback_declined_ends_run(full_gpu, qtbot):
    full_gpu.segment.bar.start.click()
    press(question(qtbot), "End the run")
    assert "failed" in wait_for_end(full_gpu, qtbot)


@pytest.mark.slow
def test_cpu_fallback_dialog_closes_on_cancel(full_gpu, qtbot):
    full_gpu.segment.bar.start.click()
    question(qtbot)
    full_gpu.segment.bar.cancel.click()
    wait_for_end(full_gpu, qtbot)
    qtbot.waitUntil(lambda: not asked())
