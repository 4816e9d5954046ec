"""Next uncertain region goes over all images of the open project."""

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from helpers.small_project import LEGEND
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

PLACES = {"red.tif": (100, Roi(32, 64, 16, 32)), "blue.tif": (50, Roi(0, 0, 32, 32))}


@pytest.fixture
def tour(panel, file, qtbot):
    """The panel with the labels of red; both images have one uncertain region."""
    blue = file.folder / "labels/blue.tif.labels.zarr"
    LabelStore.create(blue, open_image(file.folder / "blue.tif"), LEGEND).close()
    for name, (confidence, roi) in PLACES.items():
        path = file.folder / f"labels/{name}.labels.zarr"
        with LabelStore.open(path, write=True) as store:
            values = np.full(store.shape, 200, np.uint8)
            values[roi.slices] = confidence
            store.confidence[0][:] = values
    panel.project.open(file.path)
    qtbot.waitUntil(lambda: panel.project.list.count() == 3)
    panel.project.open_image("red.tif")
    qtbot.waitUntil(lambda: shown(panel) == "red.tif")
    return panel


def shown(panel) -> str:
    view = panel.segment.view
    return "" if view is None else view.image.path.name


def go(panel, qtbot, status: str) -> None:
    """Press Next uncertain region, and wait for a status."""
    panel.correct.next_uncertain.click()
    qtbot.waitUntil(lambda: panel.correct.status.text() == status)


def is_centred(viewer, name: str) -> bool:
    y, x = viewer.scene.camera.center[-2:]
    roi = PLACES[name][1]
    return roi.y < y < roi.bottom and roi.x < x < roi.right


def test_more_uncertain_region_of_another_image_is_offered(tour, viewer, qtbot):
    part = tour.correct
    assert part.elsewhere.isHidden()
    go(tour, qtbot, "Uncertain region 1; 0 more.")
    assert is_centred(viewer, "red.tif")
    qtbot.waitUntil(lambda: not part.elsewhere.isHidden())
    assert part.elsewhere.text() == "Go to blue.tif (80% uncertain)"
    part.elsewhere.click()
    qtbot.waitUntil(lambda: part.status.text() == "Uncertain region 1.")
    assert shown(tour) == tour.project.list.chosen == "blue.tif"
    assert is_centred(viewer, "blue.tif")
    assert part.elsewhere.isHidden()
    # no region is shown twice, neither here nor in the image shown before
    go(tour, qtbot, "No uncertain region is left in the images of the project.")
    assert part.elsewhere.isHidden()


def test_less_uncertain_region_is_offered_after_the_last_one_here(tour, viewer, qtbot):
    part = tour.correct
    tour.project.open_image("blue.tif")
    qtbot.waitUntil(lambda: shown(tour) == "blue.tif")
    with qtbot.waitSignal(tour.project.uncertain.found):
        go(tour, qtbot, "Uncertain region 1; 0 more.")
    assert part.elsewhere.isHidden()
    go(tour, qtbot, "No uncertain region is left in the segmented area.")
    assert part.elsewhere.text() == "Go to red.tif (61% uncertain)"
    assert not part.elsewhere.isHidden()


def test_other_images_are_not_searched_for_labels_of_no_project(tour, file, qtbot):
    other = file.folder / "other.zarr"
    LabelStore.create(other, open_image(file.folder / "red.tif"), LEGEND).close()
    tour.labels.open(other)
    qtbot.waitUntil(lambda: tour.segment.view.store.path == other)
    with qtbot.assertNotEmitted(tour.project.uncertain.found, wait=200):
        go(tour, qtbot, "No uncertain region is left in the segmented area.")


def test_images_that_cannot_be_searched_are_named(tour, file, qtbot):
    metadata = file.folder / "labels/blue.tif.labels.zarr/zarr.json"
    metadata.write_text("{")
    before = len(notification_manager.records)
    with qtbot.waitSignal(tour.project.uncertain.found):
        go(tour, qtbot, "Uncertain region 1; 0 more.")
    (text,) = [n.message for n in notification_manager.records[before:]]
    assert "1 image of the project could not be searched" in text
    assert "blue.tif: " in text
