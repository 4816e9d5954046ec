"""Contrast of the panel's colours on napari's themes (WCAG 2.2, level AA)."""

import pytest
from napari.utils.theme import get_theme
from qtpy.QtGui import QColor

from helpers.contrast import contrast as contrast_of_colors
from napari_uhrseg.ui.widgets import colours


def contrast(one: str, other: str) -> float:
    return contrast_of_colors(QColor(one), QColor(other))


def test_contrast_of_black_and_white():
    assert contrast("black", "white") == pytest.approx(21)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_outline_and_curves_are_visible_on_both_themes(theme):
    background = str(get_theme(theme).background)
    assert contrast(colours.ORANGE, background) >= 3
    assert contrast(colours.BLUE, background) >= 3


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_text_is_legible_on_tabs_and_buttons(theme):
    found = get_theme(theme)
    for background in (
        found.background,
        found.foreground,
        found.primary,
        found.current,
    ):
        assert contrast(str(found.text), str(background)) >= 4.5


def test_text_of_the_main_button_is_legible():
    assert contrast("white", colours.MAIN_BUTTON) >= 4.5
    assert contrast("white", colours.MAIN_BUTTON_HOVER) >= 4.5
    assert contrast("black", colours.MAIN_BUTTON_CHECKED) >= 4.5
