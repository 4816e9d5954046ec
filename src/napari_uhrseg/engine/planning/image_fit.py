"""Adaptation of an image's bands, pixel size and values to those of the training."""

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.band_colors import true_color
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import InputSpec
from napari_uhrseg.units import format_length

SAME_SCALE = 0.1  # pixel sizes that differ by at most 10 % count as equal
MAX_SCALE = 64.0


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


def describe_input(
    image: Image, bands: tuple[int, ...], values: tuple[float, float]
) -> str:
    """Return the bands that a network gets, and the values of black and white.

    Parameters
    ----------
    image
        The image to be segmented.
    bands
        One band index per channel of the network, counted from 0.
    values
        Image values that become 0 and 1.
    """
    names = ", ".join(image.bands[band].name for band in bands)
    numbers = ", ".join(map(str, bands))
    if len(bands) > 1 and len(set(bands)) == 1:
        names, numbers = image.bands[bands[0]].name, f"{bands[0]}, in every channel"
    low, high = (f"{value:,.6g}" for value in values)
    word = "bands" if len(set(bands)) > 1 else "band"
    return f"{names} ({word} {numbers}), values {low} to {high}"


def band_warning(image: Image, bands: tuple[int, ...]) -> str:
    """Return a warning if the first of several bands are used without a known colour.

    The text is empty if the image has no other bands, or if the colours are known.
    """
    first = tuple(range(len(bands)))
    if len(bands) != 3 or len(image.bands) <= 3 or bands != first:
        return ""
    if _true_color(image):
        return ""
    return (
        f"{image.name} does not state which of its {len(image.bands)} bands are red, "
        "green and blue. The network gets the first three in this order. Choose the "
        "bands (Channels, --bands) if the order differs from that of the training data."
    )


def fit_scale(image: Image, spec: InputSpec) -> tuple[float, str]:
    """Return the number of level-0 pixels per network pixel, and a note for the user.

    The scale is the trained pixel size over the image's pixel size. It is 2 for a 40x
    slide and a network trained at 20x. Pixel sizes within 10 % count as equal. An
    unknown pixel size counts as the trained one, and the note says so.

    Returns
    -------
    scale : 1/64 to 64
    note : empty if the scale is 1 and the pixel size is known
    """
    if spec.pixel_size is None:
        return 1.0, ""
    if image.meters_per_pixel is None:
        return 1.0, (
            "The pixel size of the image is unknown. It is assumed to be the "
            f"{format_length(spec.pixel_size)} that the checkpoint was trained at."
        )
    scale = spec.pixel_size / image.meters_per_pixel
    if abs(scale - 1) <= SAME_SCALE:
        return 1.0, ""
    scale = min(MAX_SCALE, max(1 / MAX_SCALE, scale))
    return scale, (
        f"The checkpoint was trained at {format_length(spec.pixel_size)}/px and the "
        f"image has {format_length(image.meters_per_pixel)}/px. The image is read at "
        f"scale {scale:.3g}."
    )


def fit_values(
    image: Image,
    spec: InputSpec,
    bands: tuple[int, ...],
    wanted: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return the image values that become 0 and 1.

    Parameters
    ----------
    image
        The image to be segmented.
    spec
        The input specification of the network.
    bands
        Indices of the bands that the network gets.
    wanted
        The range that the user chose. None: the range of ``spec``, or an estimate from
        a sample of the pixels of these bands.

    Raises
    ------
    PlanError
        If both values of the range that the user chose are equal.
    """
    if wanted is not None and wanted[0] == wanted[1]:
        raise PlanError(
            f"The value range {wanted[0]:g} to {wanted[1]:g} is empty.",
            "Choose two different values.",
        )
    return wanted or spec.value_range or image.estimate_range(bands)
