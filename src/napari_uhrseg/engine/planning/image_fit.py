"""Adaptation of an image's bands, pixel size and values to those of the training."""

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.band_colors import true_color
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import (
    PER_BAND,
    InputSpec,
    PerBand,
    ValueRange,
    describe_range,
    value_pairs,
)
from napari_uhrseg.units import counted, format_length, formatted

SAME_SCALE = 0.1  # pixel sizes that differ by at most 10 % count as equal
MAX_SCALE = 64.0
MOST_SCALE = 4.0
"""Largest ratio of the pixel sizes of an image and of a training that fits it."""


def fit_bands(
    image: Image, channels: int, wanted: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return the image's bands in the order of the network's channels.

    By default, three channels get red, green and blue if the image declares them, or
    if the names or wavelengths of its bands do. Otherwise the first ``channels`` bands
    are used. A single band fills every channel.

    Parameters
    ----------
    image
        The image to be segmented.
    channels
        Number of input channels of the network, at least 1.
    wanted
        Band indices that the user chose, counted from 0. None: choose by default.

    Returns
    -------
    One band index per channel.

    Raises
    ------
    PlanError
        If the image has too few bands, or if ``wanted`` does not fit image and network.
    """
    count = len(image.bands)
    if wanted is not None:
        if len(wanted) != channels or not all(0 <= b < count for b in wanted):
            raise PlanError(
                f"Bands {wanted} do not fit: the network takes {channels} of the "
                f"{count} that {image.name} has.",
                "Choose that many, counted from 0.",
            )
        return wanted
    if count == 1:
        return (0,) * channels
    if count < channels:
        raise PlanError(
            f"The network takes {channels} bands and {image.name} has {count}.",
            "Choose bands (one may be named more than once) or another network.",
        )
    colors = _true_color(image)
    if channels == len(colors):
        return colors  # in true colour, as the image is shown
    return tuple(range(channels))


def _true_color(image: Image) -> tuple[int, ...]:
    """Return the red, green and blue band; empty if they are not known."""
    return image.rgb_bands or true_color(image.bands) or ()


def describe_input(image: Image, bands: tuple[int, ...], values: ValueRange) -> str:
    """Return the bands that a network gets, and the values of black and white.

    Parameters
    ----------
    image
        The image to be segmented.
    bands
        One band index per channel of the network, counted from 0.
    values
        Image values that become 0 and 1, or two for each channel.
    """
    names = ", ".join(image.bands[band].name for band in bands)
    numbers = ", ".join(map(str, bands))
    if len(bands) > 1 and len(set(bands)) == 1:
        names, numbers = image.bands[bands[0]].name, f"{bands[0]}, in every channel"
    word = "bands" if len(set(bands)) > 1 else "band"
    return f"{names} ({word} {numbers}), values {describe_range(values)}"


def colors_known(image: Image) -> bool:
    """Return whether the red, green and blue band of an image are known."""
    return bool(_true_color(image))


def scale_ratio(image: Image, spec: InputSpec) -> float:
    """Return the ratio of the pixel sizes, at least 1; 1 if one is unknown."""
    if spec.pixel_size is None or image.meters_per_pixel is None:
        return 1.0
    scale = spec.pixel_size / image.meters_per_pixel
    return max(scale, 1 / scale)


def fit_scale(image: Image, spec: InputSpec) -> tuple[float, str]:
    """Return the number of level-0 pixels per network pixel, and a note for the user.

    The scale is the trained pixel size over the image's pixel size. It is 2 for a 40x
    slide and a network trained at 20x. Pixel sizes within 10 % count as equal. An
    unknown pixel size counts as the trained one; a run asks for it first.

    Returns
    -------
    scale : 1/64 to 64
    note : empty if the scale is 1
    """
    if spec.pixel_size is None or image.meters_per_pixel is None:
        return 1.0, ""
    scale = spec.pixel_size / image.meters_per_pixel
    if abs(scale - 1) <= SAME_SCALE:
        return 1.0, ""
    scale = min(MAX_SCALE, max(1 / MAX_SCALE, scale))
    return scale, _scale_note(spec.pixel_size, image.meters_per_pixel, scale)


def _scale_note(trained: float, size: float, scale: float) -> str:
    return (
        f"The checkpoint was trained at {format_length(trained)}/px and the image has "
        f"{format_length(size)}/px. The image is read at scale "
        f"{formatted(scale, '.3g')}."
    )


def fit_values(
    image: Image,
    spec: InputSpec,
    bands: tuple[int, ...],
    wanted: ValueRange | PerBand | None = None,
) -> ValueRange:
    """Return the image values that become 0 and 1, or two for each channel.

    Parameters
    ----------
    image
        The image to be segmented.
    spec
        The input specification of the network.
    bands
        Indices of the bands that the network gets.
    wanted
        The range that the user chose. ``PER_BAND``: an estimate for each band from a
        sample of its pixels. None: the range of ``spec``, or one estimate from a sample
        of the pixels of these bands.

    Raises
    ------
    PlanError
        If the range that the user chose is empty, or has another number of values.
    """
    wanted = wanted or spec.value_range
    if wanted is None:
        return image.estimate_range(bands)
    if wanted == PER_BAND:
        return image.estimate_each(bands)
    if len(wanted) not in (2, 2 * len(bands)):
        raise PlanError(
            f"The value range has {len(wanted)} numbers, and the network takes "
            f"{counted(len(bands), 'band')}.",
            f"Choose two numbers, or {2 * len(bands)}: two for each band.",
        )
    for low, high in value_pairs(wanted):
        if low == high:
            raise PlanError(
                f"The value range {low:g} to {high:g} is empty.",
                "Choose two different values.",
            )
    return wanted
