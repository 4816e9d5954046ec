"""Answers that come when other labels are shown than those they were asked for."""

import pytest

from helpers.gated_network import LOADING
from helpers.two_images import TwoImages, correct, leave_draft
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.types import Limits, Roi


@pytest.fixture
def many_parts(viewer, panel, small_checkpoint, qtbot, tmp_path):
    """Return labels whose corrections have so many parts that undo takes long."""
    panel.segment.model.use(small_checkpoint)
    return TwoImages(viewer, panel, qtbot, tmp_path, Limits(correction_tile=4))


@pytest.mark.slow
@pytest.mark.parametrize("painting", [False, True])
def test_a_large_undo_leaves_other_labels_alone(many_parts, painting):
    two = many_parts
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
    two.until(lambda: two.part.idle and two.corrected(0) == {})
    assert two.corrected(1) == {2: 400}


def test_labels_removed_before_a_large_undo_leave_correct_usable(many_parts):
    two = many_parts
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


def test_keep_leaves_what_was_learnt_from_other_labels(two, checkpoints, tmp_path):
    part = two.panel.finetune
    paths = [
        leave_draft(view, said, checkpoints[0])
        for view, said in zip(two.views, ("one", "two"), strict=True)
    ]

    def offered(number):
        two.show(number)
        two.until(lambda: part.trained is not None)
        assert part.trained.result.path == paths[number]

    offered(1)
    offered(0)
    target = tmp_path / "kept.safetensors"
    LOADING.close()
    part.keep(target)
    two.until(LOADING.reached.is_set)
    offered(1)
    LOADING.open()
    two.until(lambda: two.panel.segment.model.path == target)
    assert not paths[0].exists()
    assert paths[1].exists()
    assert part.trained.result.path == paths[1]
    assert not part.result.isHidden()
