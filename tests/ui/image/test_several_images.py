"""Tests of several images in one window."""

import numpy as np
import pytest
from napari.layers import Labels

from helpers.finetune_panel import paint
from helpers.gated_network import FORWARD, LOADING, touch
from helpers.wait import wait_for_end, wait_for_plan
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi
from napari_uhrseg.ui.layers.label_layers import STORE, add_image
from napari_uhrseg.ui.segment.panel import SegmentState

pytestmark = pytest.mark.slow
COLORS = ("#ff0000", "#00ff00", "#0000ff")


def legend(*names):
    classes = zip(names, COLORS, strict=False)
    return Legend(tuple(LabelClass(i, *c) for i, c in enumerate(classes, 1)))


def names_of(panel):
    rows = panel.segment.legend
    return [rows.topLevelItem(i).text(0) for i in range(rows.topLevelItemCount())]


def shares_of(panel):
    rows = panel.segment.legend
    return [rows.topLevelItem(i).text(1) for i in range(rows.topLevelItemCount())]


def shown_in(viewer):
    """The names of the label stores in sight."""
    labels = [x for x in viewer.layers if isinstance(x, Labels) and STORE in x.metadata]
    return [x.metadata[STORE].path.name for x in labels if x.visible]


def choose(panel, layer):
    panel.image.choose_layer(layer)
    assert panel.image.layer is layer


def open_labels(panel, path, qtbot):
    panel.labels.open(path)
    qtbot.waitUntil(
        lambda: (
            panel.segment.view is not None and panel.segment.view.store.path == path
        ),
        timeout=20_000,
    )


@pytest.fixture
def two(viewer, ready, qtbot, tmp_path):
    """The layers of two images, the first of them chosen; labels of each on disk."""
    noise = np.random.default_rng(1).integers(0, 255, (400, 300, 3), np.uint8)
    other = image_from_array(noise, name="other", rgb=True, pixel_size=(0.5, 0.5))
    first = ready.image.layer
    second = add_image(viewer, other)[0]
    for image, name, classes in (
        (ready.image.image, "first", legend("water", "land")),
        (other, "second", legend("roof", "road", "tree")),
    ):
        with LabelStore.create(tmp_path / f"{name}.zarr", image, classes) as store:
            paint(store, 2, Roi(0, 0, 200, 200))
    qtbot.waitUntil(lambda: ready.image.layer is second)  # the one opened last
    choose(ready, first)
    ready.segment.output.use(tmp_path / "labels.zarr")
    wait_for_plan(ready, qtbot)
    return first, second


def test_labels_are_shown_with_their_image(viewer, ready, two, qtbot, tmp_path):
    first, second = two
    open_labels(ready, tmp_path / "first.zarr", qtbot)
    choose(ready, second)
    assert ready.segment.view is None
    assert names_of(ready) == []
    assert ready.segment.legend.isHidden()
    assert ready.segment.output.path is None  # as is proposed for what has no file
    open_labels(ready, tmp_path / "second.zarr", qtbot)
    assert shown_in(viewer) == ["second.zarr"]
    choose(ready, first)
    assert names_of(ready) == ["water", "land"]
    assert shares_of(ready) == ["≈ 0.0 %", "≈ 100.0 %"]
    assert shown_in(viewer) == ["first.zarr"]
    assert ready.segment.output.path == tmp_path / "first.zarr"
    viewer.layers.remove(ready.segment.view.layer)
    assert names_of(ready) == []


def test_opening_labels_chooses_their_image(viewer, ready, two, qtbot, tmp_path):
    first, second = two
    choose(ready, second)
    open_labels(ready, tmp_path / "first.zarr", qtbot)
    assert ready.image.layer is first
    assert ready.segment.view.image is ready.image.image
    assert ready.segment.output.path == tmp_path / "first.zarr"
    assert [x.name for x in viewer.layers if type(x).__name__ == "Labels"] == [
        "Labels: noise"
    ]


def test_new_labels_belong_to_chosen_layer(viewer, panel, qtbot, tmp_path):
    viewer.add_image(np.zeros((300, 200), np.uint16), name="mine")
    qtbot.waitUntil(lambda: panel.image.image is not None)
    panel.labels.create(panel.image.image, tmp_path / "a.zarr", legend("a", "b"))
    qtbot.waitUntil(lambda: panel.segment.view is not None, timeout=20_000)
    assert [layer.name for layer in viewer.layers] == ["mine", "Labels: mine"]


def test_choosing_image_during_run_keeps_its_classes(
    viewer, ready, two, qtbot, tmp_path
):
    first, second = two
    choose(ready, second)
    open_labels(ready, tmp_path / "second.zarr", qtbot)
    before = names_of(ready), shares_of(ready)
    choose(ready, first)
    ready.segment.output.use(tmp_path / "labels.zarr")
    wait_for_plan(ready, qtbot)
    FORWARD.close()
    ready.segment.bar.start.click()
    qtbot.waitUntil(FORWARD.reached.is_set, timeout=30_000)
    assert names_of(ready) == ["dark", "light"]
    choose(ready, second)
    assert (names_of(ready), shares_of(ready)) == before
    FORWARD.open()
    assert "Done" not in wait_for_end(ready, qtbot)  # the run of the first image
    assert (names_of(ready), shares_of(ready)) == before
    choose(ready, first)
    qtbot.waitUntil(lambda: ready.segment.bar.status.text().startswith("Done"))
    assert names_of(ready) == ["dark", "light"]
    assert "–" not in shares_of(ready)
    assert ready.segment.output.path == tmp_path / "labels.zarr"


def start_before_store(panel, checkpoint, qtbot):
    """Start a run, which waits for its checkpoint before it opens its store."""
    touch(checkpoint)
    LOADING.close()
    panel.segment.bar.start.click()
    qtbot.waitUntil(LOADING.reached.is_set, timeout=30_000)  # by the preparation
    touch(checkpoint)

    def waits() -> bool:
        waiting = LOADING.reached.is_set()
        if waiting and panel.segment.state is SegmentState.PREPARING:
            LOADING.admit()
        return waiting and panel.segment.state is SegmentState.RUNNING

    qtbot.waitUntil(waits, timeout=30_000)


def test_labels_of_run_are_hidden_until_image_is_chosen(
    viewer, ready, two, checkpoints, qtbot, tmp_path
):
    first, second = two
    start_before_store(ready, checkpoints[0], qtbot)
    open_labels(ready, tmp_path / "second.zarr", qtbot)
    LOADING.open()
    assert "Done" not in wait_for_end(ready, qtbot)  # the run of the first image
    assert ready.image.layer is second
    assert ready.segment.view.store.path == tmp_path / "second.zarr"
    assert shown_in(viewer) == ["second.zarr"]
    choose(ready, first)
    assert shown_in(viewer) == ["labels.zarr"]
    qtbot.waitUntil(lambda: ready.segment.bar.status.text().startswith("Done"))


def test_labels_opened_during_run_are_not_its_output(
    viewer, ready, two, checkpoints, qtbot, tmp_path
):
    part = ready.segment
    start_before_store(ready, checkpoints[0], qtbot)
    open_labels(ready, tmp_path / "first.zarr", qtbot)
    opened = part.view
    LOADING.open()
    assert wait_for_end(ready, qtbot).startswith("Done")
    assert shown_in(viewer) == ["labels.zarr"]
    assert part.output.path == part.view.store.path == tmp_path / "labels.zarr"
    open_labels(ready, tmp_path / "first.zarr", qtbot)
    assert part.view is opened
    assert shown_in(viewer) == ["first.zarr"]


def test_confidence_layer_is_removed_with_labels(viewer, ready, two, qtbot, tmp_path):
    def layers():
        return [
            x.metadata[STORE].path.name for x in viewer.layers if STORE in x.metadata
        ]

    for _ in range(2):
        open_labels(ready, tmp_path / "first.zarr", qtbot)
        qtbot.waitUntil(lambda: layers() == ["first.zarr"] * 2, timeout=10_000)
        viewer.layers.remove(ready.segment.view.layer)
        assert ready.segment.view is None
        qtbot.waitUntil(lambda: layers() == [])


def test_image_list_follows_layer_names(viewer, ready, two):
    first, _ = two
    first.name = "renamed"
    assert ready.image.box.itemText(ready.image.row(first)) == "renamed"
    assert ready.image.layer is first
    where = ready.segment.form.where
    shapes = viewer.add_shapes([np.eye(4, 2) * 9], shape_type="polygon", name="here")
    where.setCurrentIndex(2)
    shapes.name = "there"
    assert where.currentText() == "Shape in there"
