"""Painting corrections and training on them, as the tests of Fine-tune do."""

import numpy as np

from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.types import Limits, Roi, Stroke
from napari_uhrseg.ui.finetune.state import FineTuneState


def paint(store, ids, *rois, limits=Limits()):
    """Strokes over all of some rectangles; ids of the whole image, or one for all."""
    with Corrections.open(store, limits=limits) as corrections:
        for roi in rois:
            part = np.broadcast_to(ids, store.shape)[roi.slices].astype(np.uint8)
            corrections.apply(Stroke(roi, np.ones(part.shape, bool), part))


PLACES = [Roi(y, x, 48, 48) for y in range(8, 650, 200) for x in range(8, 780, 200)]


def set_custom(part, **values):
    part.form.length.setCurrentIndex(part.form.length.findData("custom"))
    for name, value in values.items():
        part.form.custom.widgets[name].setValue(value)


def wait_for_summary(part, qtbot):
    part.refresh()
    qtbot.waitUntil(
        lambda: part.state is FineTuneState.READY,
        timeout=60_000,
    )
    return part.summary.text()


def train(part, qtbot):
    wait_for_summary(part, qtbot)
    part.bar.start.click()
    qtbot.waitUntil(lambda: part.bar.cancel.isEnabled(), timeout=30_000)
    wait_for_training(part, qtbot)


def wait_for_training(part, qtbot):
    qtbot.waitUntil(lambda: part.state is not FineTuneState.TRAINING, timeout=120_000)
