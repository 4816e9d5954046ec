"""Images opened from the list of a project replace one another in the window."""

import gc
import weakref

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QThreadPool

from helpers.gated_network import FORWARD
from helpers.small_project import LEGEND
from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.layers.label_layers import KEY, STORE
from napari_uhrseg.ui.segment.panel import SegmentState


@pytest.fixture
def opened(panel, file, qtbot):
    """The panel with the project, and a function that opens an image of its list."""
    panel.project.open(file.path)
    qtbot.waitUntil(lambda: panel.project.list.count() == 3)

    def show(name: str) -> None:
        rows = {"red.tif": 0, "blue.tif": 1, "gone.tif": 2}
        panel.project.list.setCurrentRow(rows[name])
        panel.project.list.itemActivated.emit(panel.project.list.currentItem())
        qtbot.waitUntil(lambda: shown(panel) == name)
        qtbot.waitUntil(lambda: not panel.labels.removing)

    return show


def shown(panel) -> str:
    """Return the name of the chosen image."""
    return "" if panel.image.image is None else panel.image.image.path.name


def images(viewer) -> set[str]:
    """Return the names of the images whose layers the viewer has."""
    return {x.metadata[KEY].path.name for x in viewer.layers if KEY in x.metadata}


@pytest.mark.slow
def test_layers_of_the_earlier_image_and_its_labels_are_removed(
    opened, panel, viewer, qtbot
):
    opened("red.tif")
    qtbot.waitUntil(lambda: len(viewer.layers) == 3)  # with labels and confidence
    panel.correct.correct.click()
    qtbot.waitUntil(lambda: panel.correct.area is not None)
    view = panel.segment.view
    left = [weakref.ref(x) for x in (view.store, view.layer)]
    del view
    opened("blue.tif")
    qtbot.waitUntil(lambda: [x.name for x in viewer.layers] == ["blue.tif"])
    assert panel.segment.view is None

    def freed() -> bool:
        gc.collect()
        return not any(x() is not None for x in left)

    qtbot.waitUntil(freed)
    opened("red.tif")
    qtbot.waitUntil(lambda: images(viewer) == {"red.tif"})
    store = panel.segment.view.store
    assert (store.read_labels(Roi(0, 0, *store.shape)) == 1).sum() == 400


@pytest.mark.slow
def test_temporary_labels_keep_their_image(opened, panel, viewer, file, qtbot):
    grey = np.full((60, 120), 9, np.uint8)
    tifffile.imwrite(file.folder / "gone.tif", grey)
    opened("blue.tif")
    panel.labels.create(panel.image.image, None, LEGEND)
    qtbot.waitUntil(lambda: panel.segment.view is not None)
    temporary = panel.segment.view.layer
    opened("red.tif")
    assert temporary in viewer.layers
    assert images(viewer) == {"red.tif", "blue.tif"}
    viewer.layers.remove(temporary)
    opened("gone.tif")
    qtbot.waitUntil(lambda: images(viewer) == {"gone.tif"})


def test_images_opened_in_another_way_stay(opened, panel, viewer, file, qtbot):
    panel.image.open_paths([file.folder / "red.tif"])
    qtbot.waitUntil(lambda: shown(panel) == "red.tif")
    viewer.add_points(np.zeros((1, 2)), name="mine")
    opened("red.tif")
    qtbot.waitUntil(lambda: panel.segment.view is not None)
    opened("blue.tif")
    assert images(viewer) == {"red.tif", "blue.tif"}
    assert any(STORE in x.metadata for x in viewer.layers)
    assert "mine" in viewer.layers


def test_image_that_cannot_be_opened_replaces_none(opened, panel, viewer, file, qtbot):
    opened("blue.tif")
    (file.folder / "labels/red.tif.labels.zarr/zarr.json").write_text("{")
    with qtbot.waitSignal(panel.project.imageWanted):
        panel.project.step(-1)
    assert QThreadPool.globalInstance().waitForDone(600_000)
    qtbot.wait(50)
    assert images(viewer) == {"blue.tif"}


@pytest.mark.slow
def test_image_of_a_run_stays_until_the_run_ends(
    opened, panel, viewer, checkpoints, qtbot
):
    panel.segment.model.use(checkpoints[0])
    opened("blue.tif")
    wait_for_plan(panel, qtbot)
    FORWARD.close()
    panel.segment.bar.start.click()
    qtbot.waitUntil(FORWARD.reached.is_set, timeout=30_000)
    assert panel.segment.state is SegmentState.RUNNING
    opened("red.tif")
    assert images(viewer) == {"red.tif", "blue.tif"}
    FORWARD.open()
    wait_for_end(panel, qtbot)
    opened("blue.tif")
    assert images(viewer) == {"blue.tif"}
    assert panel.segment.view.store.runs
