"""An image of any size: lazy levels for showing, and exact reading by rectangle."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.chunks import (
    Array,
    ArraySource,
    CachedSource,
    PendingLevel,
    Slices,
    Source,
)
from napari_uhrseg.io.display import Shown
from napari_uhrseg.io.resample import Steps, resample
from napari_uhrseg.types import Mask, Roi

COARSEST = 2048  # px a side: napari reads the coarsest level whole
UNIT_METRES = {"micrometer": 1e-6, "metre": 1.0}
DEGREE_METRES = 111_320.0  # of latitude
READ_PIXELS = 2**24  # source pixels resampled in one go

Affine = tuple[float, float, float, float, float, float]


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


@dataclass(eq=False, kw_only=True)
class Image:
    """An opened image. Readers make it; nothing in it is as large as the image.

    Parameters
    ----------
    name
        What people call it.
    sources
        Levels, finest first, all of the same axes. They are wrapped with the cache
        here, and a ``PendingLevel`` is added for each coarser level that is missing.
    source_axes
        One letter per axis of the sources: ``y``, ``x``, ``s`` (samples) or ``c``
        (channels) for the bands, any other letter for planes (``z``, ``t``).
    bands
        Without alpha. Empty: named after their number.
    rgb_bands
        Indices of the three bands shown as a colour image; empty: not one.
    alpha
        Sample that is not a band but opacity.
    masks
        Per level, an array (y, x), valid where it is not 0.
    pixel_size
        (height, width) of a level-0 pixel in ``unit``: ``micrometer``, ``metre``,
        ``degree`` or ``pixel``.
    affine
        Pixel to CRS coordinates, rasterio's order a, b, c, d, e, f.
    plane
        Which plane of the other axes is read.
    parallel
        Whether several threads may decode at once.
    fill
        Whether missing coarser levels are to be made.
    on_read_error
        Called once with a message when something shown cannot be decoded.
    """

    name: str
    sources: Sequence[Source]
    source_axes: str
    path: Path | None = None
    fingerprint: str = ""
    bands: tuple[Band, ...] = ()
    rgb_bands: tuple[int, ...] = ()
    alpha: int | None = None
    masks: Sequence[Source] = ()
    is_slide: bool = False
    pixel_size: tuple[float, float] | None = None
    unit: str = "pixel"
    crs: str | None = None
    affine: Affine | None = None
    colormap: dict[int, tuple[int, int, int, int]] | None = None
    plane: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    parallel: bool = True
    fill: bool = True
    on_read_error: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        self.sources = tuple(self._wrapped(s) for s in self.sources)
        self.masks = tuple(self._wrapped(s) for s in self.masks)
        if self.fill:
            self.sources = (*self.sources, *self._missing())
        first = self.sources[0].shape
        if not {"y", "x"} <= set(self.source_axes) or len(first) != len(
            self.source_axes
        ):
            raise ValueError(f"axes {self.source_axes!r} do not fit the shape {first}")
        if not self.bands:
            count = self._samples - (self.alpha is not None)
            names = _band_names(count, len(self.rgb_bands))
            self.bands = tuple(Band(n) for n in names)
        self.plane = {
            k: self.plane.get(k, n // 2 * (k == "z")) for k, n in self.planes.items()
        }
        self._failed = False

    def _wrapped(self, source: Source) -> Source:
        ready = isinstance(source, CachedSource | PendingLevel)
        in_memory = isinstance(source, ArraySource) and isinstance(
            source.array, np.ndarray
        )
        if ready or in_memory:
            return source
        return CachedSource(source, parallel=self.parallel)

    # what it is

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.sources[0].dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of level 0."""
        return self._size(self.sources[0])

    @property
    def rgb(self) -> bool:
        return bool(self.rgb_bands)

    @property
    def planes(self) -> dict[str, int]:
        """Axes beside y, x and the bands, with their sizes."""
        axes = zip(self.source_axes, self.sources[0].shape, strict=True)
        return {a: n for a, n in axes if a not in ("y", "x", self._band_axis)}

    @cached_property
    def downsamples(self) -> tuple[float, ...]:
        """How many level-0 pixels a pixel of each of ``levels`` covers a side."""
        return tuple(self._downsample(source) for source in self.sources)

    @property
    def meters_per_pixel(self) -> float | None:
        """Ground covered by a pixel, geometric mean of both sides, in metres."""
        if self.pixel_size is None or self.unit == "pixel":
            return None
        height, width = self.pixel_size
        if self.unit == "degree":
            latitude = 0.0
            if self.affine is not None:
                _, _, _, d, e, f = self.affine
                latitude = d * self.shape[1] / 2 + e * self.shape[0] / 2 + f
            height *= DEGREE_METRES
            width *= DEGREE_METRES * max(0.01, math.cos(math.radians(latitude)))
            return math.sqrt(height * width)
        return math.sqrt(height * width) * UNIT_METRES[self.unit]

    def with_plane(self, **plane: int) -> Self:
        """The same image, read at another plane: ``image.with_plane(z=3)``."""
        for axis, index in plane.items():
            if not 0 <= index < self.planes.get(axis, 0):
                raise ValueError(
                    f"{axis}={index}: the image has {self.planes or 'one plane'}"
                )
        other = replace(self, plane={**self.plane, **plane})
        for name in ("levels", "contrast_limits"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    # what is shown

    @property
    def axes(self) -> str:
        """Axes of ``levels``; a colour image ends with its samples, ``yxs``."""
        if not self.rgb:
            return self.source_axes
        return "".join(self.planes) + "yxs"

    @property
    def missing_levels(self) -> bool:
        """Whether ``io.pyramid.fill_levels`` has something to do."""
        pending = (s for s in self.sources if isinstance(s, PendingLevel))
        return any(not level.complete for level in pending)

    @property
    def needs_tiling(self) -> bool:
        """Whether level 0 is a large untiled file, not converted yet."""
        first = self.sources[0]
        return isinstance(first, PendingLevel) and not first.complete

    @cached_property
    def levels(self) -> tuple[Any, ...]:
        """What napari shows, finest first: dask arrays, made in milliseconds.

        Levels still to be filled are grey and change as they fill, so napari must
        not keep their pixels: give the layer ``cache=False``. The coarsest one,
        which napari keeps all the same, is then a numpy array.
        """
        grey = 128 if self.dtype == np.uint8 else sum(self.contrast_limits) / 2
        for source in self.sources:
            if isinstance(source, PendingLevel):
                source.grey(grey)
        last = len(self.sources) - 1
        return tuple(self._shown(s, i == last) for i, s in enumerate(self.sources))

    def _shown(self, source: Source, last: bool) -> Any:
        shown = Shown(
            source,
            self.source_axes,
            self.axes,
            samples=self._shown_samples() if self.rgb else None,
            limits=self.contrast_limits if self.rgb else None,
            on_error=self._report,
        )
        array = shown.in_memory() if last else None
        return shown.lazy() if array is None else array

    def _missing(self) -> list[PendingLevel]:
        """Coarser levels that the file lacks, each half of the one before."""
        coarsest, found = self.sources[-1], []
        size = self._size(coarsest)
        while max(size) > COARSEST:
            size = (-(-size[0] // 2), -(-size[1] // 2))
            full = {"y": size[0], "x": size[1]}
            axes = self.source_axes
            both = zip(axes, coarsest.shape, coarsest.chunks, strict=True)
            shape, chunks = zip(
                *((full.get(a, n), 512 if a in full else c) for a, n, c in both),
                strict=True,
            )
            found.append(PendingLevel(shape, coarsest.dtype, chunks))
        return found

    def _shown_samples(self) -> list[int]:
        samples = [self._sample(band) for band in self.rgb_bands]
        return samples if self.alpha is None else [*samples, self.alpha]

    def _report(self, error: Exception) -> None:
        if not self._failed and self.on_read_error is not None:
            self._failed = True
            self.on_read_error(
                f"A part of {self.name} cannot be read and is shown as empty: {error}. "
                "The file may be damaged or incomplete."
            )

    # reading

    def read(
        self,
        roi: Roi,
        size: tuple[int, int] | None = None,
        bands: Sequence[int] | None = None,
    ) -> Pixels:
        """The pixels of a rectangle, at a size of choice.

        The coarsest real level that is fine enough is read: unchanged where its
        pixels are the ones asked for, else area-averaged (shrinking) or linear
        (enlarging). The same arguments give the same bytes. Thread-safe.

        Parameters
        ----------
        roi
            In level-0 pixels; outside of the image data is 0 and not valid.
        size
            Height and width of the answer; default the roi's.
        bands
            Indices into ``bands``; default all.

        Returns
        -------
        Pixels. Memory: the answer, plus the cache of chunks, plus 16 million source
        pixels at a time where there is something to resample.

        Raises
        ------
        ReadError
            Where pixels cannot be decoded.
        """
        size = (roi.height, roi.width) if size is None else size
        chosen = tuple(range(len(self.bands))) if bands is None else tuple(bands)
        if min(*size, roi.height, roi.width) < 1:
            empty = np.zeros((*size, len(chosen)), self.dtype)
            return Pixels(empty, np.zeros(size, bool))
        shrink = min(roi.height / size[0], roi.width / size[1])
        level = max(
            (i for i in self._real if self.downsamples[i] < shrink + 1e-3), default=0
        )
        scale = self.downsamples[level]
        rows = Steps(roi.y / scale, roi.height / scale / size[0], 0, size[0])
        columns = Steps(roi.x / scale, roi.width / scale / size[1], 0, size[1])
        return self._resampled(level, rows, columns, chosen)

    def _resampled(
        self, level: int, rows: Steps, columns: Steps, bands: tuple[int, ...]
    ) -> Pixels:
        """Read and resample, halving what is too large; the result is the same."""
        if rows.exact and columns.exact:
            y, x = round(rows.start) + rows.first, round(columns.start) + columns.first
            return self._pixels(level, Roi(y, x, rows.count, columns.count), bands)
        (top, bottom), (left, right) = rows.span(), columns.span()
        roi = Roi(top, left, bottom - top, right - left)
        if roi.area > READ_PIXELS and max(rows.count, columns.count) > 1:
            axis = 0 if rows.count * rows.step >= columns.count * columns.step else 1
            if (rows, columns)[axis].count == 1:
                axis = 1 - axis
            halves = (rows, columns)[axis].halves()
            parts = [
                self._resampled(level, half, columns, bands)
                if axis == 0
                else self._resampled(level, rows, half, bands)
                for half in halves
            ]
            data, valid = (
                np.concatenate(part, axis) for part in zip(*parts, strict=True)
            )
            return Pixels(data, valid)
        return Pixels(*resample(*self._pixels(level, roi, bands), rows, columns))

    def _pixels(self, level: int, roi: Roi, bands: tuple[int, ...]) -> Pixels:
        """A rectangle of a level, unchanged; ``roi`` in that level's pixels."""
        height, width = self._size(self.sources[level])
        inside = roi.intersect(Roi(0, 0, height, width))
        if not inside.area:
            data = np.zeros((roi.height, roi.width, len(bands)), self.dtype)
            return Pixels(data, np.zeros((roi.height, roi.width), bool))
        samples = [self._sample(band) for band in bands]
        if self.alpha is not None:
            samples.append(self.alpha)
        found = self._fetch(self.sources[level], inside, samples)
        data, valid = found[..., : len(bands)], self._valid(found, bands)
        if self.masks:
            valid &= self._mask(level, inside)
        if self.dtype.kind == "f":
            data = np.where(np.isfinite(data), data, self.dtype.type(0))
        if inside == roi:
            return Pixels(np.ascontiguousarray(data), valid)
        at = inside.shift(-roi.y, -roi.x).slices
        out = np.zeros((roi.height, roi.width, len(bands)), self.dtype)
        shown = np.zeros(out.shape[:2], bool)
        out[at], shown[at] = data, valid
        return Pixels(out, shown)

    def _fetch(self, source: Source, roi: Roi, samples: Sequence[int]) -> Array:
        """(height, width, samples) of a level at the chosen plane; a new array."""
        where = {"y": roi.slices[0], "x": roi.slices[1]}
        where |= {axis: slice(i, i + 1) for axis, i in self.plane.items()}
        key = tuple(
            where.get(axis, slice(0, n))
            for axis, n in zip(self.source_axes, source.shape, strict=True)
        )
        out = np.empty((roi.height, roi.width, len(samples)), self.dtype)
        at = self.source_axes.index(self._band_axis) if self._band_axis else None
        if at is None or source.chunks[at] > 1 or source.shape[at] == 1:
            part = self._exact(source, key)
            out[...] = self._as_yxs(part)[..., samples]
            return out
        for i, sample in enumerate(samples):  # each band lies in chunks of its own
            one = (*key[:at], slice(sample, sample + 1), *key[at + 1 :])
            out[..., i] = self._as_yxs(self._exact(source, one))[..., 0]
        return out

    def _exact(self, source: Source, key: Slices) -> Array:
        return source.exact(key) if isinstance(source, PendingLevel) else source[key]

    def _as_yxs(self, part: Array) -> Array:
        axes = self.source_axes
        order = [axes.index("y"), axes.index("x")]
        if self._band_axis:
            order.append(axes.index(self._band_axis))
        planes = tuple(i for i in range(len(axes)) if i not in order)
        part = part.transpose(*planes, *order)[(0,) * len(planes)]
        return part if self._band_axis else part[..., None]

    def _valid(self, found: Array, bands: tuple[int, ...]) -> Mask:
        """Where the pixels mean something, as alpha, nodata and NaN say."""
        data = found[..., : len(bands)]
        valid = np.ones(found.shape[:2], bool)
        if self.alpha is not None:
            valid &= found[..., -1] > 0
        nodata = [self.bands[band].nodata for band in bands]
        if nodata and all(value is not None for value in nodata):
            valid &= (data != np.array(nodata, np.float64)).any(axis=-1)
        if self.dtype.kind == "f":
            valid &= np.isfinite(data).all(axis=-1)
        return valid

    def _mask(self, level: int, roi: Roi) -> Mask:
        mask = self.masks[level]
        return np.asarray(mask[roi.slices] > 0)

    # contrast

    def estimate_range(self) -> tuple[float, float]:
        """``contrast_limits``, which is looked for once."""
        return self.contrast_limits

    @cached_property
    def contrast_limits(self) -> tuple[float, float]:
        """The values that matter: 0 to 255 for 8 bits, else what the bands state.

        Where they state nothing, the 0.5th and 99.5th percentile of the coarsest
        real level, of which at most nine windows of 256² pixels are read.
        """
        if self.dtype == np.uint8:
            return 0.0, 255.0
        if self.dtype.kind == "b":
            return 0.0, 1.0
        ranges = [band.range for band in self.bands if band.range is not None]
        if len(ranges) == len(self.bands):
            return min(low for low, _ in ranges), max(high for _, high in ranges)
        return self._sampled_range()

    def _sampled_range(self) -> tuple[float, float]:
        level = self._real[-1]
        bands = tuple(range(len(self.bands)))
        values = [np.zeros(0)]
        for roi in _sample_rois(self._size(self.sources[level])):
            try:
                data, valid = self._pixels(level, roi, bands)
            except Exception as error:  # noqa: BLE001  one bad window of nine
                self._report(error)
                continue
            values.append(data[valid].astype(np.float64).ravel())
        every = np.concatenate(values)
        if not every.size:
            return 0.0, 1.0
        low, high = (float(v) for v in np.percentile(every, (0.5, 99.5)))
        return (low, high) if high > low else (low, low + 1.0)

    # small things

    @cached_property
    def _real(self) -> list[int]:
        """Levels that may be read: those of the file."""
        return [
            i
            for i, s in enumerate(self.sources)
            if not isinstance(s, PendingLevel) or s.strips is not None
        ]

    @property
    def _band_axis(self) -> str:
        return next((a for a in "sc" if a in self.source_axes), "")

    @property
    def _samples(self) -> int:
        if not self._band_axis:
            return 1
        return self.sources[0].shape[self.source_axes.index(self._band_axis)]

    def _sample(self, band: int) -> int:
        """Where a band lies among the samples, which alpha is one of."""
        return band + (self.alpha is not None and band >= self.alpha)

    def _size(self, source: Source) -> tuple[int, int]:
        shape = source.shape
        return (
            shape[self.source_axes.index("y")],
            shape[self.source_axes.index("x")],
        )

    def _downsample(self, source: Source) -> float:
        """Whole where rounding of the sizes allows it to be."""
        (height, width), (h, w) = self.shape, self._size(source)
        ratio = math.sqrt(height / h * width / w)
        whole = round(ratio)
        fits = abs(height / whole - h) < 1.01 and abs(width / whole - w) < 1.01
        return float(whole) if fits else ratio

    # other ways to get one

    @classmethod
    def from_array(
        cls,
        array: Any,
        *,
        name: str,
        rgb: bool = False,
        pixel_size: tuple[float, float] | None = None,
        unit: str = "pixel",
        axes: str | None = None,
        nodata: float | None = None,
        is_slide: bool = False,
    ) -> "Image":
        """An image of an array, or of a list of levels, that is already there.

        Parameters
        ----------
        array
            numpy, dask, zarr, …; ``(…, y, x)``, or ``(…, y, x, 3 or 4)`` with rgb.
        axes
            One letter per axis; default: planes come before y and x.
        """
        from napari_uhrseg.io.arrays import image_of_arrays

        levels = list(array) if isinstance(array, list | tuple) else [array]
        image = image_of_arrays(levels, name=name, rgb=rgb, axes=axes, nodata=nodata)
        image.pixel_size, image.unit = pixel_size, unit
        image.is_slide = is_slide
        return image

    @classmethod
    def from_layer(cls, layer: Any) -> "Image":
        """The image of a napari image layer, whoever made that layer."""
        from napari_uhrseg.io.arrays import image_of_layer

        return image_of_layer(layer)


def _band_names(count: int, colours: int) -> list[str]:
    if count == 1:
        return ["value"]
    names = ["red", "green", "blue"][:colours]
    return names + [f"band {i + 1}" for i in range(len(names), count)]


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


def open_image(path: str | Path, *, series: int | None = None) -> Image:
    """Open an image file of any supported format, without reading it.

    One tile is decoded to see that the file can be read.

    Parameters
    ----------
    path
        A file, or the folder of an OME-Zarr or DICOM image.
    series
        Which image, where the file holds several (default the largest).

    Raises
    ------
    OpenError
        With what is wrong and what can be done about it.
    """
    from napari_uhrseg.io.readers import read_any

    try:
        return read_any(Path(path).expanduser(), series)
    except MemoryError as error:
        raise OpenError(
            f"{path} needs more memory than there is.",
            "Close other programs, or convert the image to a tiled format.",
        ) from error
