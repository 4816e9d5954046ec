"""Inputs of a network, for inference and for training.

A view covers more than its window, in run pixels::

    +---------------- extent ----------------+
    |                                        |
    |          +------ window ------+        |
    |          |                    |        |      network input
    |          |      labelled      |        |  ->  as size x size pixels
    |          |                    |        |
    |          +--------------------+        |
    +----------------------------------------+
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from napari_uhrseg.io.image.image import Pixels
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import InputSpec, Roi, ValueRange, View

Floats = npt.NDArray[np.float32]


class PixelSource(Protocol):
    """Interface of an image, or of its pixels in memory."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of level 0."""

    def read(
        self,
        roi: Roi,
        size: tuple[int, int] | None = None,
        bands: Sequence[int] | None = None,
    ) -> Pixels:
        """Return pixels as ``Image.read`` does.

        Parameters
        ----------
        roi
            Rectangle of level-0 pixels.
        size
            Height and width of the result; ``None``: those of ``roi``.
        bands
            Band numbers in the requested order; ``None``: all.
        """


def read_views(
    image: PixelSource,
    windows: Sequence[Roi],
    spec: InputSpec,
    *,
    bands: Sequence[int],
    value_range: ValueRange,
    scale: float = 1.0,
    shift: tuple[int, int] = (0, 0),
) -> Batch:
    """Return the normalised views of some windows as one batch.

    Parameters
    ----------
    image
        The image to read from.
    windows
        Rectangles of run pixels, all of one size: squares of ``spec.window``, or
        frames. They may reach outside the image.
    spec
        Input specification of the network.
    bands
        ``spec.channels`` band numbers of the image, in the network's order.
    value_range
        Image values that become 0 and 1 before mean and std.
    scale
        Level-0 pixels per run pixel, above 0.
    shift
        Run pixels by which views that may be off centre are moved, y and x.

    Returns
    -------
    Batch
        One (N, C, height, width) float32 tensor per view, channels last in memory.
        ``spec.padding`` fills pixels outside the image. Invalid pixels are 0 after
        normalisation, which is the mean. A window's input does not depend on the other
        windows of the batch.

    Raises
    ------
    ReadError
        If pixels cannot be decoded.
    """
    views, boxes = {}, {}
    for name, view in spec.views.items():
        moved = shift if view.off_centre else (0, 0)
        places = [covered_region(w, view).shift(*moved) for w in windows]
        size = input_size(windows[0], view)
        every = np.empty((len(windows), *size, spec.channels), np.float32)
        for place, out in zip(places, every, strict=True):
            roi = to_level0(place, scale)
            read_view(image, roi, spec, bands, value_range, out)
        views[name] = torch.from_numpy(every).permute(0, 3, 1, 2)
        boxes[name] = torch.tensor(
            [window_box(w, p, size) for w, p in zip(windows, places, strict=True)],
            dtype=torch.float32,
        )
    return Batch(views, boxes)


def covered_region(window: Roi, view: View) -> Roi:
    """Return the run pixels that a view of a window covers."""
    if view.extent == "frame":
        return window
    y = window.y + (window.height - view.extent) // 2
    x = window.x + (window.width - view.extent) // 2
    return Roi(y, x, view.extent, view.extent)


def input_size(window: Roi, view: View) -> tuple[int, int]:
    """Return height and width of the network's input for a view of a window."""
    if view.extent == "frame":
        return window.height, window.width
    return view.side, view.side


def window_box(
    window: Roi, place: Roi, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the corners y0, x0, y1, x1 of a window in a view, in input pixels.

    Parameters
    ----------
    window
        The window, in run pixels.
    place
        Area that the view covers, in run pixels.
    size
        Height and width of the view's input.
    """
    rows, columns = size[0] / place.height, size[1] / place.width
    return (
        (window.y - place.y) * rows,
        (window.x - place.x) * columns,
        (window.bottom - place.y) * rows,
        (window.right - place.x) * columns,
    )


def to_level0(roi: Roi, scale: float) -> Roi:
    """Return a rectangle of run pixels in level-0 pixels, with rounded borders."""
    y, x = round(roi.y * scale), round(roi.x * scale)
    return Roi(
        y,
        x,
        max(1, round(roi.bottom * scale) - y),
        max(1, round(roi.right * scale) - x),
    )


def read_view(
    image: PixelSource,
    roi: Roi,
    spec: InputSpec,
    bands: Sequence[int],
    value_range: ValueRange,
    out: Floats,
) -> None:
    """Read and normalise one view into ``out``.

    Parameters
    ----------
    image
        The image to read from.
    roi
        Level-0 pixels that the view covers. They may lie outside the image.
    spec
        Input specification of the network.
    bands
        Band numbers of the image, in the network's order.
    value_range
        Image values that become 0 and 1 before mean and std.
    out
        (height, width, C) float32.
    """
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
    normalize_into(pixels.data, pixels.valid, spec, value_range, out[rows, columns])
    if spec.padding == "zero":
        out[:top] = out[rows.stop :] = 0
        out[:, :left] = out[:, columns.stop :] = 0
        return
    # columns first, then whole rows, like numpy.pad, but without its copy
    across = left + np.pad(np.arange(inner[1]), (left, right), mode=spec.padding)
    down = top + np.pad(np.arange(inner[0]), (top, bottom), mode=spec.padding)
    for beyond in (slice(0, left), slice(columns.stop, None)):
        out[:, beyond] = out[:, across[beyond]]
    for beyond in (slice(0, top), slice(rows.stop, None)):
        out[beyond] = out[down[beyond]]


def normalize_into(
    data: npt.NDArray,
    valid: npt.NDArray[np.bool_],
    spec: InputSpec,
    value_range: ValueRange,
    out: Floats,
) -> None:
    """Normalise image values into ``out``.

    Parameters
    ----------
    data
        (h, w, C) image values.
    valid
        (h, w) bool. Invalid pixels become 0, which is the mean.
    spec
        Input specification, with mean and standard deviation of each channel.
    value_range
        Image values that become 0 and 1 before mean and std.
    out
        (h, w, C) float32.
    """
    low, high = np.array(value_range, np.float64).reshape(-1, 2).T
    mean = np.asarray(spec.mean, np.float32)
    std = np.asarray(spec.std, np.float32)
    span = np.where(high == low, 1, high - low)
    factor = (1 / span).astype(np.float32) / std
    offset = mean / std + low.astype(np.float32) * factor
    width = out.shape[1]
    factors, offsets = np.tile(factor, width), np.tile(offset, width)
    # all bands of a row at once: long inner loops
    rows = out.reshape(len(out), -1, copy=False)
    if np.result_type(data, rows) == np.float32:
        # three passes have the bits of numpy's multiplication with a conversion, and
        # take half the time
        np.copyto(rows, data.reshape(rows.shape))
        torch.from_numpy(rows).mul_(torch.from_numpy(factors))
    else:
        np.multiply(data.reshape(rows.shape), factors, out=rows, casting="same_kind")
    torch.from_numpy(rows).sub_(torch.from_numpy(offsets))
    if not valid.all():
        out[~valid] = 0


def _margins(
    start: int, length: int, inner: int, inner_length: int, size: int
) -> tuple[int, int]:
    """Return the output pixels before and after the inner part (1 or more)."""
    before = round((inner - start) * size / length)
    after = round((start + length - inner - inner_length) * size / length)
    if before + after >= size:
        before, after = (before, size - 1 - before) if before < size else (size - 1, 0)
    return before, after
