"""Random changes of training windows: quarter turns, mirroring and colour jitter."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_uhrseg.types import InputSpec


def rotate(array: npt.NDArray, turns: int, flip: bool) -> npt.NDArray:
    """A copy of (h, w, ...) turned by quarters, then mirrored left to right."""
    array = np.rot90(array, turns)
    return np.array(array[:, ::-1] if flip else array, order="C")


def rotate_boxes(
    boxes: torch.Tensor, size: int, turns: int, flip: bool
) -> torch.Tensor:
    """(N, 4) boxes y0, x0, y1, x1 in a view of that size, turned along."""
    for _ in range(turns):
        y0, x0, y1, x1 = boxes.unbind(-1)
        boxes = torch.stack([size - x1, y0, size - x0, y1], -1)
    if flip:
        y0, x0, y1, x1 = boxes.unbind(-1)
        boxes = torch.stack([y0, size - x1, y1, size - x0], -1)
    return boxes


@dataclass(frozen=True, slots=True)
class ColorJitter:
    """Factors of brightness, contrast and (three bands) saturation."""

    brightness: float
    contrast: float
    saturation: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> "ColorJitter":
        brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
        return cls(float(brightness), float(contrast), float(saturation))

    def __call__(self, view: npt.NDArray, spec: InputSpec) -> None:
        """Applied in value space to a normalised (C, h, w) view, in place.

        Pixels that are 0 in every band, the mark of no data, stay 0.
        """
        mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
        nothing = (view == 0).all(axis=0)
        average = float(np.mean(view.mean((1, 2)) * std + mean))
        centre = np.float32(self.brightness * (1 - self.contrast) * average)
        gain = np.float32(self.brightness * self.contrast)
        blend = np.float32(self.saturation if spec.channels == 3 else 1)
        # value' = gain (blend value + (1 - blend) grey) + centre, put in terms of view
        grey = np.zeros_like(view[0])
        if blend != 1:
            for band, spread in zip(view, std, strict=True):
                grey += band * (spread / 3)
            grey += mean.mean()
            grey *= gain * (1 - blend)
        shift = gain * blend * mean + centre - mean
        for band, spread, more in zip(view, std, shift, strict=True):
            band *= gain * blend
            band += (grey + more) / spread
        view[:, nothing] = 0
