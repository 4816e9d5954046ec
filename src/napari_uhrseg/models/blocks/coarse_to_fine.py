"""Coarse-to-fine inference of GLNet: the box around the foreground.

Chen et al., CVPR 2019, section 3.3 (the code was never released): the global branch
finds the foreground, GLNet labels its bounding box, and the rest is background.
The box is enlarged until foreground and background are equal (footnote 1), whatever the
size of the foreground. A box that contains more background already stays as it is.
[choice] The box keeps its centre and its ratio of sides as far as the frame allows it.
Outside of it the probability of class ``background`` is about one.
[choice] The second and third stages train on the boxes too (section 4.3.1). In a step,
all boxes are as large as the largest. Without foreground, they train on the frame.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_uhrseg.types import Roi

CERTAIN = 20.0  # background logit outside the foreground's box


def foreground_box(found: Tensor, size: tuple[int, int], least: int) -> Roi | None:
    """Return the relaxed bounding box of a coarse foreground in a frame's pixels.

    Parameters
    ----------
    found
        (h, w) bool foreground of the whole frame.
    size
        The frame's height and width.
    least
        Minimum side of the box in pixels, if the frame is as large.

    Returns
    -------
    Roi | None
        ``None`` without foreground.
    """
    rows, columns = (torch.nonzero(found.any(axis)).flatten() for axis in (1, 0))
    if not len(rows):
        return None
    cells = [n / count for n, count in zip(size, found.shape, strict=True)]
    (y, bottom), (x, right) = (
        (int(at[0]) * cell, (int(at[-1]) + 1) * cell)
        for at, cell in zip((rows, columns), cells, strict=True)
    )
    height, width = bottom - y, right - x
    area = max(height * width, 2 * float(found.sum()) * math.prod(cells))
    height *= math.sqrt(area / (height * width))
    # a side that the frame limits is made up for by the other one
    width = min(size[1], max(least, area / min(size[0], height)))
    height = min(size[0], max(least, area / width))
    tight = Roi(round(y), round(x), round(bottom) - round(y), round(right) - round(x))
    return _resized(tight, (math.ceil(height), math.ceil(width)), size)


def background_logits(frames: Tensor, classes: int, background: int) -> Tensor:
    """Return logits of frames that contain only background.

    Parameters
    ----------
    frames
        (N, C, h, w) frames.
    classes
        Number of classes K.
    background
        Number of the background class, from 0.

    Returns
    -------
    Tensor
        (N, K, h, w) float32.
    """
    size = (len(frames), classes, *frames.shape[-2:])
    logits = frames.new_zeros(size, dtype=torch.float32)
    logits[:, background] = CERTAIN
    return logits


def common_corners(boxes: Sequence[Roi | None], size: tuple[int, int]) -> Tensor:
    """Return boxes of one size, as high and as wide as needed, within their frames.

    Parameters
    ----------
    boxes
        The foreground's box of each frame; ``None``: the whole frame.
    size
        Height and width of the frames.

    Returns
    -------
    Tensor
        (N, 4) int64 corners y0, x0, y1, x1.
    """
    known = [box or Roi(0, 0, *size) for box in boxes]
    wanted = max(b.height for b in known), max(b.width for b in known)
    same = [_resized(box, wanted, size) for box in known]
    return torch.tensor([(b.y, b.x, b.bottom, b.right) for b in same])


def cut_corners(frames: Tensor, corners: Tensor) -> Tensor:
    """Return the parts of (N, ..., h, w) frames between `common_corners`."""
    boxes = zip(frames, corners.tolist(), strict=True)
    return torch.stack([f[..., y0:y1, x0:x1] for f, (y0, x0, y1, x1) in boxes])


def _resized(box: Roi, wanted: tuple[int, int], size: tuple[int, int]) -> Roi:
    """Return a box of that size with the same centre, moved into the frame."""
    places = []
    for centre, side, length in zip(box.center, wanted, size, strict=True):
        side = min(side, length)
        places.append((min(max(0, round(centre - side / 2)), length - side), side))
    (y, height), (x, width) = places
    return Roi(y, x, height, width)
