"""Answers that come when other labels are shown than those they were asked for."""

import shutil
from threading import Event

import pytest
from painting import make_image, make_store
from teaching import paint

from napari_uhrseg.engine.events import Compared
from napari_uhrseg.io.corrections import Corrections
from napari_uhrseg.types import Roi
from napari_uhrseg.ui import finetune_drafts as drafts
from napari_uhrseg.ui import finetune_work
from napari_uhrseg.ui.layers import add_image

pytestmark = pytest.mark.gui

WAIT = 20  # seconds that a held step waits at most


class Two:
    """Labels of two images in one window, the first's shown; 400 pixels corrected."""

    def __init__(self, viewer, panel, qtbot, folder):
        self.viewer, self.panel, self.qtbot = viewer, panel, qtbot
        self.part = panel.correct
        self.grounds, self.views = [], []
        for name, shape in (("first", (600, 500)), ("second", (500, 600))):
            image = make_image(*shape, name=name)
            self.grounds.append(add_image(viewer, image)[0])
            store = make_store(folder / f"{name}.zarr", image)
            store.release()
            paint(store, 2, Roi(0, 0, 20, 20))
            self.choose(-1)
            panel.segment.show_labels(store, image)
            self.views.append(panel.segment.view)
        self.show(0)

    def choose(self, number):
        box = self.panel.image.box
        box.setCurrentIndex(self.panel.image._row(self.grounds[number]))

    def show(self, number):
        self.choose(number)
        assert self.panel.segment.view is self.views[number]

    def corrected(self, number):
        with Corrections.open(self.views[number].store, write=False) as found:
            return found.counts()

    def hold_writer(self):
        """As strokes on a slow disk do, until the event that is returned is set."""
        held = Event()
        self.part.writer.do(held.wait, WAIT)
        return held

    def until(self, happened):
        self.qtbot.waitUntil(happened, timeout=20_000)

    def settle(self):
        """Until all that was asked for is done, and what it has led to."""
        done = []
        self.part.writer.do(int, then=done.append)
        self.until(lambda: bool(done))
        self.until(lambda: self.part._job is None and not self.part._access.opening)


@pytest.fixture
def two(viewer, panel, qtbot, tmp_path):
    return Two(viewer, panel, qtbot, tmp_path)


@pytest.fixture
def every_undo_is_large(monkeypatch):
    monkeypatch.setattr("napari_uhrseg.ui.writer.SHORT", 0)


def correct(two):
    two.part.correct.click()
    two.until(lambda: two.part.area is not None)


@pytest.mark.usefixtures("every_undo_is_large")
@pytest.mark.parametrize("painting", [False, True])
def test_a_large_undo_leaves_other_labels_alone(two, painting):
    correct(two)
    if not painting:
        two.part.correct.click()
    two.until(two.part.undo.isEnabled)
    held = two.hold_writer()
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


@pytest.mark.usefixtures("every_undo_is_large")
def test_labels_removed_before_a_large_undo_leave_correct_usable(two):
    correct(two)
    two.until(two.part.undo.isEnabled)
    held = two.hold_writer()
    two.part.undo.click()
    two.viewer.layers.remove(two.views[0].layer)
    held.set()
    two.settle()
    assert two.part.correct.isEnabled()
    two.show(1)
    correct(two)


def test_labels_shown_while_others_are_opened_can_be_corrected(two):
    held = two.hold_writer()
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
    held = two.hold_writer()  # so the corrections are not closed yet
    for number in (1, 0):
        two.show(number)
    two.part.correct.click()
    held.set()
    two.until(lambda: two.part.area is not None)
    assert two.views[0].corrections is not None


def test_what_is_imported_goes_to_the_labels_it_was_read_for(two):
    asked = two.views[0]
    two.show(1)
    two.part._bringing.ready.emit(asked, lambda c: c.fill(Roi(0, 0, 50, 50), 3))
    two.settle()
    assert two.corrected(1) == {2: 400}


def leave_draft(view, said, checkpoint):
    """As a training leaves it on which nobody has decided."""
    store = view.store.path
    path = drafts.new_draft(store, f"{said}.safetensors", store)
    shutil.copy(checkpoint, path)
    drafts.remember(Compared({}, {}, said, path), checkpoint)
    return path


def test_keep_leaves_what_was_learnt_from_other_labels(
    two, checkpoints, tmp_path, monkeypatch
):
    part, held, real = two.panel.finetune, Event(), finetune_work.keep
    paths = [
        leave_draft(view, said, checkpoints[0])
        for view, said in zip(two.views, ("one", "two"), strict=True)
    ]

    def slow(*args):
        held.wait(WAIT)
        return real(*args)

    def offered(number):
        two.show(number)
        two.until(lambda: part._outcome is not None)
        assert part._outcome.path == paths[number]

    monkeypatch.setattr(finetune_work, "keep", slow)
    offered(1)
    offered(0)
    target = tmp_path / "kept.safetensors"
    part.keep(target)
    offered(1)
    held.set()
    two.until(lambda: two.panel.segment.model.path == target)
    assert not paths[0].exists()
    assert paths[1].exists()
    assert part._outcome.path == paths[1]
    assert not part.outcome.isHidden()
