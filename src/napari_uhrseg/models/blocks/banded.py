"""Forward passes of a network in blocks of rows, with the required context.

::

    maps in main memory               a block on the device
    ----------------------            --------------------
                        low  ->  +....................+   ``reach`` rows more, so that
      first  +-----------+       |  result rows       |   padding at the block's
             |           |       |                    |   borders changes no result row
      last   +-----------+       +....................+
                        high ->

The result is exact for convolutions, pooling and resizing that depend on at most
``reach`` rows on each side. Blocks begin at multiples of all strides.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Block of rows: results are ``first`` to ``last``, inputs ``low`` to ``high``."""

    first: int
    last: int
    low: int
    high: int


def row_blocks(height: int, rows: int, reach: int, step: int) -> Iterator[RowBlock]:
    """Yield blocks of about ``rows`` rows that cover maps from top to bottom.

    Parameters
    ----------
    height
        Rows of the maps.
    rows
        Rows of a block; rounded down to a multiple of ``step``, at least ``step``.
    reach
        Rows of context on each side; rounded up to a multiple of ``step``.
    step
        Number of rows of which each block's first row is a multiple.

    Yields
    ------
    RowBlock
        Blocks that follow each other without a gap. Context ends at the borders.
    """
    rows, reach = max(1, rows // step) * step, -(-reach // step) * step
    for first in range(0, height, rows):
        last = min(height, first + rows)
        yield RowBlock(first, last, max(0, first - reach), min(height, last + reach))


def apply_banded(
    local: Callable[..., Sequence[Tensor]],
    inputs: Sequence[tuple[Tensor, int]],
    strides: Sequence[int],
    *,
    rows: int,
    reach: int,
    device: torch.device,
) -> list[Tensor]:
    """Return the results of ``local(block, *inputs)`` for whole maps, block by block.

    Parameters
    ----------
    local
        Computes maps from a `RowBlock` and the parts of all inputs on the device.
    inputs
        (N, C, h, w) maps, each with its stride: rows of the first input per row.
    strides
        Stride of each result.
    rows
        Rows of the first input in a block.
    reach
        Rows of the first input on each side that a result row depends on.
    device
        Device that computes each block.

    Returns
    -------
    list of Tensor
        (N, C', h', w') maps on the device of the first input.
    """
    height, home = inputs[0][0].shape[-2], inputs[0][0].device
    step = max(*strides, *(stride for _, stride in inputs))
    results: list[Tensor] = []
    for band in row_blocks(height, rows, reach, step):
        parts = [
            maps[:, :, band.low // s : -(-band.high // s)].to(device)
            for maps, s in inputs
        ]
        found = local(band, *parts)
        for i, (part, stride) in enumerate(zip(found, strides, strict=True)):
            if len(results) == i:
                shape = (*part.shape[:2], -(-height // stride), part.shape[3])
                results.append(torch.empty(shape, dtype=part.dtype, device=home))
            first, last = band.first // stride, -(-band.last // stride)
            above = first - band.low // stride
            results[i][:, :, first:last] = part[:, :, above : above + last - first]
    return results


def resize_rows(
    maps: Tensor,
    size: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int] | None = None,
    above: int = 0,
    height: int | None = None,
) -> Tensor:
    """Return a part of bilinearly resized maps (align_corners False).

    Only the requested part is computed.

    Parameters
    ----------
    maps
        (N, C, h, w) float.
    size
        Height and width of the whole resized maps.
    rows
        First row of the part, and the row after its last.
    columns
        First column of the part, and the column after its last; ``None``: all.
    above
        Rows that precede ``maps``, if these are rows of taller maps.
    height
        Rows of the taller maps; ``None``: h. A missing row counts as the nearest row of
        ``maps``.

    Returns
    -------
    Tensor
        (N, C, rows, columns).
    """
    height = maps.shape[-2] if height is None else height
    at = torch.arange(*rows, device=maps.device, dtype=torch.float32)
    at = ((at + 0.5) * (height / size[0]) - 0.5).clamp(0, height - 1) - above
    at = at.clamp(0, maps.shape[-2] - 1)
    first = at.floor().long()
    begin = int(max(0, ((rows[0] + 0.5) * height / size[0] - 0.5) // 1) - above)
    end = int(((rows[1] - 0.5) * height / size[0] - 0.5) // 1) + 2 - above
    begin = min(max(0, begin), maps.shape[-2] - 1)
    end = max(begin + 1, min(end, maps.shape[-2]))
    maps = maps[:, :, begin:end]
    if maps.shape[-1] != size[1]:
        wide = (maps.shape[-2], size[1])
        maps = F.interpolate(maps, size=wide, mode="bilinear", align_corners=False)
    if columns is not None:
        maps = maps[..., slice(*columns)]
    first = (first - begin).clamp(0, maps.shape[-2] - 1)
    second = (first + 1).clamp(max=maps.shape[-2] - 1)
    share = (at - at.floor())[:, None].to(maps.dtype)
    upper, lower = maps.index_select(2, first), maps.index_select(2, second)
    return upper.mul_(1 - share).add_(lower.mul_(share))
