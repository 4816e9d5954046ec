"""One model from the corrected images of a project: choice, summary and outcome."""

from dataclasses import replace
from pathlib import Path

import pytest
import tifffile
from napari.components import ViewerModel

from helpers.corrections import dark_checkpoint, stroke_everywhere, two_tone
from helpers.small_project import LEGEND
from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project import ProjectImage
from napari_uhrseg.io.project.project_labels import ProjectLabels
from napari_uhrseg.types import FineTuneSettings, Roi
from napari_uhrseg.ui.finetune.form import FineTuneForm
from napari_uhrseg.ui.finetune.result import ResultPanel
from napari_uhrseg.ui.finetune.worker import FineTuneRequest, describe, summarize

ENTRIES = tuple(ProjectImage(f"{n}.tif", f"{n}.zarr", "corrected") for n in range(3))


def project_labels(folder: Path, images=ENTRIES) -> ProjectLabels:
    return ProjectLabels(
        ProjectPaths(folder), images, frozenset(i.path for i in images)
    )


def test_images_of_a_project_are_offered_and_withdrawn(qtbot, tmp_path):
    form = FineTuneForm(ViewerModel())
    qtbot.addWidget(form)
    box = form.corrections
    assert box.count() == 2
    labels = project_labels(tmp_path)
    form.set_several(labels, chosen=False)
    assert box.itemText(2) == "3 corrected images"
    box.setCurrentIndex(2)
    with qtbot.waitSignal(form.changed):
        form.set_several(replace(labels, images=ENTRIES[:2]), chosen=True)
    assert box.currentText() == "2 chosen images"
    form.set_several(None, chosen=False)
    assert box.currentText() == "All corrections"
    form.stop()


@pytest.mark.slow
def test_summary_counts_all_images_and_names_missing_ones(tmp_path, qtbot):
    truth, image = two_tone()
    for entry in ENTRIES[:2]:
        pixels = image.read(Roi(0, 0, *image.shape)).data
        tifffile.imwrite(tmp_path / entry.path, pixels, photometric="rgb")
        opened = open_image(tmp_path / entry.path)
        with LabelStore.create(tmp_path / entry.labels, opened, LEGEND) as store:
            stroke_everywhere(store, truth)
    start = dark_checkpoint(tmp_path).path
    settings = FineTuneSettings(device="cpu")
    request = FineTuneRequest(
        opened, tmp_path / ENTRIES[0].labels, start, settings, 2**30
    )
    one = summarize(request)
    both = summarize(replace(request, several=project_labels(tmp_path)))
    assert both.windows == 2 * one.windows
    assert "2.tif is left out: 2.tif does not exist" in describe(both)
    assert request.subject == "1.tif"


def test_outcome_has_a_row_for_each_class_and_each_image(qtbot):
    panel = ResultPanel()
    qtbot.addWidget(panel)
    before = {"miou": 0.5, "iou/dark": 0.5, "miou/north.tif": 0.25}
    after = {"miou": 0.75, "miou/north.tif": 0.5, "iou/dark": 0.75}
    panel.show_outcome(FineTuneFinished(before, after, "better", Path("x")), None)
    items = [panel.table.topLevelItem(n) for n in range(3)]
    assert [[i.text(k) for k in range(4)] for i in items] == [
        ["mean (mIoU)", "50.0", "75.0", "+25.0"],
        ["dark", "50.0", "75.0", "+25.0"],
        ["north.tif", "25.0", "50.0", "+25.0"],
    ]
    assert "image" in items[2].toolTip(0)
