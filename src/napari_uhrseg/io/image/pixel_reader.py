"""Rectangles of an image's levels: exact or resampled, and where they are valid."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.image.chunk_cache import Array, LevelSource, PendingLevel, Slices
from napari_uhrseg.io.image.resample import ResampleAxis, resample
from napari_uhrseg.types import Mask, Roi

READ_PIXELS = 2**24  # source pixels resampled in one go


@dataclass(frozen=True, slots=True)
class Band:
    """One band: its name, its usual values, and the value that means nothing."""

    name: str
    range: tuple[float, float] | None = None
    nodata: float | None = None


class Pixels(NamedTuple):
    """``data`` (height, width, bands) in the image's dtype, ``valid`` (height, width).

    ``valid`` is False outside the image and where alpha, a mask, nodata or NaN say
    that there is nothing.
    """

    data: Array
    valid: Mask


class PixelReader:
    """Reads levels of one image at one plane; thread-safe.

    Parameters
    ----------
    sources, axes
        The levels, of which those that are only shown are never asked for.
    plane
        Index along each axis that is not y, x or the bands.
    masks
        Per level, (y, x), valid where not 0; or none.
    alpha
        Sample that is opacity, not a band.
    nodata
        Per band, the value that means nothing.
    """

    def __init__(
        self,
        sources: Sequence[LevelSource],
        axes: str,
        *,
        plane: dict[str, int],
        masks: Sequence[LevelSource] = (),
        alpha: int | None = None,
        nodata: Sequence[float | None] = (),
    ) -> None:
        self.sources, self.axes, self.plane = sources, axes, plane
        self.masks, self.alpha, self.nodata = masks, alpha, nodata
        self.dtype = sources[0].dtype
        self._band = band_axis(axes)

    def size(self, level: int) -> tuple[int, int]:
        """Height and width of a level."""
        shape = self.sources[level].shape
        return shape[self.axes.index("y")], shape[self.axes.index("x")]

    def resampled(
        self,
        level: int,
        rows: ResampleAxis,
        columns: ResampleAxis,
        bands: tuple[int, ...],
    ) -> Pixels:
        """Read and resample, halving what is too large; the result is the same."""
        if rows.exact and columns.exact:
            y, x = round(rows.start) + rows.first, round(columns.start) + columns.first
            return self.pixels(level, Roi(y, x, rows.count, columns.count), bands)
        (top, bottom), (left, right) = rows.span(), columns.span()
        roi = Roi(top, left, bottom - top, right - left)
        if roi.area > READ_PIXELS and max(rows.count, columns.count) > 1:
            axis = 0 if rows.count * rows.step >= columns.count * columns.step else 1
            if (rows, columns)[axis].count == 1:
                axis = 1 - axis
            halves = (rows, columns)[axis].halves()
            parts = [
                self.resampled(level, half, columns, bands)
                if axis == 0
                else self.resampled(level, rows, half, bands)
                for half in halves
            ]
            data, valid = (
                np.concatenate(part, axis) for part in zip(*parts, strict=True)
            )
            return Pixels(data, valid)
        return Pixels(*resample(*self.pixels(level, roi, bands), rows, columns))

    def pixels(self, level: int, roi: Roi, bands: tuple[int, ...]) -> Pixels:
        """A rectangle of a level, unchanged; ``roi`` in that level's pixels."""
        inside = roi.intersect(Roi(0, 0, *self.size(level)))
        if not inside.area:
            data = np.zeros((roi.height, roi.width, len(bands)), self.dtype)
            return Pixels(data, np.zeros((roi.height, roi.width), bool))
        samples = [sample_of(band, self.alpha) for band in bands]
        if self.alpha is not None:
            samples.append(self.alpha)
        found = self._fetch(self.sources[level], inside, samples)
        data, valid = found[..., : len(bands)], self._valid(found, bands)
        if self.masks:
            valid &= np.asarray(self.masks[level][inside.slices]) > 0
        if self.dtype.kind == "f":
            data = np.where(np.isfinite(data), data, self.dtype.type(0))
        if inside == roi:
            return Pixels(np.ascontiguousarray(data), valid)
        at = inside.shift(-roi.y, -roi.x).slices
        out = np.zeros((roi.height, roi.width, len(bands)), self.dtype)
        shown = np.zeros(out.shape[:2], bool)
        out[at], shown[at] = data, valid
        return Pixels(out, shown)

    def _fetch(self, source: LevelSource, roi: Roi, samples: Sequence[int]) -> Array:
        """(height, width, samples) of a level at the chosen plane; a new array."""
        where = {"y": roi.slices[0], "x": roi.slices[1]}
        where |= {axis: slice(i, i + 1) for axis, i in self.plane.items()}
        key = tuple(
            where.get(axis, slice(0, n))
            for axis, n in zip(self.axes, source.shape, strict=True)
        )
        out = np.empty((roi.height, roi.width, len(samples)), self.dtype)
        at = self.axes.index(self._band) if self._band else None
        if at is None or source.chunks[at] > 1 or source.shape[at] == 1:
            part = self._exact(source, key)
            chosen: slice | Sequence[int] = samples
            if samples and all(b == a + 1 for a, b in pairwise(samples)):
                # is copied in a fifth of the time
                chosen = slice(samples[0], samples[-1] + 1)
            out[...] = self._as_yxs(part)[..., chosen]
            return out
        for i, sample in enumerate(samples):  # each band lies in chunks of its own
            one = (*key[:at], slice(sample, sample + 1), *key[at + 1 :])
            out[..., i] = self._as_yxs(self._exact(source, one))[..., 0]
        return out

    def _exact(self, source: LevelSource, key: Slices) -> Array:
        return (
            source.read_exact(key) if isinstance(source, PendingLevel) else source[key]
        )

    def _as_yxs(self, part: Array) -> Array:
        axes = self.axes
        order = [axes.index("y"), axes.index("x")]
        if self._band:
            order.append(axes.index(self._band))
        planes = tuple(i for i in range(len(axes)) if i not in order)
        part = part.transpose(*planes, *order)[(0,) * len(planes)]
        return part if self._band else part[..., None]

    def _valid(self, found: Array, bands: tuple[int, ...]) -> Mask:
        """Where the pixels mean something, as alpha, nodata and NaN say."""
        data = found[..., : len(bands)]
        valid = np.ones(found.shape[:2], bool)
        if self.alpha is not None:
            valid &= found[..., -1] > 0
        nodata = [self.nodata[band] for band in bands]
        if nodata and all(value is not None for value in nodata):
            valid &= (data != np.array(nodata, np.float64)).any(axis=-1)
        if self.dtype.kind == "f":
            valid &= np.isfinite(data).all(axis=-1)
        return valid


def band_axis(axes: str) -> str:
    """The letter of the bands: samples before channels, empty where there are none."""
    return next((a for a in "sc" if a in axes), "")


def band_names(count: int, colours: int) -> list[str]:
    """Names for bands that have none."""
    if count == 1:
        return ["value"]
    names = ["red", "green", "blue"][:colours]
    return names + [f"band {i + 1}" for i in range(len(names), count)]


def sample_of(band: int, alpha: int | None) -> int:
    """Where a band lies among the samples, which alpha is one of."""
    return band + (alpha is not None and band >= alpha)


def stated_range(dtype: np.dtype, bands: Sequence[Band]) -> tuple[float, float] | None:
    """The values that matter, where kind of number or bands state them."""
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind == "b":
        return 0.0, 1.0
    ranges = [band.range for band in bands if band.range is not None]
    if not ranges or len(ranges) < len(bands):
        return None
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def sampled_range(reader: PixelReader, level: int, bands: int) -> tuple[float, float]:
    """0.5th and 99.5th percentile of at most nine windows of 256² pixels of a level.

    Windows that cannot be decoded are left out; 0 and 1 where nothing is valid.
    """
    values = [np.zeros(0)]
    for roi in _sample_rois(reader.size(level)):
        try:
            data, valid = reader.pixels(level, roi, tuple(range(bands)))
        except ReadError:
            continue
        values.append(data[valid].astype(np.float64).ravel())
    every = np.concatenate(values)
    if not every.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(every, (0.5, 99.5)))
    return (low, high) if high > low else (min(low, 0.0), max(high, 1.0))


def _sample_rois(size: tuple[int, int]) -> list[Roi]:
    """Nine windows spread over a level, or the level where it is small."""
    height, width = size
    if max(size) <= 768:
        return [Roi(0, 0, height, width)]
    side = 256
    ys = {max(0, int((height - side) * t)) for t in (0.15, 0.5, 0.85)}
    xs = {max(0, int((width - side) * t)) for t in (0.15, 0.5, 0.85)}
    return [
        Roi(y, x, min(side, height), min(side, width))
        for y in sorted(ys)
        for x in sorted(xs)
    ]
