"""Tests of forms built from dataclass fields."""

import dataclasses

import pytest

from napari_uhrseg.types import PER_BAND, FineTuneSettings, SegmentSettings
from napari_uhrseg.ui.widgets.form import Form

NAMES = ("precision", "overlap", "bands", "scale", "value_range", "skip_background")


@pytest.fixture
def form(qtbot):
    form = Form(SegmentSettings, NAMES)
    qtbot.addWidget(form)
    return form


def test_form_returns_defaults(form):
    assert SegmentSettings(**form.values()) == SegmentSettings()


def test_form_rows_have_titles(form):
    titles = {w.accessibleName() for w in form.widgets.values()}
    wanted = {
        f.metadata["title"]
        for f in dataclasses.fields(SegmentSettings)
        if f.name in NAMES
    }
    assert titles == wanted


def test_form_returns_entered_values(form, qtbot):
    with qtbot.waitSignal(form.changed):
        form.widgets["overlap"].setValue(0)
    form.widgets["scale"].setValue(2)
    form.widgets["bands"].setText("2, 1,0")
    form.widgets["value_range"].setText("0, 4095")
    form.widgets["precision"].setCurrentText("bf16")
    form.widgets["skip_background"].setChecked(False)
    assert form.values() == {
        "precision": "bf16",
        "overlap": 0,
        "bands": (2, 1, 0),
        "scale": 2.0,
        "value_range": (0.0, 4095.0),
        "skip_background": False,
    }


def test_form_takes_a_word_instead_of_numbers(form):
    form.widgets["value_range"].setText(" per-band ")
    assert form.values()["value_range"] == PER_BAND
    form.set_values({"value_range": None})
    assert form.values()["value_range"] is None
    form.set_values({"value_range": PER_BAND})
    assert form.values()["value_range"] == PER_BAND


@pytest.mark.parametrize(("name", "text"), [("bands", "red"), ("value_range", "1")])
def test_form_rejects_invalid_numbers(form, name, text):
    form.widgets[name].setText(text)
    with pytest.raises(ValueError, match=f"{text!r} is not"):
        form.values()


def test_form_auto_differs_from_zero(qtbot):
    """Weight 0 switches distillation off; auto lets the program choose."""
    form = Form(FineTuneSettings, ("distillation_weight",))
    qtbot.addWidget(form)
    box = form.widgets["distillation_weight"]
    assert form.values() == {"distillation_weight": None}
    assert box.text() == "auto"
    box.setValue(0)
    assert form.values() == {"distillation_weight": 0.0}
    assert box.text() == "0.00"
