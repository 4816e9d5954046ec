"""Data augmentation: random changes of training windows.

Each method's recipe names its augmentations. A new augmentation is a class with the
methods of `Transform` and one line in `AUGMENTATIONS`. The names in `AUGMENTATIONS`
belong to the identity of a training, so that a training with other augmentations does
not continue from an old state file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from skimage.color import hsv2rgb, rgb2hsv

from napari_uhrseg.errors import TrainingError
from napari_uhrseg.types import InputSpec


class Transform:
    """Random change of one training window, with drawn parameters.

    A subclass overrides the methods of the arrays that it changes. Geometric transforms
    move pixels and are applied after the others.
    """

    geometric: ClassVar[bool] = False

    @property
    def zoom(self) -> float:
        """Factor on the level-0 pixels per run pixel with which the window is read."""
        return 1.0

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        """Draw the parameters.

        Raises
        ------
        NotImplementedError
            By the base class.
        """
        raise NotImplementedError

    def view(self, view: npt.NDArray, spec: InputSpec) -> npt.NDArray:
        """Return the changed normalised (C, h, w) float32 view; may work in place."""
        return view

    def labels(self, labels: npt.NDArray) -> npt.NDArray:
        """Return (h, w) class indices with the same geometric change as the view."""
        return labels

    def boxes(self, boxes: torch.Tensor, size: int) -> torch.Tensor:
        """Return the changed boxes, (N, 4) y0, x0, y1, x1 in pixels of the view.

        ``size`` is the side of the square view in pixels.
        """
        return boxes


def rotate(array: npt.NDArray, turns: int, flip: bool) -> npt.NDArray:
    """Return an array rotated by quarter turns and then mirrored left to right.

    Parameters
    ----------
    array
        (..., h, w) array of any dtype.
    turns
        Quarter turns counterclockwise, 0 to 3.
    flip
        Mirror left to right after the turns.

    Returns
    -------
    numpy.ndarray
        A copy, (..., h, w), or (..., w, h) after an odd number of turns.
    """
    array = np.rot90(array, turns, axes=(-2, -1))
    return np.array(array[..., ::-1] if flip else array, order="C")


def rotate_boxes(
    boxes: torch.Tensor, size: int, turns: int, flip: bool
) -> torch.Tensor:
    """Return boxes rotated and mirrored as `rotate` changes their view.

    Parameters
    ----------
    boxes
        (N, 4) y0, x0, y1, x1 in pixels of the view.
    size
        Side of the square view in pixels.
    turns
        Quarter turns counterclockwise, 0 to 3.
    flip
        Mirror left to right after the turns.
    """
    for _ in range(turns):
        y0, x0, y1, x1 = boxes.unbind(-1)
        boxes = torch.stack([size - x1, y0, size - x0, y1], -1)
    if flip:
        y0, x0, y1, x1 = boxes.unbind(-1)
        boxes = torch.stack([y0, size - x1, y1, size - x0], -1)
    return boxes


@dataclass(frozen=True, slots=True)
class Rotation(Transform):
    """Quarter turns and mirroring: the eight symmetries of the square."""

    geometric: ClassVar[bool] = True
    turns: int
    flip: bool

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        return cls(int(rng.integers(4)), bool(rng.integers(2)))

    def view(self, view: npt.NDArray, spec: InputSpec) -> npt.NDArray:
        return rotate(view, self.turns, self.flip)

    def labels(self, labels: npt.NDArray) -> npt.NDArray:
        return rotate(labels, self.turns, self.flip)

    def boxes(self, boxes: torch.Tensor, size: int) -> torch.Tensor:
        return rotate_boxes(boxes, size, self.turns, self.flip)


@dataclass(frozen=True, slots=True)
class ColorJitter(Transform):
    """Random factors of brightness, contrast and, for three bands, saturation."""

    brightness: float
    contrast: float
    saturation: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
        return cls(float(brightness), float(contrast), float(saturation))

    def view(self, view: npt.NDArray, spec: InputSpec) -> npt.NDArray:
        """Apply the colour change of the image values to a normalised view.

        Pixels that are 0 in every band mark missing data and stay 0.
        """
        mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
        nothing = (view == 0).all(axis=0)
        average = float(np.mean(view.mean((1, 2)) * std + mean))
        centre = np.float32(self.brightness * (1 - self.contrast) * average)
        gain = np.float32(self.brightness * self.contrast)
        blend = np.float32(self.saturation if spec.channels == 3 else 1)
        # value' = gain (blend value + (1 - blend) grey) + centre, normalised
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
        return view


@dataclass(frozen=True, slots=True)
class PhotometricDistortion(Transform):
    """MMSegmentation's photometric distortion, each part with probability one half.

    Brightness of up to 32 of 255 grey levels, contrast and saturation of 0.5 to 1.5,
    and hue of up to 36 degrees. Saturation and hue are changed for three bands only.
    Contrast is changed before saturation or after hue.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    contrast_first: bool

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        brightness = rng.uniform(-32, 32) / 255
        contrast, saturation = rng.uniform(0.5, 1.5, 2)
        hue = rng.uniform(-0.1, 0.1)  # of a full circle
        parts = rng.integers(2, size=4)
        return cls(
            float(brightness * parts[0]),
            float(contrast if parts[1] else 1),
            float(saturation if parts[2] else 1),
            float(hue * parts[3]),
            bool(rng.integers(2)),
        )

    def view(self, view: npt.NDArray, spec: InputSpec) -> npt.NDArray:
        """Apply the changes to the image values of a normalised view.

        Values are limited to the range of the image. Pixels that are 0 in every band
        mark missing data and stay 0.
        """
        mean = np.asarray(spec.mean, np.float32)[:, None, None]
        std = np.asarray(spec.std, np.float32)[:, None, None]
        nothing = (view == 0).all(axis=0)
        values = (view * std + mean + np.float32(self.brightness)).clip(0, 1)
        if self.contrast_first:
            values = (values * np.float32(self.contrast)).clip(0, 1)
        if spec.channels == 3 and (self.saturation != 1 or self.hue):
            colours = rgb2hsv(np.moveaxis(values, 0, -1))
            colours[..., 0] = (colours[..., 0] + self.hue) % 1
            colours[..., 1] = (colours[..., 1] * self.saturation).clip(0, 1)
            values = np.moveaxis(hsv2rgb(colours), -1, 0).astype(np.float32)
        if not self.contrast_first:
            values = (values * np.float32(self.contrast)).clip(0, 1)
        changed: npt.NDArray = (values - mean) / std
        changed[:, nothing] = 0
        return changed


@dataclass(frozen=True, slots=True)
class Scaling(Transform):
    """Random scale of 0.5 to 2, which is called multi-scale training."""

    factor: float

    @property
    def zoom(self) -> float:
        return self.factor

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        return cls(1 / float(rng.uniform(0.5, 2.0)))


class Augmentation(Protocol):
    """Source of random transforms, for example a subclass of `Transform`."""

    def random(self, rng: np.random.Generator) -> Transform:
        """Draw a transform for one training window."""


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "rotation": Rotation,
    "color_jitter": ColorJitter,
    "photometric_distortion": PhotometricDistortion,
    "scaling": Scaling,
}
"""Augmentations by name, in the order in which their random numbers are drawn."""


def find_augmentations(names: Sequence[str]) -> tuple[Augmentation, ...]:
    """Return the augmentations of these names.

    Raises
    ------
    TrainingError
        If a name is not in `AUGMENTATIONS`.
    """
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise TrainingError(
            f"There is no augmentation named {', '.join(unknown)}.",
            f"Choose among {', '.join(AUGMENTATIONS)}.",
        )
    return tuple(AUGMENTATIONS[name] for name in names)


DEFAULT_AUGMENTATION_NAMES = ("rotation", "color_jitter")
DEFAULT_AUGMENTATIONS = find_augmentations(DEFAULT_AUGMENTATION_NAMES)
"""Augmentations of fine-tuning and of methods whose papers name none."""


def draw_transforms(
    augmentations: Sequence[Augmentation], rng: np.random.Generator
) -> list[Transform]:
    """Draw one transform of each augmentation; return them in order of application."""
    drawn = [augmentation.random(rng) for augmentation in augmentations]
    return sorted(drawn, key=lambda transform: transform.geometric)
