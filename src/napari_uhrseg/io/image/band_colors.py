"""Colours of bands by their names, colour interpretation and wavelengths."""

import math
import re
from collections.abc import Sequence

from napari_uhrseg.io.image.pixel_reader import Band

Bands = tuple[int, int, int]

# centre of Sentinel-2's band, and the range that counts as this colour, in nm
RANGES = {
    "blue": (492.0, 450.0, 520.0),
    "green": (560.0, 520.0, 600.0),
    "red": (665.0, 620.0, 690.0),
    "nir": (833.0, 760.0, 900.0),
}
# rededge and others are listed so that their names are not taken for red or nir
NAMES = (
    ("rededge", r"red[ _-]?edge|vegetation red edge|\bre\d?\b"),
    ("swir", r"swir|short[ _-]?wave"),
    ("other", r"thermal|mwir|lwir|\btir\b|infra[ _-]?red 2"),
    ("nir", r"nir\b|\bnir|near[ _-]?infra[ _-]?red|\binfra[ _-]?red\b"),
    ("blue", r"\bblue\b"),
    ("green", r"\bgreen\b"),
    ("red", r"\bred\b"),
)
LETTERS = {"r": "red", "g": "green", "b": "blue", "n": "nir"}
SENTINEL_2 = {"b02": "blue", "b03": "green", "b04": "red", "b08": "nir"}

# fluorophores by name, in the order in which they are looked for
FLUOROPHORES = (
    ("cyan", r"cfp|cerulean"),
    ("blue", r"dapi|hoechst|\bbfp\b|ebfp|pacific blue"),
    ("yellow", r"yfp|venus"),
    ("magenta", r"cy[ -]?5|cy[ -]?7|draq|\bapc\b|far[ -]?red|irdye"),
    ("green", r"fitc|gfp|cy[ -]?2\b|fluorescein|\bgreen\b"),
    ("orange", r"cy[ -]?3(?![.,]?5)|tritc|rhodamine|ds[ -]?red|td[ -]?tomato|\bpe\b"),
    ("red", r"cy[ -]?3[.,]?5|texas|cherry|\brfp\b|propidium|\bred\b"),
    ("blue", r"\bblue\b"),
    ("cyan", r"\bcyan\b"),
    ("magenta", r"\bmagenta\b"),
    ("yellow", r"\byellow\b"),
)
# emission in nm, up to which a channel has the colour
EMISSIONS = (
    (480.0, "blue"), (500.0, "cyan"), (545.0, "green"), (560.0, "yellow"),
    (600.0, "orange"), (650.0, "red"), (math.inf, "magenta"),
)  # fmt: skip
ALEXA_SHIFT = 20.0  # nm from the number of an Alexa dye, an excitation, to its emission
ORDER = ("green", "magenta", "cyan", "yellow", "red", "blue", "gray")


def true_color(bands: Sequence[Band]) -> Bands | None:
    """Return the indices of the red, green and blue band; None if one is not known."""
    return _find(bands, ("red", "green", "blue"))


def false_color(bands: Sequence[Band]) -> Bands | None:
    """Return the indices of near infrared, red and green; None if one is not known."""
    return _find(bands, ("nir", "red", "green"))


def channel_colors(bands: Sequence[Band]) -> tuple[str, ...]:
    """Return a napari colormap for each fluorescence channel.

    The colour is that of the fluorophore in the name, else that of the emission
    wavelength. The other channels get the first colours of `ORDER` that no other
    channel has.
    """
    known = [_fluorescence(band) for band in bands]
    free = [color for color in ORDER if color not in known] or list(ORDER)
    unknown = [i for i, color in enumerate(known) if not color]
    for number, i in enumerate(unknown):
        known[i] = free[number % len(free)]
    return tuple(known)


def _find(bands: Sequence[Band], wanted: tuple[str, str, str]) -> Bands | None:
    colors = [_color(band, bands) for band in bands]
    found = []
    for color in wanted:
        if color in colors:
            found.append(colors.index(color))
            continue
        centre, low, high = RANGES[color]
        near = [
            (abs(band.wavelength - centre), i)
            for i, band in enumerate(bands)
            if band.wavelength is not None and low <= band.wavelength < high
        ]
        if not near or any(colors[i] for _, i in near):
            return None
        found.append(min(near)[1])
    return found[0], found[1], found[2]


def _color(band: Band, bands: Sequence[Band]) -> str:
    """Return the colour that the file or the name of a band states; else empty."""
    if band.color:
        return band.color
    name = band.name.strip().lower()
    for color, pattern in NAMES:
        if re.search(pattern, name.replace("_", " ")):
            return color
    if name in LETTERS and {x.name.strip().lower() for x in bands} >= {"r", "g", "b"}:
        return LETTERS[name]
    if {x.name.strip().lower() for x in bands} >= set(SENTINEL_2):
        return SENTINEL_2.get(name, "other")
    return ""


def _fluorescence(band: Band) -> str:
    name = band.name.lower()
    for color, pattern in FLUOROPHORES:
        if re.search(pattern, name):
            return color
    emission = band.wavelength
    number = re.search(r"(opal|alexa|\baf)\D{0,8}(\d{3})\b", name)
    if number is not None:
        emission = float(number[2])
        emission += 0.0 if number[1] == "opal" else ALEXA_SHIFT
    if emission is None:
        return ""
    return next(color for most, color in EMISSIONS if emission < most)
