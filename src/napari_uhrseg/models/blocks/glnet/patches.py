"""Overview and patches of GLNet's frames, and conversion of maps (section 3.2.2).

Rounding follows the authors' code (half to even), with which the published checkpoints
were trained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

OVERLAP = 50  # least overlap of neighbouring patches in pixels; half of a small patch
FRACTION_BITS = 22  # of Pillow's fixed-point weights for 8-bit images
WHITE = 255  # highest grey level of 8-bit images
SPACING = 8  # distance in pixels at which a frame is checked for grey levels

Place = tuple[int, int, int]
"""Number of the frame in the batch, top and left of the patch in pixels."""


def overview(frames: Tensor, side: int) -> Tensor:
    """Return frames resized as Pillow resizes them, (N, C, side, side) float32.

    Resizing is antialiased bilinear. Frames of 8-bit images get the same grey levels as
    from Pillow. Frames of other images are not rounded.

    Parameters
    ----------
    frames
        (N, C, h, w) values; 0 to 1 for 8-bit images.
    side
        Side of the overview in pixels, at least 1.
    """
    size, found = (side, side), []
    for frame in torch.split(frames.float(), 1):
        levels = frame * WHITE
        if _are_grey_levels(levels[..., ::SPACING, ::SPACING]):
            rows = _resized_levels(levels.round().to(torch.int32), side)
            found.append(_resized_levels(rows.mT, side).mT.float() / WHITE)
        else:
            found.append(
                F.interpolate(frame, size=size, mode="bilinear", antialias=True)
            )
    return torch.cat(found)


def _are_grey_levels(values: Tensor) -> bool:
    if values.is_meta:
        return False
    return bool((values - values.round()).abs().max() < 1e-3)


def _resized_levels(levels: Tensor, side: int) -> Tensor:
    """Resize the last axis of int32 grey levels with Pillow's fixed-point weights."""
    length = levels.shape[-1]
    scale = length / side
    reach = max(scale, 1.0)  # of the triangular filter
    centres = (np.arange(side) + 0.5) * scale
    first = np.maximum(0, (centres - reach + 0.5).astype(int))
    last = np.minimum(length, (centres + reach + 0.5).astype(int))
    taps = first[:, None] + np.arange((last - first).max())
    weights = 1 - np.abs((taps - centres[:, None] + 0.5) * (1 / reach))
    weights = np.where(taps < last[:, None], weights.clip(0), 0)
    weights *= 1 / weights.sum(1, keepdims=True)
    fixed = weights * 2**FRACTION_BITS + 0.5
    at = torch.from_numpy(taps.clip(max=length - 1)).to(levels.device)
    each = torch.from_numpy(fixed.astype(np.int32)).to(levels.device)
    total = levels.new_full((*levels.shape[:-1], side), 2 ** (FRACTION_BITS - 1))
    for tap in range(taps.shape[1]):
        total += levels[..., at[:, tap]] * each[:, tap]
    return total >> FRACTION_BITS


@dataclass(frozen=True, slots=True)
class Patches:
    """Evenly spaced patches over a frame of ``height`` x ``width`` pixels.

    A side shorter than ``patch`` has one patch of that length.
    """

    height: int
    width: int
    patch: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of each patch."""
        return min(self.patch, self.height), min(self.patch, self.width)

    @property
    def tops(self) -> tuple[int, ...]:
        return _starts(self.height, self.patch)

    @property
    def lefts(self) -> tuple[int, ...]:
        return _starts(self.width, self.patch)

    def places(self, frame: int) -> list[Place]:
        """Return the positions of all patches of a frame, row by row."""
        return [(frame, top, left) for top in self.tops for left in self.lefts]

    def groups(self, most: int) -> Iterator[list[Place]]:
        """Yield the positions in groups of at most ``most`` patches, for one frame."""
        places = self.places(0)
        for start in range(0, len(places), most):
            yield places[start : start + most]

    def cut(self, frames: Tensor, places: Sequence[Place]) -> Tensor:
        """Return the stacked patches of (N, C, height, width) or (N, h, w) frames."""
        h, w = self.size
        return torch.stack([frames[n, ..., y : y + h, x : x + w] for n, y, x in places])

    def crop(self, maps: Tensor, places: Sequence[Place]) -> Tensor:
        """Return the parts of the frames' (N, C, h, w) maps that show the patches."""
        rows, columns = self._within(maps.shape[-2:])
        parts = []
        for n, y, x in places:
            (top, tall), (left, wide) = rows[y], columns[x]
            parts.append(maps[n, :, top : top + tall, left : left + wide])
        return torch.stack(parts)

    def counts(self, size: tuple[int, int]) -> Tensor:
        """Return the patches per pixel, resized bilinearly; (h, w) float32."""
        axes = []
        for length, starts, side, wanted in (
            (self.height, self.tops, self.size[0], size[0]),
            (self.width, self.lefts, self.size[1], size[1]),
        ):
            count = torch.zeros(length)
            for start in starts:
                count[start : start + side] += 1
            line = F.interpolate(count[None, None], size=wanted, mode="linear")
            axes.append(line[0, 0])
        return axes[0][:, None] * axes[1][None, :]

    def _within(
        self, size: Sequence[int]
    ) -> tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]]:
        """Return start and length in a map of size (h, w) for each top and left."""
        found = []
        for length, starts, side, wanted in (
            (self.height, self.tops, self.size[0], size[0]),
            (self.width, self.lefts, self.size[1], size[1]),
        ):
            extent = min(wanted, max(1, round(wanted * (side / length))))
            found.append(
                {
                    start: (min(round(wanted * (start / length)), wanted - extent),
                            extent)
                    for start in starts
                }
            )  # fmt: skip
        return found[0], found[1]


class Merged:
    """Map of a whole frame, (C, h, w) float32, merged from maps of its patches.

    Each patch's map is resized to its position and added. At the end the sums are
    divided by the number of patches that cover a pixel, which is resized too.

    Parameters
    ----------
    patches
        The patches of the frame.
    like
        The frame's own map (1, C, h, w).
    """

    def __init__(self, patches: Patches, like: Tensor) -> None:
        size = (int(like.shape[-2]), int(like.shape[-1]))
        self._patches = patches
        self._rows, self._columns = patches._within(size)
        self._sum = torch.zeros_like(like[0], dtype=torch.float32)

    def add(self, maps: Tensor, places: Sequence[Place]) -> None:
        """Add the (n, C, h', w') maps of n patches."""
        tall = next(iter(self._rows.values()))[1]
        wide = next(iter(self._columns.values()))[1]
        small = F.interpolate(
            maps, size=(tall, wide), mode="bilinear", align_corners=False
        ).to(self._sum.dtype)
        for (_, y, x), one in zip(places, small, strict=True):
            top, left = self._rows[y][0], self._columns[x][0]
            self._sum[:, top : top + tall, left : left + wide] += one

    def finish(self) -> Tensor:
        size = (self._sum.shape[1], self._sum.shape[2])
        return self._sum / self._patches.counts(size).to(self._sum)


def _starts(length: int, patch: int) -> tuple[int, ...]:
    last = length - patch
    if last <= 0:
        return (0,)
    gaps = -(-last // (patch - min(OVERLAP, patch // 2)))
    return tuple(int(v) for v in np.round(np.arange(gaps + 1) * (last / gaps)))
