"""Choice of a checkpoint that fits an image."""

import math
from collections.abc import Mapping
from pathlib import Path

from napari_uhrseg.engine.planning.image_fit import fit_bands
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.samples import is_sample
from napari_uhrseg.types import Card, InputSpec

MOST_SCALE = 4.0
"""Largest ratio of the pixel sizes of an image and of a training that fits it."""
COMPUTED = "computed:"  # source of the checkpoints of the sample images


def fits(image: Image, spec: InputSpec) -> bool:
    """Return whether a network suits the bands and the pixel size of an image.

    The pixel sizes of image and training may differ by a factor of `MOST_SCALE`. An
    unknown pixel size always fits.
    """
    try:
        fit_bands(image, spec.channels)
    except PlanError:
        return False
    return _ratio(image, spec) <= MOST_SCALE


def closest(image: Image, cards: Mapping[Path, Card]) -> Path | None:
    """Return the checkpoint that fits an image best, or None if none fits.

    A sample image gets a checkpoint of a sample image if one fits, and another image
    one that was trained on real images. The closest pixel size decides then; a
    checkpoint of unknown pixel size comes last. Of equals, the first is returned.
    """
    sample = is_sample(image.path)

    def order(path: Path) -> tuple[bool, float]:
        card = cards[path]
        computed = card.source.startswith(COMPUTED)
        known = card.spec.pixel_size is not None
        return computed != sample, _ratio(image, card.spec) if known else math.inf

    found = [path for path, card in cards.items() if fits(image, card.spec)]
    return min(found, key=order, default=None)


def _ratio(image: Image, spec: InputSpec) -> float:
    """Return the ratio of the pixel sizes, at least 1; 1 if one is unknown."""
    if spec.pixel_size is None or image.meters_per_pixel is None:
        return 1.0
    scale = spec.pixel_size / image.meters_per_pixel
    return max(scale, 1 / scale)
