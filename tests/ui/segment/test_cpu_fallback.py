"""Tests of the dialog that asks whether a run continues on the CPU."""

import pytest
from qtpy.QtWidgets import QApplication, QMessageBox

from helpers.wait import wait_for_end
from napari_uhrseg.engine.events import Planned
from napari_uhrseg.engine.inference import segment as module
from napari_uhrseg.errors import DeviceError

pytestmark = pytest.mark.gui


@pytest.fixture
def too_small(monkeypatch):
    """A run whose device has too little memory from the beginning."""
    real = module.segment

    def segment(*args, **kwargs):
        (fall_back,) = [a for a in args if hasattr(a, "_over")]
        for event in real(*args, **kwargs):
            yield event
            if isinstance(event, Planned) and not fall_back("Fake GPU is too small."):
                raise DeviceError("Fake GPU is too small.", "Use the CPU.")

    monkeypatch.setattr(module, "segment", segment)


def asked() -> list[QMessageBox]:
    boxes = QApplication.topLevelWidgets()
    return [b for b in boxes if isinstance(b, QMessageBox) and b.isVisible()]


def question(qtbot) -> QMessageBox:
    qtbot.waitUntil(lambda: bool(asked()), timeout=30_000)
    return asked()[0]


def press(box, text):
    (button,) = [b for b in box.buttons() if b.text().replace("&", "") == text]
    button.click()


def test_cpu_fallback_accepted_writes_labels(ready, too_small, qtbot):
    ready.segment.bar.start.click()
    box = question(qtbot)
    assert "Fake GPU is too small" in box.text()
    assert not box.isModal()  # one can look around meanwhile
    press(box, "Continue on the CPU")
    assert wait_for_end(ready, qtbot).startswith("Done")


def test_cpu_fallback_declined_ends_run(ready, too_small, qtbot):
    ready.segment.bar.start.click()
    press(question(qtbot), "End the run")
    assert "failed" in wait_for_end(ready, qtbot)


def test_cpu_fallback_dialog_closes_on_cancel(ready, too_small, qtbot):
    ready.segment.bar.start.click()
    question(qtbot)
    ready.segment.bar.cancel.click()
    wait_for_end(ready, qtbot)
    qtbot.waitUntil(lambda: not asked())
