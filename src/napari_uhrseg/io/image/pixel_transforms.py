"""Sources that convert pixels: colours, alpha, orientation, polarity, half size."""

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_uhrseg.io.image.box_mean import box_mean
from napari_uhrseg.io.image.level_source import Array, LevelSource, Slices


class ChannelMap:
    """Source that applies a function to the samples of another source.

    Parameters
    ----------
    source
        Source whose last axes are y, x and, if present, samples.
    function
        Function from arrays to arrays with the axis of samples last. It must not
        depend on the extent of the other axes.
    dtype
        Data type of the result.
    samples
        Number of samples of the result.
    taken
        Number of samples of the source; None if it has no axis of samples.
    """

    def __init__(
        self,
        source: LevelSource,
        function: Callable[[Array], Array],
        dtype: Any,
        *,
        samples: int,
        taken: int | None,
    ) -> None:
        self._source, self._function, self._taken = source, function, taken
        front = source.shape if taken is None else source.shape[:-1]
        chunks = source.chunks if taken is None else source.chunks[:-1]
        self.shape = (*front, samples)
        self.chunks = (*chunks, samples)
        self.dtype = np.dtype(dtype)

    def __getitem__(self, key: Slices) -> Array:
        inner = key[:-1] if self._taken is None else (*key[:-1], slice(0, self._taken))
        return self._function(self._source[inner])[..., key[-1]]


class ValueMap:
    """Source that applies a function to each pixel of another source.

    Parameters
    ----------
    source
        Source of the pixels.
    function
        Function of an array that keeps its shape.
    dtype
        Data type of the result.
    """

    def __init__(
        self, source: LevelSource, function: Callable[[Array], Array], dtype: Any
    ) -> None:
        self._source, self._function = source, function
        self.shape, self.chunks = source.shape, source.chunks
        self.dtype = np.dtype(dtype)

    def __getitem__(self, key: Slices) -> Array:
        return self._function(self._source[key])


class HalfResolution:
    """Source of half the size of another one, averaged on each read.

    Parameters
    ----------
    source
        Source of the pixels.
    axes
        One letter per axis; y and x are halved and rounded up.
    nodata
        Value of invalid pixels, which the means ignore; None without one.
    """

    def __init__(self, source: LevelSource, axes: str, nodata: float | None) -> None:
        self._source, self._axes, self._nodata = source, axes, nodata
        self.shape = tuple(
            -(-n // 2) if a in "yx" else n
            for a, n in zip(axes, source.shape, strict=True)
        )
        self.chunks = tuple(
            min(512, n) if a in "yx" else c
            for a, c, n in zip(axes, source.chunks, self.shape, strict=True)
        )
        self.dtype = np.dtype(source.dtype)

    def __getitem__(self, key: Slices) -> Array:
        limits = zip(self._axes, key, self._source.shape, strict=True)
        finer = tuple(
            slice(2 * s.start, min(2 * s.stop, n)) if a in "yx" else s
            for a, s, n in limits
        )
        return box_mean(self._source[finer], 2, self._axes, self._nodata)


class Reoriented:
    """Source that flips and transposes another one by TIFF's orientation tag.

    Parameters
    ----------
    source
        Source in the orientation of the file.
    axes
        One letter per axis of the source; y is directly before x.
    orientation
        Value of the orientation tag, 2 to 8.
    """

    def __init__(self, source: LevelSource, axes: str, orientation: int) -> None:
        self._source = source
        self._y = axes.index("y")
        self._swap = orientation >= 5
        # axes of the source that are reversed
        self._flip_y = orientation in (3, 4, 7, 8)
        self._flip_x = orientation in (2, 3, 6, 7)
        if self._swap:
            self._flip_y, self._flip_x = (
                orientation in (6, 7),
                orientation in (7, 8),
            )
        self.shape = self._swapped(tuple(source.shape))
        self.chunks = self._swapped(tuple(source.chunks))
        self.dtype = np.dtype(source.dtype)

    def _swapped(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._swap:
            return values
        y, x = values[self._y], values[self._y + 1]
        return (*values[: self._y], x, y, *values[self._y + 2 :])

    def __getitem__(self, key: Slices) -> Array:
        y, x = self._y, self._y + 1
        inner = list(self._swapped(key))
        for axis, flip in ((y, self._flip_y), (x, self._flip_x)):
            if flip:
                length, s = self._source.shape[axis], inner[axis]
                inner[axis] = slice(length - s.stop, length - s.start)
        part = self._source[tuple(inner)]
        flips = tuple(a for a, f in ((y, self._flip_y), (x, self._flip_x)) if f)
        part = np.flip(part, flips) if flips else part
        return part.swapaxes(y, x) if self._swap else part


def palette(source: LevelSource, table: Array) -> ChannelMap:
    """Return the colours of a palette image; ``table`` is (entries, 3 or 4) uint8."""

    def look_up(index: Array) -> Array:
        colours: Array = table[np.minimum(index, len(table) - 1)]
        return colours

    return ChannelMap(source, look_up, np.uint8, samples=table.shape[1], taken=None)


def cmyk(source: LevelSource, alpha: bool) -> ChannelMap:
    """Convert CMYK to RGB without a colour profile; the fifth sample may be alpha."""
    top = 1.0 if source.dtype.kind == "f" else float(np.iinfo(source.dtype).max)

    def convert(inks: Array) -> Array:
        light = 1 - inks[..., :4].astype(np.float32) / top
        rgb = light[..., :3] * light[..., 3:]
        out: Array = np.rint(rgb * 255).astype(np.uint8)
        if not alpha:
            return out
        opacity = np.where(inks[..., 4:5] > 0, 255, 0).astype(np.uint8)
        return np.concatenate([out, opacity], axis=-1)

    return ChannelMap(
        source, convert, np.uint8, samples=3 + alpha, taken=source.shape[-1]
    )


def inverted(source: LevelSource, bits: int) -> ValueMap:
    """Invert integers or booleans, for TIFF's photometric MINISWHITE (0 is white).

    Parameters
    ----------
    source
        Source of unsigned integers or booleans.
    bits
        Bits of a sample in the file; the inverse of 0 is ``2**bits - 1``.
    """
    dtype = np.dtype(source.dtype)
    if dtype.kind == "b":
        return ValueMap(source, np.logical_not, dtype)
    top = dtype.type(2**bits - 1)
    return ValueMap(source, lambda values: top - values, dtype)


def ycbcr(
    source: LevelSource,
    weights: tuple[float, ...],
    reference: tuple[float, ...] | None,
) -> ChannelMap:
    """Convert YCbCr to RGB; further samples are unchanged.

    Parameters
    ----------
    source
        Source of unsigned integers with axes y, x, samples.
    weights
        Shares of red, green and blue in Y, which sum to 1.
    reference
        Values of black and white of Y, Cb and Cr; default: the full range, with Cb
        and Cr centred.
    """
    top = float(np.iinfo(source.dtype).max)
    middle = (top + 1) / 2
    if reference is None or not np.all(np.diff(reference)[::2]):
        reference = (0.0, top, middle, top, middle, top)
    red, green, blue = weights

    def convert(samples: Array) -> Array:
        y, cb, cr = (
            (samples[..., i].astype(np.float32) - reference[2 * i])
            * (scale / (reference[2 * i + 1] - reference[2 * i]))
            for i, scale in enumerate((top, top - middle, top - middle))
        )
        r = y + (2 - 2 * red) * cr
        b = y + (2 - 2 * blue) * cb
        rgb = np.stack([r, (y - red * r - blue * b) / green, b], axis=-1)
        out: Array = np.clip(np.rint(rgb), 0, top).astype(source.dtype)
        return np.concatenate([out, samples[..., 3:]], axis=-1)

    samples = source.shape[-1]
    return ChannelMap(source, convert, source.dtype, samples=samples, taken=samples)


def unassociated(source: LevelSource, alpha: int) -> ChannelMap:
    """Divide the other samples by alpha, with which they are multiplied in the file.

    Parameters
    ----------
    source
        Source with axes y, x, samples.
    alpha
        Index of the sample that is opacity.
    """
    dtype = np.dtype(source.dtype)
    top = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)

    def convert(samples: Array) -> Array:
        opacity = samples[..., alpha : alpha + 1].astype(np.float64)
        factor = np.divide(top, opacity, out=np.zeros_like(opacity), where=opacity > 0)
        values = samples * factor
        if dtype.kind != "f":
            values = np.clip(np.rint(values), 0, top)
        out: Array = values.astype(dtype)
        out[..., alpha] = samples[..., alpha]
        return out

    samples = source.shape[-1]
    return ChannelMap(source, convert, dtype, samples=samples, taken=samples)


class SamplesLast:
    """Source with axes (…, y, x, samples) of another one with (…, samples, y, x)."""

    def __init__(self, source: LevelSource) -> None:
        self._source = source
        self._count = source.shape[-3]
        self.shape = (*source.shape[:-3], *source.shape[-2:], self._count)
        self.chunks = (*source.chunks[:-3], *source.chunks[-2:], self._count)
        self.dtype = np.dtype(source.dtype)

    def __getitem__(self, key: Slices) -> Array:
        inner = (*key[:-3], key[-1], *key[-3:-1])
        return np.moveaxis(self._source[inner], -3, -1)
