"""Answers that come when other labels are shown than those they were asked for."""

from threading import Event

import pytest

from helpers.two_images import WAIT, correct, leave_draft
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.finetune import worker

pytestmark = pytest.mark.gui


@pytest.fixture
def every_undo_is_long(monkeypatch):
    monkeypatch.setattr("napari_uhrseg.ui.correct.write_queue.MAX_SHORT_PARTS", 0)


@pytest.mark.slow
@pytest.mark.usefixtures("every_undo_is_long")
@pytest.mark.parametrize("painting", [False, True])
def test_a_large_undo_leaves_other_labels_alone(two, painting):
    correct(two)
    if not painting:
        two.part.correct.click()
    two.until(two.part.undo.isEnabled)
    held = two.block_writes()
    two.part.undo.click()
    two.show(1)
    held.set()
    two.settle()
    assert two.corrected(1) == {2: 400}
    assert two.part.correct.isEnabled()
    two.show(0)  # and is still possible where it was asked for
    two.until(two.part.undo.isEnabled)
    two.part.undo.click()
    two.until(lambda: two.corrected(0) == {})
    assert two.corrected(1) == {2: 400}


@pytest.mark.usefixtures("every_undo_is_long")
def test_labels_removed_before_a_large_undo_leave_correct_usable(two):
    correct(two)
    two.until(two.part.undo.isEnabled)
    held = two.block_writes()
    two.part.undo.click()
    two.viewer.layers.remove(two.views[0].layer)
    held.set()
    two.settle()
    assert two.part.correct.isEnabled()
    two.show(1)
    correct(two)


def test_labels_are_whole_again_where_the_corrections_were_shown_alone(two):
    two.part.only_corrections.click()
    assert two.views[0].pyramid.only_corrections
    two.show(1)
    assert not two.part.only_corrections.isChecked()
    two.show(0)
    assert not two.views[0].pyramid.only_corrections


def test_labels_shown_while_others_are_opened_can_be_corrected(two):
    held = two.block_writes()
    two.part.correct.click()
    two.show(1)
    two.part.correct.click()
    held.set()
    two.until(lambda: two.part.area is not None)
    assert two.views[1].corrections is not None
    two.settle()
    Corrections.open(two.views[0].store).close()  # nobody holds the others
    two.show(0)
    correct(two)


def test_labels_left_and_shown_again_while_they_are_opened(two):
    correct(two)
    held = two.block_writes()  # so the corrections are not closed yet
    for number in (1, 0):
        two.show(number)
    two.part.correct.click()
    held.set()
    two.until(lambda: two.part.area is not None)
    assert two.views[0].corrections is not None


def test_what_is_imported_goes_to_the_labels_it_was_read_for(two):
    asked = two.views[0]
    two.show(1)
    two.part.annotation_import.ready.emit(asked, lambda c: c.fill(Roi(0, 0, 50, 50), 3))
    two.settle()
    assert two.corrected(1) == {2: 400}


def test_keep_leaves_what_was_learnt_from_other_labels(
    two, checkpoints, tmp_path, monkeypatch
):
    part, held, real = two.panel.finetune, Event(), worker.save_as
    paths = [
        leave_draft(view, said, checkpoints[0])
        for view, said in zip(two.views, ("one", "two"), strict=True)
    ]

    def slow(*args):
        held.wait(WAIT)
        return real(*args)

    def offered(number):
        two.show(number)
        two.until(lambda: part.trained is not None)
        assert part.trained.result.path == paths[number]

    monkeypatch.setattr(worker, "save_as", slow)
    offered(1)
    offered(0)
    target = tmp_path / "kept.safetensors"
    part.keep(target)
    offered(1)
    held.set()
    two.until(lambda: two.panel.segment.model.path == target)
    assert not paths[0].exists()
    assert paths[1].exists()
    assert part.trained.result.path == paths[1]
    assert not part.result.isHidden()
