"""Tests of temporary labels: same questions as for labels on disk."""

import pytest
from napari.layers import Labels

from helpers.message_boxes import answer_boxes
from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.ui.layers.label_layers import STORE


def labels_in(viewer):
    return [layer for layer in viewer.layers if isinstance(layer, Labels)]


def shares_of(legend):
    return [legend.topLevelItem(i).text(1) for i in range(legend.topLevelItemCount())]


@pytest.mark.slow
def test_temporary_labels_of_other_settings_raise_question(
    viewer, ready, checkpoints, qtbot, monkeypatch
):
    part = ready.segment
    part.output.use(None)
    wait_for_plan(ready, qtbot)
    part.bar.start.click()
    assert wait_for_end(ready, qtbot).startswith("Done")
    (first,) = labels_in(viewer)
    before = shares_of(part.legend)
    assert "–" not in before

    def segment_with(number, answer):
        """Segment with a checkpoint and answer the question; return the status."""
        asked = answer_boxes(monkeypatch, answer)
        part.model.use(checkpoints[number])
        qtbot.waitUntil(lambda: part.model.path == checkpoints[number])
        wait_for_plan(ready, qtbot)
        part.bar.start.click()
        status = wait_for_end(ready, qtbot)
        made_by = f"number {1 - number}"
        assert asked == [f"The labels shown were made with other settings: {made_by}."]
        assert part.output.path is None
        return status

    assert not segment_with(1, "Cancel").startswith("Done")
    assert labels_in(viewer) == [first]
    assert len(first.metadata[STORE].runs) == 1
    assert shares_of(part.legend) == before
    assert segment_with(1, "Keep both").startswith("Done")
    _, second = labels_in(viewer)
    assert len(first.metadata[STORE].runs) == 1
    # hidden, as labels of another file are
    assert (first.visible, second.visible) == (False, True)
    assert second.metadata[STORE].temporary
    assert part.view.layer is second
    assert segment_with(0, "Replace").startswith("Done")
    assert labels_in(viewer) == [first, second]
    assert len(second.metadata[STORE].runs) == 2
