"""A first afternoon: open the sample, segment, pause, go on, cancel, come back.

Only a part of the sample is segmented. With ``--update-screenshots`` it is the whole
sample, and the README's pictures are taken on the way.
"""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from helpers.canvas import look_at
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK, chunks_touching
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.registry import REGISTRY
from napari_uhrseg.samples import data_dir
from napari_uhrseg.samples.world import CLASSES
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.demo import (
    choose,
    look_at_middle,
    open_demo,
    press_segment,
    segment,
    wait_for,
)

pytestmark = [
    pytest.mark.no_cover,  # other tests cover the program; tracing is slow
    pytest.mark.gui,
    pytest.mark.slow,
    # the viewer of the demo has napari's commands to itself
    pytest.mark.usefixtures("mock_app_model"),
]


def share_labelled(store: Path) -> float:
    """Return the share of the blocks of the run's region that have labels."""
    with LabelStore.open(store) as labels:
        if not labels.runs:
            return 0
        blocks = chunks_touching(labels.runs[0].region, labels.shape)
        return float((labels.chunk_status()[blocks] > 0).mean())


def found_classes(labels: LabelStore) -> np.ndarray:
    """The predictions as class ids of the world, 0 where there is none."""
    ids = np.zeros(256, np.uint8)
    for found in labels.legend:
        (ids[found.id],) = (c.id for c in CLASSES if c.name == found.name)
    return ids[labels.prediction[0][:]]


def truth() -> np.ndarray:
    with rasterio.open(data_dir() / "scene_labels.tif") as file:
        return file.read(1)


def choose_nine_blocks(viewer, panel) -> None:
    """Choose the current view: one block of labels, and a part of all around it."""
    look_at(viewer, viewer.layers[0], 1.5 * STORE_CHUNK, 1.5 * STORE_CHUNK, 0.7)
    where = panel.segment.form.where
    where.setCurrentIndex(where.findText("Current view"))


def test_a_first_afternoon(tmp_path, monkeypatch, request, take_picture):
    monkeypatch.chdir(tmp_path)
    store = Path("labels.zarr")
    viewer, panel = open_demo()
    bar = panel.segment.bar
    try:
        # the orthophoto stands at half a metre a pixel, and the plan is ready
        (scene,) = [x for x in viewer.layers if x.name.startswith("scene")]
        assert tuple(scene.scale) == (0.5, 0.5)
        assert len(scene.data) > 1
        if not request.config.getoption("--update-screenshots"):
            choose_nine_blocks(viewer, panel)
        press_segment(panel, store)
        assert "windows" in panel.segment.plan.text()

        # labels fill in; pause holds them, continue lets them go on
        def blocks() -> float:
            return share_labelled(store) if store.exists() else 0

        wait_for(lambda: blocks() >= 0.25, 600, "no labels came", bar)
        bar.pause.click()
        wait_for(lambda: "ause" in bar.status.text(), 60, "no pause", bar)
        held = blocks()
        take_picture(viewer, "segmenting")
        assert held < 1
        bar.pause.click()
        wait_for(lambda: blocks() > held, 600, "it did not go on", bar)

        # cancel keeps what is there; Segment takes it up again
        bar.cancel.click()
        wait_for(bar.start.isEnabled, 60, "no end", bar)
        kept = blocks()
        assert held < kept < 1
        bar.start.click()
        wait_for(
            lambda: bar.status.text().startswith("Done"), 1200, "it did not end", bar
        )
        assert blocks() == 1
    finally:
        viewer.close()

    with LabelStore.open(store) as labels:
        assert len(labels.runs) == 1
        roi = labels.runs[0].region or Roi(0, 0, *labels.shape)
        assert min(roi.height, roi.width) > STORE_CHUNK
        found = found_classes(labels)[roi.slices]
    assert found.all()
    # the network was trained on this world, and it shows
    assert (found == truth()[roi.slices]).mean() > 0.85


def test_every_method_labels_what_is_in_view(tmp_path):
    viewer, panel = open_demo()
    right, world = {}, truth()
    try:
        look_at_middle(viewer, panel)
        viewer.scene.camera.zoom *= 2
        for method in REGISTRY:
            assert choose(panel, method), f"{method} has no sample checkpoint"
            store = tmp_path / f"{method}.zarr"
            segment(panel, store)
            with LabelStore.open(store) as labels:
                found = found_classes(labels)
            seen = found > 0
            assert seen.sum() > 200_000
            right[method] = (found == world)[seen].mean()
    finally:
        viewer.close()
    assert min(right.values()) > 0.75, right
