"""Numbers and dates of the window in several locales."""

from datetime import datetime

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QWidget

from napari_uhrseg.types import AreaSize, SegmentSettings
from napari_uhrseg.ui.widgets.clean_up_form import CleanUpForm
from napari_uhrseg.ui.widgets.form import Form
from napari_uhrseg.ui.widgets.number_text import (
    accept_decimal_point,
    local,
    local_date,
    local_number,
    local_time,
    number_list,
    plain,
    split_numbers,
)
from napari_uhrseg.units import counted, format_area, format_bytes

NARROW, NO_BREAK = "\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("name", "value", "spec", "expected"),
    [
        ("C", 1234567, ",", "1,234,567"),
        ("C", 1234.5, ".1f", "1234.5"),
        ("en_US", 1234.5, ",.1f", "1,234.5"),
        ("de_DE", 1234.5, ",.1f", "1.234,5"),
        ("de_DE", 1234.5, ".1f", "1234,5"),
        ("de_DE", -0.0823, "+.1%", "-8,2%"),
        ("de_DE", 1234, "+,", "+1.234"),
        ("de_DE", 1.5e-7, ".3g", "1,5e-07"),
        ("de_CH", 1234567, ",", "1'234'567"),
        ("fr_FR", 1234567.25, ",.2f", f"1{NARROW}234{NARROW}567,25"),
        ("pl_PL", 1234, ",", "1234"),
        ("pl_PL", 12345, ",", f"12{NO_BREAK}345"),
        ("hi_IN", 1234567, ",", "12,34,567"),
        ("de_DE", 10**20, ",", "100.000.000.000.000.000.000"),
        ("de_DE", float("nan"), ".1f", "nan"),
    ],
)
def test_number_has_the_separators_of_the_locale(
    name, value, spec, expected, set_locale
):
    set_locale(name)
    assert local_number(value, spec).replace("’", "'") == expected


def test_texts_of_amounts_follow_the_locale(set_locale):
    assert format_area(1234.6, "px") == "1,235 px"
    set_locale("de_DE")
    assert format_area(1234.6, "px") == "1.235 px"
    assert format_area(12.4e6, "µm²") == "12,4 mm²"
    assert format_bytes(1.5 * 2**30) == "1,5 GB"
    assert counted(1234, "window") == "1.234 windows"


def test_dates_have_the_short_format_of_the_locale(set_locale):
    when = datetime(2026, 11, 3, 14, 5)
    assert (local_date(when), local_time(when)) == ("2026-11-03 14:05", "14:05")
    set_locale("de_DE")
    assert (local_date(when), local_time(when)) == ("03.11.26 14:05", "14:05")
    set_locale("en_US")
    assert local_date(when).startswith("11/3/26 2:05")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("C", "0.5 mm2", "0.5 mm2"),
        ("C", "1,234.5 um2", "1234.5 um2"),
        ("C", "0,5 mm2", "0,5 mm2"),  # refused by the field
        ("en_US", "0,255", "0,255"),
        ("de_DE", "0,5 mm2", "0.5 mm2"),
        ("de_DE", "0.5 mm2", "0.5 mm2"),
        ("de_DE", "0.125", "0.125"),
        ("de_DE", "1.234,5 µm²", "1234.5 µm²"),
        ("de_DE", "1.234", "1234"),
        ("de_DE", "50 um2", "50 um2"),
        ("fr_FR", f"1{NARROW}234,5 um2", "1234.5 um2"),
        ("ar_EG", "٠٫٥ mm2", "0.5 mm2"),
    ],
)
def test_typed_number_is_read_by_the_locale(name, text, expected, set_locale):
    set_locale(name)
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("C", "0, 255", ["0", "255"]),
        ("C", "0,255", ["0", "255"]),
        ("C", "0.5; 1.5", ["0.5", "1.5"]),
        ("de_DE", "0, 255", ["0", "255"]),
        ("de_DE", "0,5; 1,5", ["0.5", "1.5"]),
        ("de_DE", "0,5, 1,5", ["0.5", "1.5"]),
        ("de_DE", "0.5, 1.5,", ["0.5", "1.5"]),
        ("de_DE", "1,2,3", ["1", "2", "3"]),
        ("de_DE", "0,5", ["0.5"]),
    ],
)
def test_list_of_numbers_is_read_by_the_locale(name, text, expected, set_locale):
    set_locale(name)
    assert split_numbers(text) == expected


def test_lists_of_values_and_bands_return_unchanged(set_locale):
    for name in ("C", "de_DE", "fr_FR"):
        set_locale(name)
        values = split_numbers(number_list((0.5, 1234.25, 3.0)))
        assert [float(value) for value in values] == [0.5, 1234.25, 3.0]
        assert plain(local("0.125 mm2")) == "0.125 mm2"
    assert split_numbers("0,1", whole=True) == ["0", "1"]


@pytest.mark.parametrize("typed", ["0,5", "0.5"])
def test_german_user_types_half(typed, qtbot, set_locale):
    set_locale("de_DE")
    box = QDoubleSpinBox()
    qtbot.addWidget(box)
    accept_decimal_point(box)
    box.setSuffix(" px")
    box.selectAll()
    qtbot.keyClicks(box, typed)
    qtbot.keyClick(box, Qt.Key.Key_Enter)
    assert box.value() == 0.5
    assert box.text() == "0,50 px"


def test_form_reads_numbers_of_the_locale(qtbot, set_locale):
    set_locale("de_DE")
    form = Form(SegmentSettings, ("scale", "value_range", "bands"))
    qtbot.addWidget(form)
    form.widgets["scale"].selectAll()
    qtbot.keyClicks(form.widgets["scale"], "2.5\r")
    form.widgets["value_range"].setText("0,5; 255")
    form.widgets["bands"].setText("0,1,2")
    found = form.values()
    assert found == {"scale": 2.5, "value_range": (0.5, 255.0), "bands": (0, 1, 2)}
    form.set_values({"value_range": (0.25, 9.0)})
    assert form.widgets["value_range"].text() == "0,25; 9"
    assert form.values()["value_range"] == (0.25, 9.0)


def test_area_of_the_locale_is_kept_with_a_decimal_point(qtbot, set_locale):
    set_locale("de_DE")
    parent = QWidget()
    qtbot.addWidget(parent)
    form = CleanUpForm(QFormLayout(parent))
    form.object.setText("0,5 mm2")
    assert form.settings().min_object == AreaSize(0.5, "mm²")
    assert form.choices()["min_object"] == "0.5 mm2"
    form.set_choices({"fill_holes": "2.5 um2"})
    assert form.hole.text() == "2,5 um2"
