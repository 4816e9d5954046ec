"""Fine-tuning while the user works on another image."""

import shutil

import pytest
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QApplication

from helpers.finetune_panel import set_custom
from helpers.gated_network import FORWARD
from helpers.two_images import leave_draft
from napari_uhrseg.ui.finetune.drafts import FOLDER
from napari_uhrseg.ui.finetune.result import SHOW
from napari_uhrseg.ui.finetune.state import FineTuneState

pytestmark = pytest.mark.slow


@pytest.fixture
def training(two, checkpoints):
    """Start a training on the first labels, which waits in its first step."""
    part = two.panel.finetune
    part.form.use(checkpoints[0])
    set_custom(part, steps=1, batch_size=1)
    two.until(lambda: two.panel.segment.form.hardware.device is not None)

    def start():
        FORWARD.close()
        part.start()
        two.until(FORWARD.reached.is_set)

    return start


def end(two):
    FORWARD.open()
    two.until(lambda: two.panel.finetune.state is not FineTuneState.TRAINING)


def offered(two):
    two.until(lambda: two.panel.finetune.state is FineTuneState.UNDECIDED)


def test_trained_model_is_offered_with_its_own_labels(two, training, checkpoints):
    part = two.panel.finetune
    other = leave_draft(two.views[1], "learnt from the second", checkpoints[1])
    training()
    two.show(1)
    end(two)
    offered(two)
    assert part.trained.result.path == other
    for decide in (part.refresh, part.discard):
        decide()
        assert "show the labels of first" in part.bar.status.text()
    two.show(0)
    offered(two)
    assert "show the labels of" not in part.bar.status.text()
    assert part.trained.request.store == two.views[0].store.path
    assert part.trained.result.path != other
    text = part.trained.result.comparison
    assert part.result.message.text() == f"{text[:1].upper()}{text[1:]}."
    assert part.result.changes.isEnabled()


def test_what_is_kept_nowhere_else_stays_but_is_not_compared(two, training):
    part = two.panel.finetune
    # the folder of drafts cannot be made, as in labels that are read-only
    (two.views[0].store.path / FOLDER).touch()
    training()
    two.show(1)
    end(two)
    assert not part.result.isHidden()
    assert not part.result.changes.isEnabled()
    part.result.changesWanted.emit()
    assert not part.comparison.running
    two.show(0)
    assert part.result.changes.isEnabled()
    part.discard()


def test_a_comparison_is_given_up_where_other_labels_are_shown(two, checkpoints):
    part, view = two.panel.finetune, two.views[0]
    two.until(lambda: two.panel.segment.form.hardware.device is not None)
    draft = leave_draft(view, "learnt from the first", checkpoints[0])
    shutil.copy(checkpoints[1], draft)
    two.show(1)
    two.show(0)
    offered(two)
    FORWARD.close()
    part.result.changes.click()
    two.until(FORWARD.reached.is_set)
    two.show(1)
    assert not part.comparison.running
    FORWARD.open()
    assert QThreadPool.globalInstance().waitForDone(600_000)
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
