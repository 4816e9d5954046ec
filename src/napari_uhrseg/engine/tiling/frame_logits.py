"""Logits of a frame, at its full size or enlarged when they are read."""

from typing import Protocol

from torch import Tensor

from napari_uhrseg.models.blocks.banded import resize_rows
from napari_uhrseg.types import Roi


class LogitMaps(Protocol):
    """(K, height, width) logits that can be sliced like a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (K, height, width)."""

    def __getitem__(self, key: tuple[slice, ...], /) -> Tensor: ...


class FrameLogits:
    """Rectangle of a frame's logits.

    Parameters
    ----------
    maps
        (K, h, w) float32. Maps smaller than ``size`` are enlarged as the network
        would have done.
    size
        Height and width of the frame in run pixels.
    part
        The rectangle, in pixels of the frame.
    """

    def __init__(self, maps: Tensor, size: tuple[int, int], part: Roi) -> None:
        self._maps, self._size, self._part = maps, size, part
        self.shape = (len(maps), part.height, part.width)

    def crop(self, height: int, width: int) -> "FrameLogits":
        """Return the upper left part of the given size."""
        part = Roi(self._part.y, self._part.x, height, width)
        return FrameLogits(self._maps, self._size, part)

    def __getitem__(self, key: tuple[slice, ...]) -> Tensor:
        """Return ``logits[:, rows, columns]`` for slices of step 1."""
        whole = (slice(None),) * 3
        _, rows, columns = (*key, *whole[len(key) :])
        (top, bottom, _), (left, right, _) = (
            s.indices(n) for s, n in zip((rows, columns), self.shape[1:], strict=True)
        )
        y, x = self._part.y, self._part.x
        rows, columns = slice(y + top, y + bottom), slice(x + left, x + right)
        if tuple(self._maps.shape[1:]) == self._size:
            return self._maps[:, rows, columns]
        return resize_rows(
            self._maps[None],
            self._size,
            (rows.start, rows.stop),
            (columns.start, columns.stop),
        )[0]
