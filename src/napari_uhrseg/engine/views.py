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

from napari_uhrseg.io.image import Image
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
) -> Batch:
    """Cut and normalise every view of the windows.

    Parameters
    ----------
    windows
        Squares of ``spec.window`` run pixels; may reach outside the image.
    bands
        ``spec.channels`` band numbers of the image, in the network's order.
    value_range
        Image values that become 0 and 1 before mean and std.
    scale
        Level-0 pixels per run pixel.

    Returns
    -------
    Batch
        (N, C, size, size) float32 a view. Ground beyond the image is made up by
        ``spec.padding``; invalid pixels are 0 after normalisation, the mean.
        Each window depends on itself alone, not on its neighbours in the batch.

    Raises
    ------
    ReadError
        Pixels cannot be decoded.
    """
    views = {
        name: torch.from_numpy(
            np.stack(
                [
                    read_view(image, ground(w, view, scale), view.side, spec, bands,
                              value_range)
                    for w in windows
                ]
            )
        )
        for name, view in spec.views.items()
    }  # fmt: skip
    boxes = {
        name: torch.tensor([box(w, view) for w in windows], dtype=torch.float32)
        for name, view in spec.views.items()
    }
    return Batch(views, boxes)


def ground(window: Roi, view: View, scale: float) -> Roi:
    """The level-0 pixels that a view of a window covers."""
    if view.extent == "frame":
        raise NotImplementedError("frames come with the models that need them")
    y = window.y + (window.height - view.extent) // 2
    x = window.x + (window.width - view.extent) // 2
    return to_level0(Roi(y, x, view.extent, view.extent), scale)


def box(window: Roi, view: View) -> tuple[float, float, float, float]:
    """Where the window lies in the view's pixels: y0, x0, y1, x1."""
    if view.extent == "frame":
        raise NotImplementedError("frames come with the models that need them")
    factor = view.side / view.extent
    top = -((window.height - view.extent) // 2) * factor
    left = -((window.width - view.extent) // 2) * factor
    return top, left, top + window.height * factor, left + window.width * factor


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
    size: int,
    spec: InputSpec,
    bands: Sequence[int],
    value_range: tuple[float, float],
) -> Floats:
    """One normalised view, (C, size, size) float32."""
    height, width = image.shape
    inside = roi.intersect(Roi(0, 0, height, width))
    if inside.area == 0:
        return np.zeros((spec.channels, size, size), np.float32)
    top, bottom = _margins(roi.y, roi.height, inside.y, inside.height, size)
    left, right = _margins(roi.x, roi.width, inside.x, inside.width, size)
    pixels = image.read(inside, (size - top - bottom, size - left - right), bands)
    data = normalise(pixels.data, pixels.valid, spec, value_range)
    around = ((0, 0), (top, bottom), (left, right))
    if spec.padding == "zero":
        return np.pad(data, around)
    return np.pad(data, around, mode=spec.padding)


def normalise(
    data: npt.NDArray,
    valid: npt.NDArray[np.bool_],
    spec: InputSpec,
    value_range: tuple[float, float],
) -> Floats:
    """(h, w, C) image values to (C, h, w) network input."""
    low, high = value_range
    mean = np.asarray(spec.mean, np.float32)
    std = np.asarray(spec.std, np.float32)
    factor = np.float32(1 / ((high - low) or 1)) / std
    values = data.astype(np.float32) * factor - (mean / std + np.float32(low) * factor)
    values[~valid] = 0
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _margins(
    start: int, length: int, inner: int, inner_length: int, size: int
) -> tuple[int, int]:
    """Output pixels before and after the inner part; at least one is left."""
    before = round((inner - start) * size / length)
    after = round((start + length - inner - inner_length) * size / length)
    if before + after >= size:
        before, after = (before, size - 1 - before) if before < size else (size - 1, 0)
    return before, after
