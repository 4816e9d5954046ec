"""A network of another program: described, run, cleaned up, exported, compared."""

import json

import numpy as np
import pytest
import shapely
import tifffile
from qtpy.QtWidgets import QDialogButtonBox

from helpers.onnx_networks import export, small_network
from helpers.window_story import WindowUser
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.ui.finetune.state import FineTuneState
from napari_uhrseg.ui.segment.checkpoints.onnx_description import (
    OnnxDescriptionDialog,
)
from napari_uhrseg.ui.widgets.pages import Pages

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
]

SIDE = 320


@pytest.fixture
def picture(tmp_path):
    """Return a file with squares of three colours and noise."""
    noise = np.random.default_rng(0)
    colors = noise.integers(0, 255, (SIDE // 40, SIDE // 40, 3))
    data = colors.repeat(40, 0).repeat(40, 1) + noise.integers(-20, 20, (SIDE, SIDE, 3))
    path = tmp_path / "town.tif"
    tifffile.imwrite(path, data.clip(0, 255).astype(np.uint8), photometric="rgb")
    return path


def test_network_of_another_program_makes_labels_of_two_dates(
    open_window, take_picture, qtbot, picture, tmp_path
):
    path = export(small_network(), tmp_path / "roofs.onnx", window=64)
    viewer, panel = open_window()
    user = WindowUser(viewer, panel, qtbot)
    user.open(picture)
    panel.show_step("Segment")
    model = panel.segment.model
    model.use(path)
    user.until(lambda: bool(model.findChildren(OnnxDescriptionDialog)))
    (dialog,) = model.findChildren(OnnxDescriptionDialog)
    dialog.names.setText("ground, roof, road")
    dialog.mean.setText("0.5, 0.5, 0.5")
    dialog.std.setText("0.25, 0.25, 0.25")
    dialog.findChild(QDialogButtonBox).button(
        QDialogButtonBox.StandardButton.Ok
    ).click()
    user.until(lambda: model.path == path)
    panel.segment.output.use(tmp_path / "later.zarr")
    user.segment()
    take_picture(viewer, "onnx-labels")
    store = panel.segment.view.store
    assert [c.name for c in store.legend] == ["ground", "roof", "road"]
    assert len(np.unique(store.prediction[0][:])) > 1

    user.correct()
    user.choose("roof")
    user.paint((100, 100), (100, 140))
    panel.show_step("Train")
    part = panel.finetune
    user.until(lambda: part.state is FineTuneState.BLOCKED)
    user.until(lambda: "cannot be trained further" in part.bar.status.text())
    take_picture(viewer, "onnx-training")

    panel.show_step("Results")
    panel.correct.correct.setChecked(False)
    results = panel.export
    results.format.setCurrentIndex(results.format.findData("qupath"))
    results.line.setText(str(tmp_path / "later.geojson"))
    results.smooth.setValue(1)
    results.clean_up.object.setText("20")
    results.start.click()
    user.until(lambda: results.status.text().startswith("Exported"))
    features = json.loads((tmp_path / "later.geojson").read_text())["features"]
    shapes = shapely.from_geojson([json.dumps(f["geometry"]) for f in features])
    assert shapely.coverage_is_valid(shapes)
    assert shapely.area(shapes).sum() == pytest.approx(SIDE**2)

    earlier = tmp_path / "earlier.zarr"
    image = open_image(picture)
    with LabelStore.create(earlier, image, read_card(path).legend) as other:
        for array in other.prediction:
            array[:] = 1
    (pages,) = [p for p in panel.findChildren(Pages) if p.indexOf(panel.changes) >= 0]
    pages.setCurrentWidget(panel.changes)
    panel.changes.use(earlier)
    panel.changes.compare.click()
    user.until(lambda: "Changes" in viewer.layers)
    user.until(lambda: panel.changes.status.text().startswith("Changed"))
    assert panel.changes.table.topLevelItemCount() == 4
    take_picture(viewer, "onnx-changes")
