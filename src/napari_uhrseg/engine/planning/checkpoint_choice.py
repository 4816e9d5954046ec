"""Choice of a checkpoint that fits an image, and reasons why another one does not."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from napari_uhrseg.engine.planning.image_fit import MOST_SCALE, fit_bands, scale_ratio
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.samples import is_sample
from napari_uhrseg.types import Card, InputSpec, value_pairs
from napari_uhrseg.units import counted, format_length

COMPUTED = "computed:"  # source of the checkpoints of the sample images
SLIDE_PIXEL = 1e-3  # metres; pixels of slides are smaller, pixels of maps larger
MOST_RANGE = 4.0  # largest ratio of two value ranges that fit each other

Kind = Literal["slide", "map"]


def fits(image: Image, spec: InputSpec) -> bool:
    """Return whether a network suits an image; see `misfits`."""
    return not misfits(image, spec)


def misfits(image: Image, spec: InputSpec) -> tuple[str, ...]:
    """Return the reasons why a network does not suit an image, the gravest first.

    The network must not need more bands than the image has, the pixel sizes may differ
    by a factor of `MOST_SCALE`, and value ranges by a factor of `MOST_RANGE`. Unknown
    values fit. The kind of image counts if a pixel size is unknown.

    Parameters
    ----------
    image
        The image to be segmented.
    spec
        The input specification of the network.
    """
    reasons = _bands(image, spec), _scale(image, spec), _values(image, spec)
    return tuple(reason for reason in reasons if reason)


def kind_of(image: Image) -> Kind | None:
    """Return the kind of an image; None if nothing tells it.

    A map has a coordinate system or pixels of at least 1 mm. A slide is marked as such
    by its reader, or has smaller pixels.
    """
    if image.crs:
        return "map"
    return "slide" if image.is_slide else _kind(image.meters_per_pixel)


def ranked(image: Image, cards: Mapping[Path, Card]) -> list[Path]:
    """Return the checkpoints in the order in which they fit an image, the best first.

    Those with fewer reasons against them come first. A sample image prefers a
    checkpoint of a sample image, and another image one that was trained on real
    images. The closest pixel size decides then; a checkpoint of unknown pixel size
    comes last. Of equals, the first stays first.
    """
    sample = is_sample(image.path)

    def order(path: Path) -> tuple[int, bool, float]:
        card = cards[path]
        computed = card.source.startswith(COMPUTED)
        known = card.spec.pixel_size is not None
        ratio = scale_ratio(image, card.spec) if known else math.inf
        return len(misfits(image, card.spec)), computed != sample, ratio

    return sorted(cards, key=order)


def closest(image: Image, cards: Mapping[Path, Card]) -> Path | None:
    """Return the first of `ranked`, or None if no checkpoint fits the image."""
    found = (path for path in ranked(image, cards) if fits(image, cards[path].spec))
    return next(found, None)


def _kind(pixel_size: float | None) -> Kind | None:
    if pixel_size is None:
        return None
    return "slide" if pixel_size < SLIDE_PIXEL else "map"


def _bands(image: Image, spec: InputSpec) -> str:
    try:
        fit_bands(image, spec.channels)
    except PlanError:
        return f"takes {counted(spec.channels, 'band')}, the image has " + str(
            len(image.bands)
        )
    return ""


def _scale(image: Image, spec: InputSpec) -> str:
    trained, here = spec.pixel_size, image.meters_per_pixel
    if trained is not None and here is not None:
        if scale_ratio(image, spec) <= MOST_SCALE:
            return ""
        sizes = f"{format_length(trained)}/px, the image has {format_length(here)}/px"
        return f"trained at {sizes}"
    kinds = _kind(trained), kind_of(image)
    if None in kinds or kinds[0] == kinds[1]:
        return ""
    return f"trained on a {kinds[0]}, the image is a {kinds[1]}"


def _values(image: Image, spec: InputSpec) -> str:
    """Compare the stated value range with that of the type; only for integers."""
    stated = spec.value_range
    if stated is None or isinstance(stated, str):
        return ""
    if image.value_range or image.dtype.kind not in "ui":
        return ""
    limits = np.iinfo(image.dtype)
    trained = max(abs(high - low) for low, high in value_pairs(stated))
    ratio = trained / (int(limits.max) - int(limits.min))
    eight = image.dtype.itemsize == 1
    # 16-bit files rarely use all of their values
    if 1 / MOST_RANGE <= ratio <= MOST_RANGE if eight else trained > 255:
        return ""
    bits = 8 * image.dtype.itemsize
    return f"trained on values {spec.describe_values()}, the image has {bits} bits"


def describe_misfit(reasons: Iterable[str]) -> str:
    """Return reasons of `misfits` as one line; empty without a reason."""
    text = "; ".join(reasons)
    return f"Does not fit: {text}." if text else ""
