"""Layers taken out of the viewer by hand, while something of ours lies over them."""

import numpy as np
import pytest

from helpers.two_images import correct, leave_draft
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.finetune.worker import PredictionDifference


def compare(two, checkpoints):
    """What a fine-tuning changes lies over the labels."""
    part, view = two.panel.finetune, two.views[0]
    leave_draft(view, "one", checkpoints[0])
    two.show(1)
    two.show(0)
    two.until(lambda: part.trained is not None)
    changed = PredictionDifference(
        Roi(0, 0, 9, 9), np.ones((9, 9), np.uint8), view.legend, 0.5
    )
    part.comparison.show(changed, view.layer)


@pytest.mark.slow
@pytest.mark.gui  # with the controls and visuals that napari has for each layer
@pytest.mark.parametrize("what", ["painting", "comparing"])
@pytest.mark.parametrize("order", [1, -1])
def test_all_layers_can_be_removed(two, checkpoints, what, order):
    if what == "painting":
        correct(two)
    else:
        compare(two, checkpoints)
    # as napari's trash does with a selection, in the order of a set
    for layer in list(two.viewer.layers)[::order]:
        two.viewer.layers.remove(layer)
    two.qtbot.wait(50)
    assert not two.viewer.layers
    assert two.part.area is None
    assert not two.part.correct.isChecked()
    assert two.panel.finetune.comparison.layer is None


@pytest.mark.parametrize("what", ["painting", "comparing"])
def test_what_lay_over_removed_labels_goes_with_them(two, checkpoints, what):
    if what == "painting":
        correct(two)
        ours = two.part.area.layer
    else:
        compare(two, checkpoints)
        ours = two.panel.finetune.comparison.layer
    two.viewer.layers.remove(two.views[0].layer)
    two.until(lambda: ours not in two.viewer.layers)
    assert two.views[1].layer in two.viewer.layers


def test_labels_are_seen_again_where_what_changes_is_removed_by_hand(two, checkpoints):
    compare(two, checkpoints)
    part = two.panel.finetune
    assert not two.views[0].layer.visible
    two.viewer.layers.remove(part.comparison.layer)
    assert two.views[0].layer.visible
    assert part.result.share.isHidden()
    part.comparison.remove()
