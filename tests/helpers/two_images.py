"""Labels of two images in one window, and going from one to the other."""

import shutil
from threading import Event

from helpers.canvas import make_image, make_store
from helpers.finetune_panel import paint
from helpers.write_queue import drain
from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.types import Limits, Roi
from napari_uhrseg.ui.finetune import drafts
from napari_uhrseg.ui.layers.label_layers import add_image

WAIT = 20  # seconds that a held step waits at most


class TwoImages:
    """Labels of two images in one window, the first's shown; 400 pixels corrected."""

    def __init__(self, viewer, panel, qtbot, folder, limits=Limits()):
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot
        self.part = panel.correct
        self.grounds, self.views = [], []
        for name, shape in (("first", (600, 500)), ("second", (500, 600))):
            image = make_image(*shape, name=name)
            self.grounds.append(add_image(viewer, image)[0])
            store = make_store(folder / f"{name}.zarr", image)
            store.release()
            paint(store, 2, Roi(0, 0, 20, 20), limits=limits)
            self.choose(-1)
            panel.segment.show_labels(store, image)
            self.views.append(panel.segment.view)
        for view in self.views:
            view.show()
        self.show(0)

    def choose(self, number):
        self.panel.image.choose_layer(self.grounds[number])

    def show(self, number):
        self.choose(number)
        assert self.panel.segment.view is self.views[number]

    def corrected(self, number):
        with Corrections.open(self.views[number].store, write=False) as found:
            return found.counts()

    def block_writes(self):
        """As strokes on a slow disk do, until the event that is returned is set."""
        held = Event()
        self.part.writer.submit(held.wait, WAIT)
        return held

    def until(self, happened):
        self.qtbot.waitUntil(happened, timeout=20_000)

    def settle(self):
        """Until all that was asked for is done, and what it has led to."""
        drain(self.part.writer, self.until)
        self.until(lambda: self.part.idle)


def correct(two):
    two.part.correct.click()
    two.until(lambda: two.part.area is not None)


def leave_draft(view, said, checkpoint):
    """As a training leaves it on which nobody has decided."""
    store = view.store.path
    path = drafts.new_draft(store, f"{said}.safetensors", store)
    shutil.copy(checkpoint, path)
    drafts.save_draft(FineTuneFinished({}, {}, said, path), checkpoint)
    return path
