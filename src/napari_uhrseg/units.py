"""Formatting and parsing of amounts: bytes, times, lengths, areas and counts.

The texts are for users. A window may set another style of numbers, so texts that are
written to files use Python's own formatting instead.
"""

from collections.abc import Callable, Iterable

from napari_uhrseg.errors import UhrSegError

MB = 1024 * 1024

NumberStyle = Callable[[float, str], str]
_style: NumberStyle = format


def use_number_style(style: NumberStyle) -> None:
    """Set the function that formats the numbers of all texts for users.

    It takes a number and a format specification of Python, such as ``",.1f"``. The
    default is Python's `format`.
    """
    global _style
    _style = style


def formatted(value: float, spec: str = ",") -> str:
    """Return a number as a text for the user, by default with grouped digits."""
    return _style(value, spec)


def parse_bytes(text: str) -> int:
    """Return an amount such as ``"2GB"``, ``"1.5 GiB"`` or ``"800"`` (MB) in bytes.

    One GB is 1024 MB, as in the tools of GPU drivers.

    Raises
    ------
    UhrSegError
        If the text is not an amount.
    """
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = {"K": 1024, "M": MB, "G": 1024 * MB, "T": MB * MB}.get(number[-1:], 0)
    try:
        value = float(number[:-1] if unit else number) * (unit or MB)
    except ValueError:
        value = 0
    if not 0 < value < 2**60:
        raise UhrSegError(
            f"{text!r} is not an amount of memory.", "Write it as 2GB or 800MB."
        )
    return int(value)


def format_bytes(amount: float) -> str:
    """Return bytes as a text: ``"1.7 GB"``, ``"640 MB"``, ``"12 KB"``."""
    if amount >= 1000 * MB:
        return f"{formatted(amount / 1024 / MB, '.1f')} GB"
    if amount >= MB:
        return f"{formatted(amount / MB, '.0f')} MB"
    return f"{formatted(max(1, amount / 1024), '.0f')} KB"


def format_seconds(seconds: float) -> str:
    """Return a time as a text: ``"4 s"``, ``"6 min"``, ``"2 h 10 min"`` or days."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(hours / 24)} days"


def format_length(metres: float) -> str:
    """Return a length as a text: ``"0.5 µm"``, ``"30 cm"``, ``"10 m"``."""
    for factor, name in ((1.0, "m"), (1e-2, "cm"), (1e-3, "mm")):
        if metres >= factor:
            return f"{formatted(metres / factor, '.3g')} {name}"
    return f"{formatted(metres * 1e6, '.3g')} µm"


def format_area(area: float, unit: str) -> str:
    """Return an area in m², µm² or px as a text: ``"12.4 ha"``, ``"85 m²"``."""
    scaled = {
        "m²": ((1e6, 1e6, "km²"), (1e4, 1e4, "ha")),
        "µm²": ((1e12, 1e12, "m²"), (1e8, 1e8, "cm²"), (1e4, 1e6, "mm²")),
    }
    for least, factor, name in scaled.get(unit, ()):
        if area >= least:
            area, unit = area / factor, name
            break
    return f"{formatted(area, ',.3g' if area < 1000 else ',.0f')} {unit}"


def counted(number: int, what: str) -> str:
    """Return a number with its noun: ``1 window``, ``2 windows``."""
    return f"{formatted(number)} {what}" + ("" if number == 1 else "s")


def left_out_text(windows: int, area: float) -> str:
    """Return a number of windows and a share of the area as a text for the user."""
    verb = "is" if windows == 1 else "are"
    return (
        f"{counted(windows, 'window')} without tissue {verb} left out "
        f"({formatted(area, '.0%')} of the area has no tissue)"
    )


def quoted(names: Iterable[object]) -> str:
    """Return names of a user in quotes, since they may contain commas."""
    return ", ".join(repr(str(name)) for name in names)
