"""Tests of temporary labels: same questions as for labels on disk."""

import pytest
from napari.layers import Labels

from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.ui.layers.label_layers import STORE

pytestmark = pytest.mark.gui


def labels_in(viewer):
    return [layer for layer in viewer.layers if isinstance(layer, Labels)]


def shares_of(legend):
    return [legend.topLevelItem(i).text(1) for i in range(legend.topLevelItemCount())]


@pytest.mark.parametrize("answer", ["other", "replace", None])
def test_temporary_labels_of_other_settings_raise_question(
    viewer, ready, checkpoints, qtbot, monkeypatch, answer
):
    part, asked = ready.segment, []
    monkeypatch.setattr(
        "napari_uhrseg.ui.segment.panel.ask_replace_labels",
        lambda parent, path, made_by: asked.append((path, made_by)) or answer,
    )
    part.output.use(None)
    wait_for_plan(ready, qtbot)
    part.bar.start.click()
    assert wait_for_end(ready, qtbot).startswith("Done")
    (first,) = labels_in(viewer)
    before = shares_of(part.legend)
    assert "–" not in before
    part.model.use(checkpoints[1])
    qtbot.waitUntil(lambda: part.model.path == checkpoints[1])
    wait_for_plan(ready, qtbot)
    part.bar.start.click()
    status = wait_for_end(ready, qtbot)
    assert asked == [(None, ("number 0",))]
    assert status.startswith("Done") == (answer is not None)
    assert len(first.metadata[STORE].runs) == (2 if answer == "replace" else 1)
    if answer == "other":  # hidden, as labels of another file are
        _, second = labels_in(viewer)
        assert (first.visible, second.visible) == (False, True)
        assert second.metadata[STORE].temporary
        assert part.view.layer is second
    else:
        assert labels_in(viewer) == [first]
    if answer is None:
        assert shares_of(part.legend) == before
    assert part.output.path is None
