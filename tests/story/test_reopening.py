"""Closing the window in the middle of a correction, and going on in the next one."""

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QInputDialog

from helpers.canvas import look_at
from helpers.window_story import WindowUser
from napari_uhrseg.types import Roi

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
]

CENTRE, ZOOM = (150, 170), 3.0


@pytest.fixture
def slide(tmp_path):
    """Return the file of a small image with dark cells on a light ground."""
    y, x = np.mgrid[:300, :400]
    cells = (y % 60 - 30) ** 2 + (x % 60 - 30) ** 2 < 200
    pixels = np.where(cells[..., None], (110, 60, 140), (235, 215, 225))
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels.astype(np.uint8), photometric="rgb")
    return path


def add_class(user, monkeypatch, name):
    """Add a class in the menu of the legend."""
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (name, True))
    menu = user.panel.classes.menu
    menu.aboutToShow.emit()
    (add,) = [x for x in menu.actions() if x.text().replace("&", "").startswith("Add")]
    add.trigger()
    user.until(lambda: user.panel.segment.view.legend.named(name) is not None)


def labels_at(user, *pixels):
    store = user.panel.segment.view.store
    return [int(store.read_labels(Roi(y, x, 1, 1))[0, 0]) for y, x in pixels]


def test_correction_continues_after_the_window_was_closed(
    open_window, slide, small_checkpoint, monkeypatch, qtbot, take_picture
):
    viewer, panel = open_window()
    user = WindowUser(viewer, panel, qtbot)
    panel.segment.model.use(small_checkpoint)
    ground = user.open(slide)
    user.segment()
    add_class(user, monkeypatch, "nucleus")
    look_at(viewer, ground, *CENTRE, zoom=ZOOM)
    user.correct()
    nucleus = user.choose("nucleus")
    user.paint((150, 150), (150, 170))
    user.until(lambda: user.corrected()["nucleus"] != "–")
    first = user.corrected()["nucleus"]
    store, before = panel.segment.view.store.path, take_picture(viewer, "before")
    camera = tuple(viewer.scene.camera.center), viewer.scene.camera.zoom
    viewer.close()  # Correct is still on
    qtbot.wait(50)
    assert QThreadPool.globalInstance().waitForDone(600_000)
    del viewer, panel, user, ground

    viewer, panel = open_window()
    user = WindowUser(viewer, panel, qtbot)
    panel.show_step("Image")
    user.until(panel.session.offer.isVisible)
    assert panel.session.offer.text.text() == "Last session: slide.tif."
    user.open(slide)
    offer = panel.image.found_labels
    user.until(offer.isVisible)
    assert "slide_labels.zarr" in offer.text.text()
    take_picture(viewer, "labels-offered")
    offer.open.click()
    user.until(lambda: panel.segment.view is not None)
    assert panel.segment.view.store.path == store
    assert not offer.isVisible()

    # the corrections, the legend, the checkpoint and the view are there
    panel.show_step("Correct")
    user.until(lambda: user.corrected().get("nucleus") == first)
    names = [c.name for c in panel.segment.view.classes]
    assert names == ["dark", "light", "nucleus"]
    user.until(lambda: panel.segment.model.path == small_checkpoint)
    assert tuple(viewer.scene.camera.center) == pytest.approx(camera[0])
    assert viewer.scene.camera.zoom == pytest.approx(camera[1])
    user.correct()
    after = take_picture(viewer, "reopened")
    assert np.abs(after.astype(int) - before).mean() < 2  # the same picture

    # painting and undo continue
    user.choose("nucleus")
    user.paint((180, 200), (180, 230))
    user.until(lambda: user.corrected()["nucleus"] not in (first, "–"))
    assert labels_at(user, (180, 210)) == [nucleus.id]
    take_picture(viewer, "continued")
    panel.correct.undo.click()
    user.until(lambda: user.corrected()["nucleus"] == first)
    panel.correct.undo.click()  # the stroke of the first window
    user.until(lambda: user.corrected()["nucleus"] == "–")
    panel.correct.redo.click()
    user.until(lambda: user.corrected()["nucleus"] == first)
    assert labels_at(user, (150, 160)) == [nucleus.id]
