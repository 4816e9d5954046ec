"""How an image is fed to a network that was made for other images."""

from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import InputSpec
from napari_uhrseg.units import format_length

SAME_SCALE = 0.1  # pixel sizes within 10 % are taken as one


def fit_bands(
    image: Image, channels: int, wanted: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """The image's bands, in the order of the network's channels.

    Without a wish: red, green and blue for three channels where the image says which
    those are, else the first ones; a single band goes into every channel.

    Raises
    ------
    PlanError
        There are too few, or the wish is not possible.
    """
    there = len(image.bands)
    if wanted is not None:
        if len(wanted) != channels or not all(0 <= b < there for b in wanted):
            raise PlanError(
                f"Bands {wanted} do not fit: the network takes {channels} of the "
                f"{there} that {image.name} has.",
                "Choose that many, counted from 0.",
            )
        return wanted
    if there == 1:
        return (0,) * channels
    if there < channels:
        raise PlanError(
            f"The network takes {channels} bands and {image.name} has {there}.",
            "Choose bands (one may be named more than once) or another network.",
        )
    if channels == len(image.rgb_bands):
        return image.rgb_bands  # in true colour, as the image is shown
    return tuple(range(channels))


def fit_scale(image: Image, spec: InputSpec) -> tuple[float, str]:
    """Level-0 pixels per run pixel, and what the person should know of it.

    Trained pixel size over the image's: 2 for a 40x slide and a network trained at
    20x. Sizes within 10 % count as equal, unknown ones as fitting.
    """
    if spec.pixel_size is None:
        return 1.0, ""
    if image.meters_per_pixel is None:
        return 1.0, (
            "The image does not say its pixel size; it is taken to be the "
            f"{format_length(spec.pixel_size)} the checkpoint was trained at."
        )
    scale = spec.pixel_size / image.meters_per_pixel
    if abs(scale - 1) <= SAME_SCALE:
        return 1.0, ""
    scale = min(64.0, max(1 / 64, scale))
    return scale, (
        f"The checkpoint was trained at {format_length(spec.pixel_size)} a pixel, "
        f"the image has {format_length(image.meters_per_pixel)}: it is read at "
        f"scale {scale:.3g}."
    )


def fit_values(
    image: Image, spec: InputSpec, wanted: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Image values that become 0 and 1; estimated from a few pixels if need be."""
    return wanted or spec.value_range or image.estimate_range()
