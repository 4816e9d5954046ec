"""Evaluation of a checkpoint on images of a project, by image and class."""

from dataclasses import replace

import pytest

from helpers.corrections import correct, dark_checkpoint
from helpers.small_project import LEGEND
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project_labels import ProjectLabels
from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.project.evaluation import names_in
from napari_uhrseg.ui.project.evaluation_panel import EvaluationPanel
from napari_uhrseg.ui.segment.hardware import DeviceChoice, HardwareForm
from napari_uhrseg.ui.workers.worker import Workers


@pytest.fixture
def labels(file):
    """Return the images of the project; blue is light and red dark, gone is missing."""
    folder = file.folder
    store = folder / "labels/blue.tif.labels.zarr"
    with LabelStore.create(store, open_image(folder / "blue.tif"), LEGEND) as made:
        correct(made, Roi(30, 30, 20, 20), 2)
    images = file.read().images
    return ProjectLabels(
        ProjectPaths(folder), images, frozenset(i.path for i in images)
    )


@pytest.fixture
def panel(qtbot, labels):
    workers = Workers()
    hardware = HardwareForm(workers)
    hardware.set_choices([DeviceChoice("cpu", "CPU", 2**30, 2**29)])
    made = EvaluationPanel(workers, hardware)
    qtbot.addWidget(made)
    made.set_labels(labels, chosen=False)
    yield made
    made.stop()
    workers.close()


def rows(panel) -> dict:
    """Return the IoU of each class by the first column of the row above it."""
    root = panel.table.invisibleRootItem()
    items = [root.child(n) for n in range(root.childCount())]
    return {
        item.text(0): {
            item.child(n).text(0): item.child(n).text(1)
            for n in range(item.childCount())
        }
        for item in items
    }


def evaluate(panel, qtbot) -> dict:
    with qtbot.waitSignals([panel.busyChanged, panel.busyChanged], timeout=60_000):
        panel.start.click()
    return rows(panel)


@pytest.mark.slow
def test_scores_of_each_image_and_class(panel, qtbot, tmp_path):
    panel.set_checkpoint(dark_checkpoint(tmp_path).path)
    assert evaluate(panel, qtbot) == {
        "all 2 images": {"dark": "50.0", "light": "0.0"},
        "red.tif": {"dark": "100.0"},
        "blue.tif": {"dark": "0.0", "light": "0.0"},
    }
    assert "gone.tif does not exist" in panel.status.text()
    assert panel.start.isEnabled()


@pytest.mark.slow
def test_images_that_were_trained_on_are_left_out_or_named(
    panel, labels, qtbot, tmp_path
):
    made = dark_checkpoint(tmp_path)
    card = replace(made.card, trained_on="a scene; then 4 regions corrected in red.tif")
    path = save_checkpoint(tmp_path / "tuned.safetensors", made.model, card)
    assert names_in(load_checkpoint(path).card.trained_on) >= {"red.tif"}
    panel.set_checkpoint(path)
    assert list(evaluate(panel, qtbot)) == ["blue.tif"]
    panel.set_labels(replace(labels, images=labels.images[:1]), chosen=True)
    assert panel.start.text() == "Evaluate on 1 image"
    assert list(evaluate(panel, qtbot)) == ["red.tif (trained on)"]


def test_evaluation_needs_labels_a_checkpoint_and_a_free_device(panel, tmp_path):
    assert not panel.start.isEnabled()
    panel.set_checkpoint(tmp_path / "net.safetensors")
    assert panel.start.isEnabled()
    panel.set_blocked("A training is running.")
    assert not panel.start.isEnabled()
    assert panel.start.toolTip() == "A training is running."
    panel.set_labels(None, chosen=False)
    assert panel.isHidden()
