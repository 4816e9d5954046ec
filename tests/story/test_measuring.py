"""A slide: tissue, labels in it, clean-up, the table of objects, and an export."""

import json

import numpy as np
import pytest
import rasterio.features
import shapely
import shapely.geometry
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from skimage.measure import label
from test_first_labels import write_slide

from helpers.canvas import look_at
from helpers.window_story import WindowUser
from napari_uhrseg.samples import data_dir, slide
from napari_uhrseg.ui.widgets.layout import CollapsibleSection
from napari_uhrseg.ui.widgets.pages import Pages

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
]

Y, X = 1500, 600  # upper left corner in the sample slide: the border of the tissue
SHAPE = 640, 896
PIXEL = 0.25  # area of a pixel, µm²
SMALLEST = 100  # area of an object after the clean-up, µm²


def outline_of(mask):
    """Return the border of the pixels that are False, as one shape."""
    found = rasterio.features.shapes(mask.astype(np.uint8), mask=~mask)
    return shapely.union_all([shapely.geometry.shape(s).boundary for s, _ in found])


def open_more(part):
    """Open the section More of a part of the panel."""
    (more,) = [x for x in part.findChildren(CollapsibleSection) if x.isVisible()]
    more.heading.setChecked(True)


def test_tissue_is_segmented_cleaned_up_measured_and_exported(
    open_window, tmp_path, qtbot, take_picture
):
    viewer, panel = open_window()
    viewer.window.resize(1280, 800)
    user = WindowUser(viewer, panel, qtbot)
    write_slide(tmp_path / "slide.svs", Y, X, *SHAPE)
    layer = user.open(tmp_path / "slide.svs")
    look_at(viewer, layer, SHAPE[0] / 2, SHAPE[1] / 2, zoom=0.9)

    # the tissue is detected, and the mask lies on the tissue of the sample
    panel.show_step("Segment")
    segment = panel.segment
    open_more(segment)
    tissue = segment.form.tissue
    tissue.detect.click()
    user.until(lambda: "of the image" in tissue.result.text())
    take_picture(viewer, "tissue")
    tissue.apply.click()
    there = slide.labels(Y, X, *SHAPE) != slide.CLASSES.named("glass").id
    mask = tissue.run_mask.pixels  # of the size of a small image
    assert (mask == there).mean() > 0.95

    # labels are in the tissue only
    segment.model.use(data_dir() / "pixel_classifier_slide.safetensors")
    segment.output.use(tmp_path / "labels.zarr")
    user.segment()
    store = segment.view.store
    labelled = np.asarray(store.prediction[0][:]) > 0
    assert not labelled[~mask].any()
    assert labelled[mask].all()

    # small objects disappear, as a change that can be undone
    panel.show_step("Correct")
    open_more(panel.correct)
    clean_up = panel.correct.clean_up
    clean_up.button.click()
    clean_up.form.object.setText(f"{SMALLEST} um2")
    user.until(lambda: "pixels in view change" in clean_up.result.text())
    take_picture(viewer, "clean-up")
    clean_up.apply.click()
    user.until(lambda: bool(panel.correct.undo.isEnabled()))
    user.written()

    # a row of the table shows its object
    panel.show_step("Results")
    (pages,) = [p for p in panel.findChildren(Pages) if p.indexOf(panel.objects) >= 0]
    pages.setCurrentWidget(panel.objects)
    table = panel.objects.table
    panel.objects.list.click()
    user.until(lambda: table.topLevelItemCount() > 3)
    row = table.topLevelItem(3)
    at = table.visualItemRect(row).center()
    assert table.viewport().visibleRegion().contains(at)
    before = viewer.scene.camera.center
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert viewer.scene.camera.center != before
    take_picture(viewer, "objects")
    panel.objects.save_table(tmp_path / "objects.csv")
    user.until(lambda: "Saved" in panel.objects.status.text())

    # the export has the objects of the table, in the tissue; small ones are left only
    # beside pixels without a label
    results = panel.export
    results.format.setCurrentIndex(results.format.findData("qupath"))
    results.line.setText(str(tmp_path / "labels.geojson"))
    results.start.click()
    user.until(lambda: results.status.text().startswith("Exported"))
    features = json.loads((tmp_path / "labels.geojson").read_text())["features"]
    shapes = shapely.from_geojson([json.dumps(f["geometry"]) for f in features])
    areas = shapely.area(shapes)
    assert len(areas) == len((tmp_path / "objects.csv").read_text().splitlines()) - 1
    assert areas.sum() == mask.sum()
    small = shapely.union_all(shapes[areas < SMALLEST / PIXEL])
    touching = shapely.intersects(shapely.get_parts(small), outline_of(mask))
    assert touching.all()
    predicted = np.bincount(label(store.prediction[0][:], connectivity=1).ravel())[1:]
    assert len(areas) < len(predicted) / 4
