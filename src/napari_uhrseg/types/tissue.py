"""Tissue mask of an image: the settings of its detection, and the mask itself."""

import hashlib
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types.area_size import AreaSize
from napari_uhrseg.types.regions import Roi

TISSUE_SIDE = 2048  # largest side of a mask in pixels; it bounds the memory
BoolPixels = npt.NDArray[np.bool_]
Spans = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TissueSettings:
    """Settings of the detection of tissue.

    Attributes
    ----------
    saturation, density
        Least saturation (0 to 1) and least optical density (0 and above) of tissue;
        one of the two is enough. None: by Otsu's method.
    smallest_piece
        Smaller pieces of tissue are removed.
    largest_hole
        Smaller holes in tissue are filled.
    smoothing
        Standard deviation of the Gaussian filter before the threshold, in level-0
        pixels, 0 or more.

    A size of None is 10,000 µm², or 40,000 pixels without a pixel size in micrometres.
    """

    saturation: float | None = field(
        default=None,
        metadata={
            "title": "Saturation",
            "tooltip": "Least saturation of tissue, 0 to 1. auto: Otsu's method.",
            "minimum": 0,
            "maximum": 1,
            "step": 0.01,
        },
    )
    density: float | None = field(
        default=None,
        metadata={
            "title": "Optical density",
            "tooltip": "Least optical density of tissue. auto: Otsu's method.",
            "minimum": 0,
            "maximum": 3,
            "step": 0.01,
        },
    )
    smallest_piece: AreaSize | None = None
    largest_hole: AreaSize | None = None
    smoothing: float = field(
        default=8.0,
        metadata={
            "title": "Smoothing",
            "tooltip": "Standard deviation of the smoothing before the threshold, in "
            "pixels of the image.",
            "maximum": 1000,
            "step": 4,
            "decimals": 0,
        },
    )


def mask_factor(shape: tuple[int, int]) -> int:
    """Return the level-0 pixels a side of a mask pixel of an image: a power of two."""
    factor = 1
    while max(shape) > TISSUE_SIDE * factor:
        factor *= 2
    return factor


@dataclass(frozen=True, slots=True)
class TissueMask:
    """Tissue of an image at a coarse level, with at most 2048 pixels a side.

    Attributes
    ----------
    image_shape
        Height and width of the image in level-0 pixels.
    packed
        Mask as compressed bits, row by row. Use `of` and `pixels`.
    source
        Description of the origin: the thresholds, or the correction by a user. It is
        not a part of the identity of the mask.
    settings
        Settings of the detection; None for a mask that a user has changed.
    """

    image_shape: tuple[int, int]
    packed: bytes
    source: str = field(default="", compare=False)
    settings: TissueSettings | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        pixels: BoolPixels,
        image_shape: tuple[int, int],
        source: str = "",
        settings: TissueSettings | None = None,
    ) -> Self:
        """Return the mask of an image.

        Parameters
        ----------
        pixels
            (h, w) bool, True for tissue, of the shape `shape_of` for the image.
        image_shape
            Height and width of the image in level-0 pixels.
        source
            Description of the origin.
        settings
            Settings of the detection.

        Raises
        ------
        ValueError
            If the mask has another shape.
        """
        if pixels.shape != cls.shape_of(image_shape):
            raise ValueError(f"a mask of {pixels.shape} for an image of {image_shape}")
        packed = zlib.compress(np.packbits(pixels).tobytes(), 6)
        return cls(image_shape, packed, source, settings)

    @staticmethod
    def shape_of(image_shape: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the mask of an image."""
        factor = mask_factor(image_shape)
        return -(-image_shape[0] // factor), -(-image_shape[1] // factor)

    @property
    def factor(self) -> int:
        """Level-0 pixels a side of a mask pixel."""
        return mask_factor(self.image_shape)

    @property
    def pixels(self) -> BoolPixels:
        """The mask, (h, w) bool, which cannot be written to."""
        return _unpacked(self.packed, self.shape_of(self.image_shape))

    @property
    def id(self) -> str:
        """Hash of the mask, which identifies it in the record of a run."""
        text = repr((self.image_shape, self.factor)).encode()
        data = np.packbits(self.pixels).tobytes()
        return hashlib.sha256(text + data).hexdigest()[:16]

    @property
    def share(self) -> float:
        """Share of the image that is tissue, 0 to 1."""
        return self.share_of(Roi(0, 0, *self.image_shape))

    def share_of(self, roi: Roi) -> float:
        """Return the share of a level-0 rectangle in the image that is tissue."""
        heights, widths = (
            np.clip(np.minimum(stop, last) - np.maximum(start, first), 0, None)
            for start, stop, first, last in (
                (*_edges(self.pixels.shape[0], self.factor), roi.y, roi.bottom),
                (*_edges(self.pixels.shape[1], self.factor), roi.x, roi.right),
            )
        )
        return float(heights @ self.pixels @ widths) / max(1, roi.area)

    def inside(self, roi: Roi) -> BoolPixels:
        """Return which level-0 pixels of a rectangle in the image are tissue."""
        rows = np.arange(roi.y, roi.bottom) // self.factor
        columns = np.arange(roi.x, roi.right) // self.factor
        found: BoolPixels = self.pixels[np.ix_(rows, columns)]
        return found

    def touches(self, roi: Roi) -> bool:
        """Return whether a level-0 rectangle has a pixel of tissue."""
        part = roi.intersect(Roi(0, 0, *self.image_shape)).at_scale(self.factor)
        return bool(self.pixels[part.slices].any())

    def touched(self, rows: Spans, columns: Spans) -> BoolPixels:
        """Return which rectangles have a pixel of tissue.

        Parameters
        ----------
        rows, columns
            (n, 2) and (m, 2) int: first and last level-0 pixel (excluded) of the
            rectangles down and across.

        Returns
        -------
        (n, m) bool.
        """
        f, (height, width) = self.factor, self.pixels.shape
        sums = np.zeros((height + 1, width + 1), np.int64)
        sums[1:, 1:] = self.pixels.cumsum(0, dtype=np.int64).cumsum(1)
        y, x = (
            np.clip(np.stack([s[:, 0] // f, -(-s[:, 1] // f)]), 0, n)
            for s, n in ((rows, height), (columns, width))
        )
        counts = (
            sums[np.ix_(y[1], x[1])] - sums[np.ix_(y[0], x[1])]
            - sums[np.ix_(y[1], x[0])] + sums[np.ix_(y[0], x[0])]
        )  # fmt: skip
        return np.asarray(counts > 0)


def _edges(count: int, factor: int) -> tuple[Spans, Spans]:
    starts = np.arange(count, dtype=np.int64) * factor
    return starts, starts + factor


@lru_cache(maxsize=4)
def _unpacked(packed: bytes, shape: tuple[int, int]) -> BoolPixels:
    """Return the mask of compressed bits. Raises ValueError if they do not fit."""
    count = shape[0] * shape[1]
    expected = -(-count // 8)
    bits = zlib.decompressobj().decompress(packed, expected + 1)
    if len(bits) != expected:
        raise ValueError(f"{len(bits)} bytes of a mask of {shape}")
    found = np.unpackbits(np.frombuffer(bits, np.uint8), count=count)
    pixels = found.reshape(shape).astype(bool)
    pixels.flags.writeable = False
    return pixels
