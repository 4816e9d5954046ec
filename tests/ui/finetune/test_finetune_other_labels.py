"""Fine-tuning while the person goes on to another image."""

import shutil
from threading import Event

import numpy as np
import pytest
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QApplication

from helpers.two_images import WAIT, leave_draft
from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.ui.finetune import comparison_layer, drafts, worker
from napari_uhrseg.ui.finetune.result import SHOW
from napari_uhrseg.ui.finetune.state import FineTuneState

pytestmark = pytest.mark.gui


@pytest.fixture
def training(two, checkpoints, monkeypatch):
    """One that goes on, on the first labels, until this event is set."""
    part, held = two.panel.finetune, Event()

    def train(stop, request, output):
        held.wait(WAIT)
        shutil.copy(checkpoints[1], output)
        yield FineTuneFinished({}, {}, "learnt from the first", output)

    monkeypatch.setattr(worker, "train", train)
    part.form.use(checkpoints[0])
    two.until(lambda: two.panel.segment.form.hardware.device is not None)
    return held


def end(two, held):
    held.set()
    two.until(lambda: two.panel.finetune.state is not FineTuneState.TRAINING)


def offered(two):
    two.until(lambda: two.panel.finetune.state is FineTuneState.UNDECIDED)


def test_what_was_learnt_is_offered_with_its_own_labels(two, training, checkpoints):
    part = two.panel.finetune
    other = leave_draft(two.views[1], "learnt from the second", checkpoints[1])
    part.start()
    two.show(1)
    end(two, training)
    assert "show the labels of first" in part.bar.status.text()
    offered(two)
    assert part.trained.result.path == other
    two.show(0)
    offered(two)
    assert part.result.message.text() == "Learnt from the first."
    assert part.result.changes.isEnabled()


def test_what_is_kept_nowhere_else_stays_but_is_not_compared(
    two, training, tmp_path, monkeypatch
):
    """As with labels that can only be read."""
    part = two.panel.finetune
    draft = tmp_path / "draft.safetensors"
    monkeypatch.setattr(drafts, "new_draft", lambda *_: draft)
    part.start()
    two.show(1)
    end(two, training)
    assert not part.result.isHidden()
    assert not part.result.changes.isEnabled()
    part.result.changesWanted.emit()
    assert not part.comparison.running
    two.show(0)
    assert part.result.changes.isEnabled()
    part.discard()


def test_a_comparison_is_given_up_where_other_labels_are_shown(
    two, checkpoints, monkeypatch
):
    part, view, held = two.panel.finetune, two.views[0], Event()

    def changed(stop, request, roi, new, legend):
        held.wait(WAIT)
        labels = np.ones((roi.height, roi.width), np.uint8)
        return worker.PredictionDifference(roi, labels, legend, 1.0)

    monkeypatch.setattr(comparison_layer, "compare_predictions", changed)
    leave_draft(view, "learnt from the first", checkpoints[1])
    two.show(1)
    two.show(0)
    offered(two)
    part.result.changes.click()
    two.show(1)
    assert not part.comparison.running
    held.set()
    assert QThreadPool.globalInstance().waitForDone(20_000)
    QApplication.processEvents()
    assert part.comparison.layer is None
    two.show(0)
    assert view.layer.visible
    offered(two)
    assert part.result.changes.text() == SHOW
    assert part.result.keep.isEnabled()
    part.result.changes.click()
    two.until(lambda: part.comparison.layer is not None)
    assert not view.layer.visible
    two.show(1)
    assert not view.layer.visible  # the colours of two labels would mix
    two.show(0)
    assert view.layer.visible
