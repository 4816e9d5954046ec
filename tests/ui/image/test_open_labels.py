"""Tests of opening labels, and of following those that another process writes."""

import fsspec
import numpy as np
import pytest
import tifffile
from napari.layers import Labels
from qtpy.QtWidgets import QMessageBox

from helpers.forked import forked_code
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import LabelClass, Legend

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))
RUN = """
import sys
from dataclasses import replace
from helpers.label_stores import RUN, chunk_block
from napari_uhrseg.io.labels.store import LabelStore
with LabelStore.open(sys.argv[1], write=True) as store:
    fingerprint = store.info.fingerprint
    run = store.run_ledger.start_run(replace(RUN, image_fingerprint=fingerprint))
    print("begun", flush=True)
    for row in range(2):
        sys.stdin.readline()
        store.write(chunk_block(row, 0, 0, store.shape), run.id, "done")
        print("written", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.gui
def test_open_labels_follow_another_process(viewer, panel, tmp_path, qtbot):
    scene, path = tmp_path / "a.tif", tmp_path / "labels.zarr"
    tifffile.imwrite(scene, np.zeros((2048, 300, 3), np.uint8), tile=(256, 256))
    LabelStore.create(path, open_image(scene), LEGEND).close()
    with forked_code(RUN, path) as child:
        assert child.stdout.readline() == "begun\n"
        viewer.open(str(path), plugin="napari-uhrseg")

        def labels():
            return next((x for x in viewer.layers if isinstance(x, Labels)), None)

        def there(y: int) -> bool:
            shown = panel.segment.view.pyramid.levels[0]
            return bool(np.asarray(shown[y : y + 500, :]).any())

        qtbot.waitUntil(lambda: labels() is not None, timeout=20_000)
        assert not there(0)
        drawn = []
        panel.segment.view.refreshed.connect(lambda: drawn.append(True))
        for row in range(2):
            assert not there(1024 * row)
            drawn.clear()
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "written\n"
            qtbot.waitUntil(lambda: bool(drawn), timeout=10_000)
            assert there(1024 * row)
        shares = panel.segment.view.store.area_shares()
        assert sum(shares.values()) == pytest.approx(1)


def test_output_offers_to_open_labels_that_exist(viewer, panel, tmp_path, qtbot):
    scene, path = tmp_path / "a.tif", tmp_path / "a_labels.zarr"
    tifffile.imwrite(scene, np.zeros((300, 200, 3), np.uint8), tile=(128, 128))
    panel.image.open_paths([scene])
    qtbot.waitUntil(lambda: panel.image.image is not None, timeout=20_000)
    output = panel.segment.output
    assert output.path == path
    assert output.open.isHidden()
    LabelStore.create(path, panel.image.image, LEGEND).close()
    output.set_image(panel.image.image)
    assert "Labels exist here" in output.note.text()
    assert not output.open.isHidden()
    output.open.click()
    qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=20_000)
    assert panel.segment.view.store.path == path
    assert output.path == path
    assert output.open.isHidden()  # these are shown already
    viewer.layers.remove(panel.segment.view.layer)
    assert not output.open.isHidden()


@pytest.mark.parametrize("agreed", [True, False])
def test_image_at_a_url_is_opened_after_a_question(
    viewer, panel, tmp_path, qtbot, monkeypatch, agreed
):
    with fsspec.open("memory://elsewhere/a.tif", "wb") as file:
        tifffile.imwrite(file, np.zeros((64, 64, 3), np.uint8))
    image = open_image("memory://elsewhere/a.tif")
    path = tmp_path / "labels.zarr"
    LabelStore.create(path, image, LEGEND).close()
    asked = []

    def question(parent, title, text):
        asked.append(text)
        buttons = QMessageBox.StandardButton
        return buttons.Yes if agreed else buttons.No

    monkeypatch.setattr(QMessageBox, "question", question)
    panel.labels.open(path)
    qtbot.waitUntil(lambda: bool(asked), timeout=10_000)
    assert "memory://elsewhere/a.tif" in asked[0]
    if agreed:
        qtbot.waitUntil(lambda: len(viewer.layers) > 1, timeout=10_000)
    else:
        assert not viewer.layers
    assert len(asked) == 1
