"""Values of user corrections: strokes, and regions to inspect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from napari_uhrseg.types.regions import Roi
from napari_uhrseg.types.segmentation import BoolMask, Labels

# meaning of the values of a mask: ids of the label store's classes, or values of the
# masks of the training
Numbering = Literal["ids", "training"]


@dataclass(frozen=True, slots=True)
class Stroke:
    """Pixels that a user painted, and their new class ids.

    Parameters
    ----------
    roi
        Level-0 rectangle on multiples of ``2**level``. It may extend beyond the
        image.
    mask
        bool, (height, width) of the roi divided by ``2**level``: the painted pixels,
        including those that already had the right class.
    ids
        uint8 of the same shape: class ids; 0 removes the correction.
    level
        Pyramid level of the painting, at least 0. One pixel covers
        ``2**level x 2**level`` pixels of level 0.
    """

    roi: Roi
    mask: BoolMask
    ids: Labels
    level: int = 0

    def __post_init__(self) -> None:
        step = 1 << self.level
        sides = (self.roi.y, self.roi.x, self.roi.height, self.roi.width)
        if any(side % step for side in sides):
            raise ValueError(f"{self.roi} is not on multiples of {step}")
        shape = self.roi.height // step, self.roi.width // step
        for name, data, dtype in (("mask", self.mask, bool), ("ids", self.ids, "u1")):
            if data.shape != shape or data.dtype != np.dtype(dtype):
                raise ValueError(f"{name} is {data.dtype} of {data.shape}, not {shape}")


@dataclass(frozen=True, slots=True)
class CorrectedRegion:
    """A connected corrected region.

    Parameters
    ----------
    roi
        Bounding box, in level-0 pixels.
    pixels
        Number of corrected pixels by class id.
    parts
        Rectangles inside the roi that make up the region. Other pixels of the roi
        belong to other regions.
    """

    roi: Roi
    pixels: Mapping[int, int] = field(default_factory=dict)
    parts: tuple[Roi, ...] = ()


@dataclass(frozen=True, slots=True)
class UncertainRegion:
    """A segmented region of low confidence without corrections.

    Parameters
    ----------
    roi
        Bounding box, in level-0 pixels.
    score
        Mean uncertainty, 0 to 1; 1 means no confidence.
    """

    roi: Roi
    score: float
