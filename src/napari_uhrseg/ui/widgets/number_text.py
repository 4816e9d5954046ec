"""Numbers, dates and times as the user's locale (QLocale) has them.

The import of this module lets all texts of the window use the locale. Files, commands
and stored settings keep the decimal point. `plain` reads what a user has typed.
"""

import re
from collections.abc import Iterable
from datetime import datetime

from qtpy.QtCore import QDate, QDateTime, QEvent, QLocale, QObject, QTime
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QDoubleSpinBox, QLineEdit

from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.units import use_number_style

LARGEST = 2**63  # what QLocale can format as an integer, exclusive
NUMBER = re.compile(r"([+-]?)(\d[\d,]*)(?:\.(\d+))?(.*)")
TYPED = re.compile(r"(?<![\w.,])[.,٫]?\d(?:[\d.,'’\xa0\u202f٫٬]*\d)?")
DECIMAL = re.compile(r"(?<![\w.,])(\d*)\.(\d+)(?![\d.,])")


def local_number(value: float, spec: str) -> str:
    """Return a number with the separators and digits of the locale.

    Parameters
    ----------
    value
        The number.
    spec
        Format specification of Python, such as ``",.1f"`` or ``".0%"``.
    """
    text = format(value, spec)
    found = NUMBER.fullmatch(text)
    if found is None:  # not a finite number
        return text
    sign, whole, fraction, rest = found.groups()
    locale, count = QLocale(), int(whole.replace(",", ""))
    if "," in spec and count < LARGEST:
        locale.setNumberOptions(QLocale.NumberOption.DefaultNumberOptions)
        whole = locale.toString(count)
    else:
        whole = _digits(whole.replace(",", locale.groupSeparator()), locale)
    if fraction is not None:
        whole += locale.decimalPoint() + _digits(fraction, locale)
    return sign + whole + rest


def local_date(when: datetime) -> str:
    """Return a date and time in the short format of the locale."""
    if QLocale().language() == QLocale.Language.C:
        return when.strftime("%Y-%m-%d %H:%M")
    moment = QDateTime(QDate(when.year, when.month, when.day), _qt_time(when))
    return QLocale().toString(moment, QLocale.FormatType.ShortFormat)


def local_time(when: datetime) -> str:
    """Return the time of day in the short format of the locale."""
    if QLocale().language() == QLocale.Language.C:
        return when.strftime("%H:%M")
    return QLocale().toString(_qt_time(when), QLocale.FormatType.ShortFormat)


def local(text: str) -> str:
    """Return a text with the decimal point of the locale in its numbers."""
    point = QLocale().decimalPoint()
    return DECIMAL.sub(lambda found: found[1] + point + found[2], text)


def plain(text: str) -> str:
    """Return what a user has typed with a decimal point and without digit groups.

    A number of the locale is understood first, then one with a decimal point: in
    German, ``1.234,5`` is 1234.5, ``1.234`` is 1234, and ``0.5`` is 0.5.
    """
    locale = QLocale()
    group, point = re.escape(locale.groupSeparator()), re.escape(locale.decimalPoint())
    whole = rf"(?:[1-9]\d?\d?(?:{group}\d\d\d?)*{group}\d\d\d|\d+)"
    of_locale = re.compile(rf"({whole}?)(?:{point}(\d+))?")

    def convert(found: re.Match[str]) -> str:
        number = of_locale.fullmatch(found[0])
        if number is None:
            return found[0]
        digits = number[1].replace(locale.groupSeparator(), "")
        tail = "" if number[2] is None else f".{number[2]}"
        return "".join(str(int(c)) if c.isdigit() else c for c in digits + tail)

    return TYPED.sub(convert, text)


def split_numbers(text: str, whole: bool = False) -> list[str]:
    """Return the numbers of a list that a user has typed, with decimal points.

    Semicolons and commas separate numbers. Where the comma is the decimal point, one
    between two digits separates only whole numbers or more than two parts.

    Parameters
    ----------
    text
        The list, such as ``0, 255``.
    whole
        True if the numbers are integers.
    """
    if whole or QLocale().decimalPoint() != ",":
        parts = re.split("[;,]", text)
    else:
        parts = re.split(r";|,(?=\s)|,$", text)
        parts = [p for part in parts for p in (part.split(",") if part.count(",") > 1
                                               else [part])]  # fmt: skip
    return [plain(part.strip()) for part in parts if part.strip()]


def number_list(values: Iterable[float]) -> str:
    """Return numbers as a list that `split_numbers` reads."""
    separator = "; " if QLocale().decimalPoint() == "," else ", "
    return separator.join(local(str(value).removesuffix(".0")) for value in values)


class _DecimalKeys(QObject):
    """Filter of keys: the decimal point of other locales becomes that of the box."""

    def eventFilter(self, box: QObject | None, event: QEvent | None) -> bool:
        """Insert the decimal point of the locale for a typed point."""
        if not isinstance(event, QKeyEvent) or event.type() != QEvent.Type.KeyPress:
            return False
        point = QLocale().decimalPoint()
        if event.text() != "." or point == "." or not isinstance(box, QDoubleSpinBox):
            return False
        line: QLineEdit = required(box.lineEdit())
        if point not in line.text() or point in line.selectedText():
            line.insert(point)
        return True


def accept_decimal_point(box: QDoubleSpinBox) -> None:
    """Let a field accept a typed point as the decimal point in every locale.

    Qt would read the point of ``0.5`` as a separator of digit groups: as 5.
    """
    locale = QLocale()
    locale.setNumberOptions(QLocale.NumberOption.RejectGroupSeparator
                            | QLocale.NumberOption.OmitGroupSeparator)  # fmt: skip
    box.setLocale(locale)
    box.installEventFilter(_DecimalKeys(box))


def _digits(text: str, locale: QLocale) -> str:
    """Return a text with the digits of a locale."""
    zero = ord(locale.zeroDigit())
    return "".join(chr(zero + int(c)) if c.isdigit() else c for c in text)


def _qt_time(when: datetime) -> QTime:
    return QTime(when.hour, when.minute)


use_number_style(local_number)
