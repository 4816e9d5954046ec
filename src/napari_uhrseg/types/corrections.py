"""What a person corrected: one stroke, and a place that is worth a look."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_uhrseg.types.regions import Roi
from napari_uhrseg.types.segmentation import Labels, Mask


@dataclass(frozen=True, slots=True)
class Stroke:
    """Pixels a person meant, and what they become.

    Parameters
    ----------
    roi
        Level-0 rectangle on multiples of ``2**level``; may reach outside the image.
    mask
        bool, (height, width) of the roi divided by ``2**level``: the pixels meant,
        those that were right already among them.
    ids
        uint8 of that shape: class ids; 0 erases, back to the prediction.
    level
        The pyramid level it was painted at; a pixel covers ``2**level`` squared.
    """

    roi: Roi
    mask: Mask
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
    """A corrected or an uncertain region.

    Parameters
    ----------
    roi
        What holds it, in level-0 pixels.
    pixels
        Corrected pixels per class id; empty for an uncertain region.
    score
        Of an uncertain region: how uncertain, 0 to 1.
    parts
        Of a corrected region: the rectangles inside the roi that it consists of.
        What else the roi holds belongs to other places.
    """

    roi: Roi
    pixels: Mapping[int, int] = field(default_factory=dict)
    score: float = 0.0
    parts: tuple[Roi, ...] = ()
