"""A slide without a checkpoint: strokes, labels within seconds, all of it, areas."""

import numpy as np
import pytest
import tifffile
from scipy.ndimage import distance_transform_edt

from helpers.canvas import look_at
from helpers.window_story import WindowUser
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.samples import slide

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
]

Y, X = 1500, 1300  # upper left corner in the sample slide, in pixels
HEIGHT, WIDTH = 640, 896
NAMES = ("stroma", "epithelium", "lumen")
LENGTH = 24  # of a stroke, pixels
ABOUT = "Aperio Image Library v11 |AppMag = 20|MPP = 0.5"


def write_slide(path, y=Y, x=X, height=HEIGHT, width=WIDTH):
    """Write a part of the sample slide; return its true classes as in `NAMES`."""
    pixels = slide.render(y, x, height, width)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256),
                     description=ABOUT, metadata=None)  # fmt: skip
    there = slide.labels(y, x, height, width)
    ids = [slide.CLASSES.named(name).id for name in NAMES]
    return np.select([there == k for k in ids], range(1, len(ids) + 1), 0)


def middles(truth, class_id, count):
    """Return places of a class that are far from other classes, and from each other."""
    inside = distance_transform_edt(truth == class_id)
    inside[:, : 2 * LENGTH] = inside[:, -2 * LENGTH :] = 0
    for _ in range(count):
        y, x = np.unravel_index(int(inside.argmax()), inside.shape)
        yield int(y), int(x)
        inside[max(0, y - 120) : y + 120, max(0, x - 120) : x + 120] = 0


def begin_labels(user, path):
    """Press New labels, and enter the classes."""
    panel = user.panel
    panel.segment.output.use(path)
    panel.labels.begin(panel.image.image, path)
    (dialog,) = [d for d in panel.findChildren(object) if hasattr(d, "rows")]
    for row, name in zip(dialog.rows, NAMES, strict=True):
        row.line.setText(name)
    dialog.ok.click()
    user.until(lambda: panel.segment.view is not None)


def test_strokes_become_labels_of_the_whole_slide_and_areas(
    open_window, tmp_path, qtbot, take_picture
):
    viewer, panel = open_window()
    user = WindowUser(viewer, panel, qtbot)
    truth = write_slide(tmp_path / "slide.svs")
    layer = user.open(tmp_path / "slide.svs")
    begin_labels(user, tmp_path / "labels.zarr")
    store = panel.segment.view.store

    # a new model is a pixel classifier, which labels the view after each stroke
    look_at(viewer, layer, HEIGHT / 2, WIDTH / 2, zoom=1)
    user.correct()
    panel.finetune.new_model.model_button.click()
    (dialog,) = [d for d in panel.finetune.findChildren(object) if hasattr(d, "method")]
    dialog.accept()
    live = panel.finetune.live
    for class_id, name in enumerate(NAMES, 1):
        user.choose(name)
        for y, x in middles(truth, class_id, 3):
            user.paint((y, x - LENGTH // 2), (y, x + LENGTH // 2), brush=8)
    user.until(lambda: "up to date" in live.status.text())
    shown = np.asarray(live.layer.data)
    assert set(np.unique(shown)) == {1, 2, 3}
    take_picture(viewer, "live-preview")

    # kept, it segments the slide; more labels are right than by chance
    live.keep.click()
    user.until(lambda: panel.segment.bar.status.text().startswith("Done"))
    assert read_card(panel.segment.model.path).model == "pixel_classifier"
    found = np.asarray(store.prediction[0][:])
    assert found.all()
    assert (found == truth)[truth > 0].mean() > 0.5
    panel.correct.correct.click()

    # the table of areas has all classes, in mm²
    panel.show_step("Results")
    areas = panel.areas
    user.until(lambda: areas.count.isEnabled())
    areas.count.click()
    user.until(lambda: areas.table.topLevelItemCount() > 0)
    rows = [areas.table.topLevelItem(n) for n in range(areas.table.topLevelItemCount())]
    assert {row.text(0) for row in rows} >= {*NAMES}
    user.until(lambda: "no labels" not in panel.export.status.text())
    take_picture(viewer, "slide-areas")
