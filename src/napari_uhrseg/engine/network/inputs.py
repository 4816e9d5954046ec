"""The only place where a network's inputs are built, for running and training.

A window in run pixels, and what a view of it covers::

    +---------------- extent ----------------+
    |                                        |
    |          +------ window ------+        |
    |          |                    |        |      fed to the network
    |          |      labelled      |        |  ->  as size x size pixels
    |          |                    |        |
    |          +--------------------+        |
    +----------------------------------------+
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import InputSpec, Roi, View

Floats = npt.NDArray[np.float32]


def read_views(
    image: Image,
    windows: Sequence[Roi],
    spec: InputSpec,
    *,
    bands: Sequence[int],
    value_range: tuple[float, float],
    scale: float = 1.0,
    shift: tuple[int, int] = (0, 0),
) -> Batch:
    """Cut and normalise every view of the windows.

    Parameters
    ----------
    windows
        Rectangles of run pixels, all of one size: squares of ``spec.window``, or
        frames. They may reach outside the image.
    bands
        ``spec.channels`` band numbers of the image, in the network's order.
    value_range
        Image values that become 0 and 1 before mean and std.
    scale
        Level-0 pixels per run pixel.
    shift
        Run pixels by which views that may be off centre are moved, y and x.

    Returns
    -------
    Batch
        (N, C, height, width) float32 a view, channels last in memory. Ground beyond
        the image is made up by
        ``spec.padding``; invalid pixels are 0 after normalisation, the mean.
        Each window depends on itself alone, not on its neighbours in the batch.

    Raises
    ------
    ReadError
        Pixels cannot be decoded.
    """
    views, boxes = {}, {}
    for name, view in spec.views.items():
        moved = shift if view.off_centre else (0, 0)
        places = [covered(w, view).shift(*moved) for w in windows]
        size = fed(windows[0], view)
        every = np.empty((len(windows), *size, spec.channels), np.float32)
        for place, out in zip(places, every, strict=True):
            roi = to_level0(place, scale)
            read_view(image, roi, spec, bands, value_range, out)
        views[name] = torch.from_numpy(every).permute(0, 3, 1, 2)
        boxes[name] = torch.tensor(
            [box(w, p, size) for w, p in zip(windows, places, strict=True)],
            dtype=torch.float32,
        )
    return Batch(views, boxes)


def covered(window: Roi, view: View) -> Roi:
    """The run pixels that a view of a window covers."""
    if view.extent == "frame":
        return window
    y = window.y + (window.height - view.extent) // 2
    x = window.x + (window.width - view.extent) // 2
    return Roi(y, x, view.extent, view.extent)


def fed(window: Roi, view: View) -> tuple[int, int]:
    """Height and width of what the network is fed for a window."""
    if view.extent == "frame":
        return window.height, window.width
    return view.side, view.side


def box(
    window: Roi, place: Roi, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Where the window lies in a view of that place and size: y0, x0, y1, x1."""
    rows, columns = size[0] / place.height, size[1] / place.width
    return (
        (window.y - place.y) * rows,
        (window.x - place.x) * columns,
        (window.bottom - place.y) * rows,
        (window.right - place.x) * columns,
    )


def to_level0(roi: Roi, scale: float) -> Roi:
    """A rectangle of run pixels in level-0 pixels, borders rounded."""
    y, x = round(roi.y * scale), round(roi.x * scale)
    return Roi(
        y,
        x,
        max(1, round(roi.bottom * scale) - y),
        max(1, round(roi.right * scale) - x),
    )


def read_view(
    image: Image,
    roi: Roi,
    spec: InputSpec,
    bands: Sequence[int],
    value_range: tuple[float, float],
    out: Floats,
) -> None:
    """Fill ``out``, (height, width, C), with one normalised view of level-0 pixels."""
    height, width = out.shape[:2]
    inside = roi.intersect(Roi(0, 0, *image.shape))
    if inside.area == 0:
        out[...] = 0
        return
    top, bottom = _margins(roi.y, roi.height, inside.y, inside.height, height)
    left, right = _margins(roi.x, roi.width, inside.x, inside.width, width)
    inner = height - top - bottom, width - left - right
    pixels = image.read(inside, inner, bands)
    rows, columns = slice(top, top + inner[0]), slice(left, left + inner[1])
    normalise(pixels.data, pixels.valid, spec, value_range, out[rows, columns])
    if spec.padding == "zero":
        out[:top] = out[rows.stop :] = 0
        out[:, :left] = out[:, columns.stop :] = 0
        return
    # columns first, then whole rows: what numpy.pad does, without its copy
    across = left + np.pad(np.arange(inner[1]), (left, right), mode=spec.padding)
    down = top + np.pad(np.arange(inner[0]), (top, bottom), mode=spec.padding)
    for beyond in (slice(0, left), slice(columns.stop, None)):
        out[:, beyond] = out[:, across[beyond]]
    for beyond in (slice(0, top), slice(rows.stop, None)):
        out[beyond] = out[down[beyond]]


def normalise(
    data: npt.NDArray,
    valid: npt.NDArray[np.bool_],
    spec: InputSpec,
    value_range: tuple[float, float],
    out: Floats,
) -> None:
    """(h, w, C) image values to (h, w, C) float32 input, into ``out``.

    Where ``valid``, (h, w), is False it becomes 0, the mean.
    """
    low, high = value_range
    mean = np.asarray(spec.mean, np.float32)
    std = np.asarray(spec.std, np.float32)
    factor = np.float32(1 / ((high - low) or 1)) / std
    offset = mean / std + np.float32(low) * factor
    width = out.shape[1]
    factors, offsets = np.tile(factor, width), np.tile(offset, width)
    # all bands of a row at once: long inner loops
    rows = out.reshape(len(out), -1, copy=False)
    np.multiply(data.reshape(rows.shape), factors, out=rows, casting="same_kind")
    rows -= offsets
    if not valid.all():
        out[~valid] = 0


def _margins(
    start: int, length: int, inner: int, inner_length: int, size: int
) -> tuple[int, int]:
    """Output pixels before and after the inner part; at least one is left."""
    before = round((inner - start) * size / length)
    after = round((start + length - inner - inner_length) * size / length)
    if before + after >= size:
        before, after = (before, size - 1 - before) if before < size else (size - 1, 0)
    return before, after
