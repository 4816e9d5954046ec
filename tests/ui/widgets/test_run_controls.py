"""Tests of the buttons before, during and after a run."""

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from helpers.gated_network import FORWARD, LOADING, touch
from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.ui.layers.label_layers import add_image


@pytest.mark.slow
def test_pause_is_disabled_until_run_starts(ready, checkpoints, qtbot):
    bar = ready.segment.bar
    touch(checkpoints[0])  # the preparation loads it again
    LOADING.close()
    FORWARD.close()
    bar.start.click()
    qtbot.waitUntil(LOADING.reached.is_set, timeout=30_000)
    assert not bar.pause.isEnabled()
    assert "not started" in bar.pause.toolTip()
    assert bar.cancel.isEnabled()
    LOADING.open()
    qtbot.waitUntil(FORWARD.reached.is_set, timeout=30_000)
    assert bar.pause.isEnabled()
    FORWARD.open()
    assert wait_for_end(ready, qtbot).startswith("Done")


@pytest.mark.slow
def test_change_during_run_is_planned_after_it(viewer, ready, qtbot):
    noise = np.zeros((400, 300, 3), np.uint8)
    other = image_from_array(noise, name="other", rgb=True, pixel_size=(0.5, 0.5))
    second = add_image(viewer, other)[0]
    part, first = ready.segment, ready.image.layer
    ready.image.choose_layer(second)
    wait_for_plan(ready, qtbot)
    of_the_second = part.plan.text().partition(",")[0]
    ready.image.choose_layer(first)
    wait_for_plan(ready, qtbot)
    assert not part.plan.text().startswith(of_the_second)
    FORWARD.close()
    part.bar.start.click()
    qtbot.waitUntil(FORWARD.reached.is_set, timeout=30_000)
    ready.image.choose_layer(second)
    assert part.plan.isHidden()  # the plan of the first
    FORWARD.open()
    assert "Done" not in wait_for_end(ready, qtbot)
    notes = [n.message for n in notification_manager.records]
    assert any(n.startswith("Segmentation of noise: Done") for n in notes)
    assert part.plan.text().startswith(of_the_second)
    assert not part.plan.isHidden()
    ready.image.choose_layer(first)
    qtbot.waitUntil(lambda: part.bar.status.text().startswith("Done"))


@pytest.mark.slow
def test_removing_image_during_run_disables_segment(viewer, ready, qtbot):
    bar = ready.segment.bar
    FORWARD.close()
    bar.start.click()
    qtbot.waitUntil(FORWARD.reached.is_set, timeout=30_000)
    viewer.layers.clear()
    FORWARD.open()
    qtbot.waitUntil(lambda: not bar.cancel.isEnabled(), timeout=60_000)
    assert not bar.start.isEnabled()
    assert bar.status.text().startswith("Done")
    assert "Open an image" in bar.status.text()
    assert ready.segment.plan.isHidden()
