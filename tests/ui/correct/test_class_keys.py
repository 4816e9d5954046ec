"""Tests of number keys that choose classes, also beyond nine."""

import pytest

from napari_uhrseg.ui.correct.class_keys import PAUSE_S, ClassKeys


@pytest.fixture
def keys():
    """Return keys whose clock is a list with one time."""
    now = [0.0]
    made = ClassKeys(lambda: now[0])

    def press(digit, count, pause=0.1):
        now[0] += pause
        return made.press(digit, count)

    return press


def test_one_digit_chooses_a_row_or_the_eraser(keys):
    assert keys(3, 5) == 3
    assert keys(0, 5, pause=2) == 0
    assert keys(9, 5, pause=2) is None


def test_two_digits_in_time_choose_a_row_beyond_nine(keys):
    assert keys(1, 12) == 1
    assert keys(2, 12) == 12
    assert keys(1, 12) == 1  # a new number
    assert keys(0, 12) == 10


def test_digits_are_separate_after_a_pause_or_without_such_a_row(keys):
    assert keys(1, 12) == 1
    assert keys(2, 12, pause=PAUSE_S + 0.1) == 2
    assert keys(4, 12) == 4  # there is no row 24
    assert [keys(digit, 9) for digit in (1, 0, 1, 2)] == [1, 0, 1, 2]


def test_second_digit_chooses_a_row_that_the_first_could_not(keys):
    assert keys(0, 30) == 0
    assert keys(2, 30) == 2
    assert keys(9, 30) == 29
