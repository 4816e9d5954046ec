"""Coarse-to-fine inference of GLNet: the box around the foreground.

Chen et al., CVPR 2019, section 3.3 (the code was never released): the global branch
finds the foreground, GLNet labels its bounding box, and the rest is background.
[choice] The box is enlarged until foreground and background are about equal (footnote
1), by a margin of a sixteenth of the frame, and to a patch at least. Outside of it the
probability of class ``background`` is about one.
[choice] The second and third stages train on the boxes too (section 4.3.1). In a step,
all boxes are as large as the largest. Without foreground, they train on the frame.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_uhrseg.types import Roi

MARGIN = 1 / 16  # margin on each side of the box, as a fraction of the frame


def foreground_box(found: Tensor, size: tuple[int, int], least: int) -> Roi | None:
    """Return the relaxed bounding box of a coarse foreground in a frame's pixels.

    Parameters
    ----------
    found
        (h, w) bool foreground of the whole frame.
    size
        The frame's height and width.
    least
        Minimum side in pixels, if the frame is as large.

    Returns
    -------
    Roi | None
        ``None`` without foreground.
    """
    rows, columns = (torch.nonzero(found.any(axis)).flatten() for axis in (1, 0))
    if not len(rows):
        return None
    cells = [(int(at[0]), int(at[-1]) + 1) for at in (rows, columns)]
    area = math.prod(end - first for first, end in cells)
    # sides for as much background as foreground, if the box is tighter
    grown = max(1.0, math.sqrt(2 * float(found.sum()) / area))
    ends, wanted = [], []
    for (first, end), count, length in zip(cells, found.shape, size, strict=True):
        cell = length / count
        side = max(
            (end - first) * cell * grown, (end - first) * cell + 2 * MARGIN * length
        )
        ends.append((round(first * cell), round(end * cell)))
        wanted.append(max(least, math.ceil(side)))
    (y, bottom), (x, right) = ends
    tight = Roi(y, x, bottom - y, right - x)
    return _resized(tight, (wanted[0], wanted[1]), size)


def common_boxes(boxes: Sequence[Roi], size: tuple[int, int]) -> list[Roi]:
    """Return boxes of one size, as high and as wide as needed, within the frame."""
    wanted = max(b.height for b in boxes), max(b.width for b in boxes)
    return [_resized(box, wanted, size) for box in boxes]


def _resized(box: Roi, wanted: tuple[int, int], size: tuple[int, int]) -> Roi:
    """Return a box of that size with the same centre, moved into the frame."""
    places = []
    for centre, side, length in zip(box.center, wanted, size, strict=True):
        side = min(side, length)
        places.append((min(max(0, round(centre - side / 2)), length - side), side))
    (y, height), (x, width) = places
    return Roi(y, x, height, width)
