"""Tests of the buttons before, during and after a run."""

import threading

import numpy as np
import pytest

from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.ui.layers.label_layers import add_image
from napari_uhrseg.ui.segment import worker as work

pytestmark = pytest.mark.gui


def block_function(monkeypatch, owner, name):
    """Block a function; return the events of its start and of its release."""
    begun, go_on, real = threading.Event(), threading.Event(), getattr(owner, name)

    def wait(*args):
        begun.set()
        assert go_on.wait(60)
        return real(*args)

    monkeypatch.setattr(owner, name, wait)
    return begun, go_on


def test_pause_is_disabled_until_run_starts(ready, qtbot, monkeypatch):
    bar = ready.segment.bar
    begun, go_on = block_function(monkeypatch, work, "prepare")
    writing, write_on = block_function(monkeypatch, LabelStore, "write")
    try:
        bar.start.click()
        qtbot.waitUntil(begun.is_set, timeout=30_000)
        assert not bar.pause.isEnabled()
        assert "not started" in bar.pause.toolTip()
        assert bar.cancel.isEnabled()
        go_on.set()
        qtbot.waitUntil(writing.is_set, timeout=30_000)
        assert bar.pause.isEnabled()
    finally:
        go_on.set()
        write_on.set()
    assert wait_for_end(ready, qtbot).startswith("Done")


def test_change_during_run_is_planned_after_it(viewer, ready, qtbot, monkeypatch):
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
    begun, go_on = block_function(monkeypatch, LabelStore, "write")
    part.bar.start.click()
    try:
        qtbot.waitUntil(begun.is_set, timeout=30_000)
        ready.image.choose_layer(second)
    finally:
        go_on.set()
    assert wait_for_end(ready, qtbot).startswith("Done")
    assert part.plan.text().startswith(of_the_second)
    assert not part.plan.isHidden()


def test_removing_image_during_run_disables_segment(viewer, ready, qtbot, monkeypatch):
    bar = ready.segment.bar
    begun, go_on = block_function(monkeypatch, LabelStore, "write")
    bar.start.click()
    try:
        qtbot.waitUntil(begun.is_set, timeout=30_000)
        viewer.layers.clear()
    finally:
        go_on.set()
    qtbot.waitUntil(lambda: not bar.cancel.isEnabled(), timeout=60_000)
    assert not bar.start.isEnabled()
    assert bar.status.text().startswith("Done")
    assert "Open an image" in bar.status.text()
    assert ready.segment.plan.isHidden()
