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

import math
import weakref
from collections.abc import Sequence
from functools import lru_cache
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


class ViewBuffers:
    """Memory of views, which is used again once no tensor refers to it.

    A system clears fresh memory page by page, which takes as long as normalising.
    There is never more memory than that of the batches that exist at once. One thread
    gets arrays; others may drop them.
    """

    def __init__(self) -> None:
        self._given: list[tuple[Floats, weakref.ref[Floats]]] = []

    def empty(self, shape: tuple[int, ...]) -> Floats:
        """Return a float32 array with arbitrary values.

        Its memory is used again when the array and all tensors made from it are gone;
        numpy's slices of it do not keep it.
        """
        size = math.prod(shape)
        unused = [i for i, (_, user) in enumerate(self._given) if user() is None]
        found = next((i for i in unused if self._given[i][0].size >= size), None)
        if found is None:
            self._given = [pair for pair in self._given if pair[1]() is not None]
            memory = np.empty(size, np.float32)
        else:
            memory, _ = self._given.pop(found)
        array = memory[:size].reshape(shape)
        self._given.append((memory, weakref.ref(array)))
        return array


def read_views(
    image: PixelSource,
    windows: Sequence[Roi],
    spec: InputSpec,
    *,
    bands: Sequence[int],
    value_range: ValueRange,
    scale: float = 1.0,
    shift: tuple[int, int] = (0, 0),
    buffers: ViewBuffers | None = None,
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
    buffers
        Memory of earlier batches. None: fresh memory.

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
    buffers = buffers or ViewBuffers()
    views, boxes = {}, {}
    for name, view in spec.views.items():
        moved = shift if view.off_centre else (0, 0)
        places = [covered_region(w, view).shift(*moved) for w in windows]
        size = input_size(windows[0], view)
        every = buffers.empty((len(windows), *size, spec.channels))
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
    if inner == (height, width):
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
    channels = tuple(spec.mean), tuple(spec.std)
    values = tuple(np.ravel(value_range).tolist())
    factors, offsets = _row_factors(*channels, values, out.shape[1])
    # all bands of a row at once: long inner loops
    rows = out.reshape(len(out), -1, copy=False)
    if np.result_type(data, rows) == np.float32:
        # three passes have the bits of numpy's multiplication with a conversion, and
        # take half the time
        np.copyto(rows, data.reshape(rows.shape))
        torch.from_numpy(rows).mul_(factors)
    else:
        given = data.reshape(rows.shape)
        np.multiply(given, factors.numpy(), out=rows, casting="same_kind")
    torch.from_numpy(rows).sub_(offsets)
    if not valid.all():
        out[~valid] = 0


@lru_cache(8)
def _row_factors(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    values: tuple[float, ...],
    width: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a row of values is multiplied with, and what is subtracted then.

    Parameters
    ----------
    mean, std
        Mean and standard deviation of each channel, C numbers each.
    values
        Image values that become 0 and 1, in turn; two, or two of each channel.
    width
        Pixels of the row.

    Returns
    -------
    factors, offsets : (width x C,) float32
    """
    low, high = np.array(values, np.float64).reshape(-1, 2).T
    centre, spread = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    span = np.where(high == low, 1, high - low)
    factor = (1 / span).astype(np.float32) / spread
    offset = centre / spread + low.astype(np.float32) * factor
    return torch.from_numpy(np.tile(factor, width)), torch.from_numpy(
        np.tile(offset, width)
    )


def _margins(
    start: int, length: int, inner: int, inner_length: int, size: int
) -> tuple[int, int]:
    """Return the output pixels before and after the inner part (1 or more)."""
    before = round((inner - start) * size / length)
    after = round((start + length - inner - inner_length) * size / length)
    if before + after >= size:
        before, after = (before, size - 1 - before) if before < size else (size - 1, 0)
    return before, after
