"""Tests that what is said of an image leaves with it, and returns with it."""

import pytest

from helpers.finetune_panel import paint
from helpers.two_images import leave_draft
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.finetune.state import FineTuneState
from napari_uhrseg.ui.widgets.step_tabs import StepMark

DISCARDED = "Discarded."


@pytest.mark.slow
def test_training_is_shown_with_its_labels(two, checkpoints):
    panel, part = two.panel, two.panel.finetune
    panel.show_step("Train")
    two.until(lambda: panel.segment.form.hardware.device is not None)
    draft = leave_draft(two.views[0], "better on the first", checkpoints[0])
    two.show(1)
    two.show(0)
    two.until(lambda: part.state is FineTuneState.UNDECIDED)
    assert panel.tabs.mark("Train") is StepMark.WAITING
    part.plot.begin()
    part.plot.total = 20
    part.plot.add_loss(10, 0.5)
    part.discard()
    assert not draft.exists()
    assert part.bar.status.text().startswith(DISCARDED)
    two.show(1)
    assert part.plot.isHidden()
    assert part.plot.losses == []
    assert DISCARDED not in part.bar.status.text()
    two.show(0)
    assert part.plot.isVisible()
    assert part.plot.losses == [(10, 0.5)]
    assert part.plot.total == 20
    assert part.bar.status.text().startswith(DISCARDED)


def test_estimate_for_other_labels_is_not_shown(two):
    paint(two.views[1].store, 2, Roi(0, 0, 300, 300))
    areas = two.panel.areas
    two.panel.show_step("Results")  # an estimate for the first labels begins
    two.show(1)

    def shown() -> list[str]:
        rows = (
            areas.table.topLevelItem(i) for i in range(areas.table.topLevelItemCount())
        )
        return [row.text(c) for row in rows for c in range(areas.table.columnCount())]

    two.until(lambda: bool(shown()))
    first = shown()
    two.show(0)
    two.until(lambda: bool(shown()))
    assert shown() != first
    two.show(1)
    two.until(lambda: bool(shown()))
    assert shown() == first


def test_corrections_and_areas_are_those_of_shown_labels(two):
    panel = two.panel
    panel.show_step("Results")
    two.until(lambda: panel.areas.table.topLevelItemCount() > 0)
    two.settle()
    two.until(lambda: panel.tabs.mark("Correct") is StepMark.DONE)
    two.show(1)
    assert panel.areas.table.topLevelItemCount() == 0
    assert panel.tabs.mark("Correct") is StepMark.NONE
    two.until(lambda: panel.areas.table.topLevelItemCount() > 0)
    two.until(lambda: panel.tabs.mark("Correct") is StepMark.DONE)
