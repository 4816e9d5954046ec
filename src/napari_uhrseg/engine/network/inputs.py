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

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_uhrseg.engine.network.pixel_batch import (
    Array,
    PixelBatch,
    ViewBuffers,
    is_exact,
    row_factors,
)
from napari_uhrseg.engine.network.reader_threads import ReaderThreads
from napari_uhrseg.io.image.image import Pixels
from napari_uhrseg.types import BoolMask, InputSpec, Roi, ValueRange, View


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


def read_pixels(
    image: PixelSource,
    windows: Sequence[Roi],
    spec: InputSpec,
    *,
    bands: Sequence[int],
    value_range: ValueRange,
    scale: float = 1.0,
    shift: tuple[int, int] = (0, 0),
    buffers: ViewBuffers | None = None,
    threads: ReaderThreads | None = None,
) -> PixelBatch:
    """Return the views of some windows in the data type of the image.

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
    threads
        Threads that divide the windows among themselves. None: the caller's alone.

    Returns
    -------
    PixelBatch
        One (N, height, width, C) tensor per view. ``spec.padding`` fills pixels outside
        the image. Invalid pixels become 0 by normalisation, which is the mean. A
        window's input does not depend on the other windows of the batch.

    Raises
    ------
    ReadError
        If pixels cannot be decoded.
    """
    buffers, threads = buffers or ViewBuffers(), threads or ReaderThreads()
    views, valid, boxes, multiplied = {}, {}, {}, False
    for name, view in spec.views.items():
        moved = shift if view.off_centre else (0, 0)
        places = [covered_region(w, view).shift(*moved) for w in windows]
        size = input_size(windows[0], view)
        reader = _ViewReader(image, spec, bands, value_range, buffers)
        rois = [to_level0(place, scale) for place in places]
        views[name], there = reader.read(rois, size, threads)
        if there is not None:
            valid[name] = there
        multiplied |= reader.multiplied
        boxes[name] = torch.tensor(
            [window_box(w, p, size) for w, p in zip(windows, places, strict=True)],
            dtype=torch.float32,
        )
    return PixelBatch(views, valid, boxes, spec, value_range, multiplied)


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


class _ViewReader:
    """Reader of one view of some windows into common memory; for several threads.

    Parameters
    ----------
    image, spec, bands, value_range, buffers
        As for `read_pixels`.
    """

    def __init__(
        self,
        image: PixelSource,
        spec: InputSpec,
        bands: Sequence[int],
        value_range: ValueRange,
        buffers: ViewBuffers,
    ) -> None:
        self._image, self._spec, self._bands = image, spec, bands
        self._value_range, self._buffers = value_range, buffers
        self._data: Array | None = None  # of all windows, from the first pixels on
        self._valid: BoolMask | None = None  # from the first invalid pixel on
        self._lock = threading.Lock()
        self.multiplied = False

    def read(
        self, rois: Sequence[Roi], size: tuple[int, int], threads: ReaderThreads
    ) -> tuple[Tensor, Tensor | None]:
        """Return the pixels of a view, and which are valid; None: all.

        Parameters
        ----------
        rois
            Level-0 pixels that the view of each window covers.
        size
            Height and width of the view's input.
        threads
            Threads that divide the windows among themselves.
        """
        shape = (len(rois), *size)
        whole = Roi(0, 0, *self._image.shape)

        def read(i: int) -> None:
            inside = rois[i].intersect(whole)
            if inside.area:
                self._read(i, rois[i], inside, shape)
            else:
                self._valid_of(shape)[i] = False

        threads.each(read, len(rois))
        data = self._data_of(shape, np.dtype(np.uint8))
        if self._valid is None:
            return torch.from_numpy(data), None
        return torch.from_numpy(data), torch.from_numpy(self._valid)

    def _read(self, i: int, roi: Roi, inside: Roi, shape: tuple[int, int, int]) -> None:
        """Read window ``i``, which lies in the image at least in part."""
        _, height, width = shape
        top, bottom = _margins(roi.y, roi.height, inside.y, inside.height, height)
        left, right = _margins(roi.x, roi.width, inside.x, inside.width, width)
        inner = height - top - bottom, width - left - right
        pixels = self._image.read(inside, inner, self._bands)
        data, valid = self._exact(pixels.data), pixels.valid
        rows, columns = slice(top, top + inner[0]), slice(left, left + inner[1])
        out, whole = self._data_of(shape, data.dtype)[i], inner == (height, width)
        out[rows, columns] = data
        if not whole:
            _pad(out, rows, columns, self._spec.padding)
        if valid.all() and (whole or self._spec.padding != "zero"):
            return
        there = self._valid_of(shape)[i]
        there[...] = False
        there[rows, columns] = valid
        if not whole and self._spec.padding != "zero":
            _pad(there, rows, columns, self._spec.padding)

    def _exact(self, data: Array) -> Array:
        """Return values of a type that float32 holds; others times their factors."""
        if is_exact(data.dtype):
            return data
        self.multiplied = True
        factors, _ = row_factors(self._spec, self._value_range, 1)
        out = np.empty(data.shape, np.float32)
        np.multiply(data, factors.numpy(), out=out, casting="same_kind")
        return out

    def _data_of(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Array:
        """Return the pixels of all windows. The first call makes them."""
        with self._lock:
            if self._data is None:
                self._data = self._buffers.empty((*shape, self._spec.channels), dtype)
            return self._data

    def _valid_of(self, shape: tuple[int, int, int]) -> BoolMask:
        with self._lock:
            if self._valid is None:
                valid = self._buffers.empty(shape, np.bool_)
                valid[...] = True
                self._valid = valid
            return self._valid


def _pad(out: Array, rows: slice, columns: slice, mode: str) -> None:
    """Fill the pixels around the inner part of (height, width, ...) values.

    Parameters
    ----------
    out
        Values, those of the inner part set.
    rows, columns
        The inner part.
    mode
        Mode of ``numpy.pad``, or ``"zero"``.
    """
    if mode == "zero":
        out[: rows.start] = out[rows.stop :] = 0
        out[:, : columns.start] = out[:, columns.stop :] = 0
        return
    height, width = out.shape[:2]
    # columns first, then whole rows, like numpy.pad, but without its copy
    across = columns.start + _padded(columns, width, mode)
    down = rows.start + _padded(rows, height, mode)
    for beyond in (slice(0, columns.start), slice(columns.stop, None)):
        out[:, beyond] = out[:, across[beyond]]
    for beyond in (slice(0, rows.start), slice(rows.stop, None)):
        out[beyond] = out[down[beyond]]


def _padded(inner: slice, size: int, mode: Any) -> npt.NDArray[np.int64]:
    """Return the inner pixel that each of ``size`` pixels shows."""
    count = inner.stop - inner.start
    padded: npt.NDArray[np.int64] = np.pad(
        np.arange(count), (inner.start, size - inner.stop), mode=mode
    )
    return padded


def _margins(
    start: int, length: int, inner: int, inner_length: int, size: int
) -> tuple[int, int]:
    """Return the output pixels before and after the inner part (1 or more)."""
    before = round((inner - start) * size / length)
    after = round((start + length - inner - inner_length) * size / length)
    if before + after >= size:
        before, after = (before, size - 1 - before) if before < size else (size - 1, 0)
    return before, after
