"""Test the dialog with the questions before a run."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.label_stores import RUN
from helpers.wait import wait_for_end
from napari_uhrseg.engine.planning.run_questions import RunQuestion, image_questions
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import InputSpec, LabelClass, Legend, SegmentSettings, View
from napari_uhrseg.ui.segment.run_questions import RunQuestionsDialog
from napari_uhrseg.ui.segment.worker import PreparedRun, SegmentRequest

CLASSES = ("gland", "stroma")
SCALE = RunQuestion("scale", "trained at 1 m, the image has 1 µm", "")
SIZE = RunQuestion("pixel_size", "pixel size unknown", "", pixel_size=0.5)
BANDS = RunQuestion("bands", "takes 3 bands, the image has 4", "")
MISSING = RunQuestion("classes", "lack: …", "", missing=("Gland", "road", "lake"))


@pytest.fixture
def ask(qapp, tmp_path):
    def make(*questions: RunQuestion, classes: tuple[str, ...] = CLASSES):
        image = image_from_array(np.zeros((8, 8, 4), np.uint8), name="a", axes="yxs")
        request = SegmentRequest(
            image, tmp_path, SegmentSettings(), 0, tmp_path / "labels.zarr"
        )
        plan = SimpleNamespace(run=replace(RUN, scale=64.0, bands=(0, 1, 2)))
        return RunQuestionsDialog(
            PreparedRun(request, plan, questions=questions, classes=classes)
        )

    return make


def test_dialog_confirms_the_scale_and_the_bands(ask):
    dialog = ask(SCALE, BANDS)
    assert dialog.answers() == {"scale": 64.0, "bands": (0, 1, 2)}
    dialog.scale.setValue(2.5)
    dialog.bands[0].setCurrentIndex(3)
    assert dialog.answers() == {"scale": 2.5, "bands": (3, 1, 2)}
    assert dialog.segment.isEnabled()


@pytest.mark.parametrize(
    ("value", "unit", "scale"), [(0.5, "m", 1), (25, "cm", 2), (0.5, "µm", 64)]
)
def test_dialog_computes_the_scale_from_the_pixel_size(ask, value, unit, scale):
    dialog = ask(SIZE)
    assert dialog.answers() == {"scale": 1.0}
    dialog.pixel_size.setValue(value)
    dialog.unit.setCurrentText(unit)
    assert dialog.answers() == {"scale": scale}


def test_dialog_maps_classes_by_name_and_waits_for_all_answers(ask):
    dialog = ask(MISSING)
    assert not dialog.segment.isEnabled()
    assert dialog.segment.toolTip()
    dialog.classes["road"].setCurrentText("No label")
    dialog.classes["lake"].setCurrentText("stroma")
    assert dialog.segment.isEnabled()
    names = (("Gland", "gland"), ("road", ""), ("lake", "stroma"))
    assert dialog.answers() == {"class_names": names}


def test_dialog_writes_new_labels_without_a_mapping(ask):
    dialog = ask(MISSING, SCALE)
    dialog.other.click()
    assert dialog.new_labels
    assert dialog.answers() == {"scale": 64.0}
    assert dialog.result() == dialog.DialogCode.Accepted


@pytest.mark.slow
def test_run_maps_classes_after_the_question(
    ready, image, monkeypatch, qtbot, tmp_path
):
    own = Legend((LabelClass(1, "shade", "#101010"), LabelClass(2, "sun", "#f0f0f0")))
    LabelStore.create(tmp_path / "labels.zarr", image, own).close()
    asked = []

    def answer(dialog: RunQuestionsDialog) -> int:
        asked.extend(dialog.classes)
        for box, name in zip(dialog.classes.values(), ("sun", "No label"), strict=True):
            box.setCurrentText(name)
        dialog.segment.click()
        return dialog.result()

    monkeypatch.setattr(RunQuestionsDialog, "exec", answer)
    ready.segment.bar.start.click()
    assert wait_for_end(ready, qtbot).startswith("Done")
    assert asked == ["dark", "light"]
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        assert store.legend == own
        assert store.runs[0].class_map == (2, 0)
    ready.segment.bar.start.click()  # the run has answered
    assert wait_for_end(ready, qtbot).startswith("Done")
    assert len(asked) == 2


def test_answer_keeps_the_decimal_point_of_the_command_line(qapp, set_locale):
    set_locale("de_DE")
    image = image_from_array(
        np.zeros((8, 8), np.uint8), name="a", pixel_size=(0.08, 0.08), unit="metre"
    )
    spec = InputSpec({"local": View(64)}, 64, 1, mean=(0,), std=(1,), pixel_size=0.5)
    (question,) = image_questions(image, spec, SegmentSettings())
    assert "read at scale 6,25" in question.text
    assert "--scale 6.25)" in question.answer
