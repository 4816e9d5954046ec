"""Forward passes of a network in blocks of rows, each with the context that it needs.

::

    maps in main memory               a block on the device
    ----------------------            --------------------
                        low  ->  +....................+   ``reach`` rows more, so that
      first  +-----------+       |  rows that count   |   padding at the band's borders
             |           |       |                    |   changes no row that counts
      last   +-----------+       +....................+
                        high ->

Exact where ``local`` is: convolutions, pooling and resizing whose result depends on
no more than ``reach`` rows around. Rows begin at multiples of all strides.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Rows ``first`` to ``last`` count, ``low`` to ``high`` are seen."""

    first: int
    last: int
    low: int
    high: int


def row_blocks(height: int, rows: int, reach: int, step: int) -> Iterator[RowBlock]:
    """Bands of about ``rows`` rows; all but the last end at multiples of ``step``."""
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
    """What ``local(band, *inputs)`` gives for whole maps, worked band by band.

    Parameters
    ----------
    inputs
        (N, C, h, w) and how many rows of the first one each of its rows covers.
    strides
        The same of each result.
    rows, reach
        In rows of the first input: how many are worked at a time, and how far a row
        of a result looks.
    device
        The device that computes each block. Results stay where the first input is.
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
    """A part of bilinearly resized maps (align_corners False), without the rest.

    Parameters
    ----------
    maps
        (N, C, h, w).
    size
        Height and width of all of the result.
    rows, columns
        First, and after the last, of the result's rows and columns to make.
    above, height
        Where ``maps`` are rows of taller ones: how many lie above, and how many there
        are; rows beyond count as the nearest that is there.
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
