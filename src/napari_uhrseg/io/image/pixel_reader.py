"""Reader of rectangles of image levels, exact or resampled, with their validity."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from napari_uhrseg.errors import OpenError, ReadError
from napari_uhrseg.io.image.chunk_cache import CachedSource
from napari_uhrseg.io.image.level_source import Array, LevelSource, Slices
from napari_uhrseg.io.image.nodata import MAX_MEASURED, differs_from_nodata
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.image.resample import ResampleAxis, resample
from napari_uhrseg.types import BoolMask, Roi
from napari_uhrseg.units import formatted

WINDOW_SIDE = 256  # px, of the windows that are sampled
MOST_BANDS = 10_000  # each has a name, and may have a layer
LONGEST_AXIS = 2**31 - 1  # pixels or planes


@dataclass(frozen=True, slots=True)
class Band:
    """Name, value range and nodata value of a band, and its part of the spectrum.

    ``wavelength`` is the centre of the band, or the emission of a fluorophore, in nm.
    ``color`` is the colour that the file states, such as ``red`` or ``nir``.
    """

    name: str
    range: tuple[float, float] | None = None
    nodata: float | None = None
    wavelength: float | None = None
    color: str = ""


class Pixels(NamedTuple):
    """Pixels of a rectangle, and the mask of valid pixels.

    ``data`` (height, width, bands) has the dtype of the image. ``valid`` (height,
    width) is False outside the image, and for pixels that alpha, a mask, nodata or
    NaN mark as invalid.
    """

    data: Array
    valid: BoolMask


class PixelReader:
    """Thread-safe reader of the levels of one image at one plane.

    Parameters
    ----------
    sources
        Levels of the image, finest first. Levels for display only are not read.
    axes
        One letter per axis of the sources.
    plane
        Index along each axis other than y, x and the bands.
    masks
        One mask (y, x) per level, which is 0 at invalid pixels; empty without masks.
    alpha
        Index of the sample that is opacity and not a band.
    nodata
        Value of invalid pixels of each band; None without one.
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
        """Return the height and width of a level in pixels."""
        shape = self.sources[level].shape
        return shape[self.axes.index("y")], shape[self.axes.index("x")]

    def resampled(
        self,
        level: int,
        rows: ResampleAxis,
        columns: ResampleAxis,
        bands: tuple[int, ...],
        read_pixels: int,
    ) -> Pixels:
        """Read and resample a rectangle of a level.

        A large rectangle is split recursively, which does not change the result.

        Parameters
        ----------
        level
            Index of the level.
        rows, columns
            Output pixels along y and x, in pixels of the level.
        bands
            Indices of the bands.
        read_pixels
            Source pixels that are resampled at a time.

        Returns
        -------
        Pixels (rows.count, columns.count, bands), and their validity.

        Raises
        ------
        ReadError
            If pixels cannot be decoded.
        """
        if rows.exact and columns.exact:
            y, x = round(rows.start) + rows.first, round(columns.start) + columns.first
            return self.pixels(level, Roi(y, x, rows.count, columns.count), bands)
        (top, bottom), (left, right) = rows.span(), columns.span()
        roi = Roi(top, left, bottom - top, right - left)
        if roi.area > read_pixels and max(rows.count, columns.count) > 1:
            axis = 0 if rows.count * rows.step >= columns.count * columns.step else 1
            if (rows, columns)[axis].count == 1:
                axis = 1 - axis
            halves = (rows, columns)[axis].halves()
            parts = [
                self.resampled(level, half, columns, bands, read_pixels)
                if axis == 0
                else self.resampled(level, rows, half, bands, read_pixels)
                for half in halves
            ]
            data, valid = (
                np.concatenate(part, axis) for part in zip(*parts, strict=True)
            )
            return Pixels(data, valid)
        return Pixels(*resample(*self.pixels(level, roi, bands), rows, columns))

    def pixels(self, level: int, roi: Roi, bands: tuple[int, ...]) -> Pixels:
        """Read a rectangle of a level without resampling.

        Parameters
        ----------
        level
            Index of the level.
        roi
            Rectangle in pixels of the level; pixels outside are 0 and invalid.
        bands
            Indices of the bands.

        Returns
        -------
        Pixels (roi.height, roi.width, bands), and their validity.

        Raises
        ------
        ReadError
            If pixels cannot be decoded.
        """
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
        """Return a new array (height, width, samples) of a level at the plane."""
        where = {"y": roi.slices[0], "x": roi.slices[1]}
        where |= {axis: slice(i, i + 1) for axis, i in self.plane.items()}
        key = tuple(
            where.get(axis, slice(0, n))
            for axis, n in zip(self.axes, source.shape, strict=True)
        )
        size = roi.height, roi.width, len(samples)
        at = self.axes.index(self._band) if self._band else None
        if at is None or source.chunks[at] > 1 or source.shape[at] == 1:
            part = self._as_yxs(self._exact(source, key))
            every = list(samples) == list(range(part.shape[2]))
            # the cache returns a new array, or a chunk that is read-only
            new = isinstance(source, CachedSource) and part.flags.writeable
            if every and new and part.dtype == self.dtype:
                return part
            out = np.empty(size, self.dtype)
            chosen: slice | Sequence[int] = samples
            if samples and all(b == a + 1 for a, b in pairwise(samples)):
                # a slice is copied in a fifth of the time
                chosen = slice(samples[0], samples[-1] + 1)
            out[...] = part[..., chosen]
            return out
        out = np.empty(size, self.dtype)
        for i, sample in enumerate(samples):  # each band has its own chunks
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

    def _valid(self, found: Array, bands: tuple[int, ...]) -> BoolMask:
        """Return the mask of valid pixels by alpha, nodata and NaN."""
        data = found[..., : len(bands)]
        valid = np.ones(found.shape[:2], bool)
        if self.alpha is not None:
            valid &= found[..., -1] > 0
        nodata = [self.nodata[band] for band in bands]
        if nodata and all(value is not None for value in nodata):
            different = np.zeros(valid.shape, bool)
            for i, value in enumerate(nodata):
                different |= differs_from_nodata(data[..., i], value)
            valid &= different
        if self.dtype.kind == "f":
            valid &= np.isfinite(data).all(axis=-1)
        return valid


def band_axis(axes: str) -> str:
    """Return the letter of the axis of bands: ``s``, else ``c``, else empty."""
    return next((a for a in "sc" if a in axes), "")


def check_extent(name: str, axes: str, shape: Sequence[int]) -> None:
    """Raise an error if an image states more bands or pixels than can exist.

    Parameters
    ----------
    name
        Name of the image.
    axes, shape
        Letter and size of each axis.

    Raises
    ------
    OpenError
        If there are more than `MOST_BANDS` bands, or an axis is longer than
        `LONGEST_AXIS`.
    """
    for axis, size in zip(axes, shape, strict=True):
        most = MOST_BANDS if axis == band_axis(axes) else LONGEST_AXIS
        if size > most:
            raise OpenError(
                f"{name} states a size of {formatted(size)} along axis {axis}; at most "
                f"{formatted(most)} "
                "can be opened.",
                "The file may be damaged or incomplete: copy or export it again.",
            )


def band_names(count: int, colours: int) -> list[str]:
    """Return default names of bands; the first ``colours`` are red, green and blue."""
    if count == 1:
        return ["value"]
    names = ["red", "green", "blue"][:colours]
    return names + [f"band {i + 1}" for i in range(len(names), count)]


def sample_of(band: int, alpha: int | None) -> int:
    """Return the sample index of a band; alpha is one of the samples."""
    return band + (alpha is not None and band >= alpha)


def stated_range(dtype: np.dtype, bands: Sequence[Band]) -> tuple[float, float] | None:
    """Return the value range by the dtype or by all bands, else None."""
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind == "b":
        return 0.0, 1.0
    ranges = [band.range for band in bands if band.range is not None]
    if not ranges or len(ranges) < len(bands):
        return None
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def sampled_percentiles(
    reader: PixelReader,
    level: int,
    bands: Sequence[int],
    percents: tuple[float, float],
    windows: int = 3,
) -> tuple[float, float]:
    """Return two percentiles of the valid pixels in windows of a level.

    Windows that cannot be decoded are ignored. Of real numbers, so are values beyond
    1e15 (such as -3.4e38), which mark missing pixels although the file does not
    declare them.

    Parameters
    ----------
    reader
        Reader of the image.
    level
        Index of the level.
    bands
        Indices of the bands.
    percents
        The percentages, 0 to 100.
    windows
        Windows of 256² pixels along each axis. A level of up to 256 pixels per window
        and axis is read as a whole.

    Returns
    -------
    The lower and the higher value, which differ; 0 and 1 without valid pixels.
    """
    values = [np.zeros(0)]
    for roi in _sample_rois(reader.size(level), windows):
        try:
            data, valid = reader.pixels(level, roi, tuple(bands))
        except ReadError:
            continue
        values.append(data[valid].astype(np.float64).ravel())
    every = np.concatenate(values)
    if reader.dtype.kind == "f" and (measured := np.abs(every) < MAX_MEASURED).any():
        every = every[measured]
    if not every.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(every, percents))
    return (low, high) if high > low else (min(low, 0.0), max(high, 1.0))


def _sample_rois(size: tuple[int, int], windows: int) -> list[Roi]:
    """Return windows spread over a level, or the whole of a small level."""
    (height, width), side = size, WINDOW_SIDE
    if max(size) <= windows * side:
        return [Roi(0, 0, height, width)]
    shares = np.linspace(0.15, 0.85, windows)
    ys = {max(0, int((height - side) * t)) for t in shares}
    xs = {max(0, int((width - side) * t)) for t in shares}
    return [
        Roi(y, x, min(side, height), min(side, width))
        for y in sorted(ys)
        for x in sorted(xs)
    ]
