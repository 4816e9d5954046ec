"""Image of any size, with lazy levels for display and exact reading of rectangles."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from napari_uhrseg.io.image.chunk_cache import wrapped
from napari_uhrseg.io.image.display_array import DisplayArray, shown_samples
from napari_uhrseg.io.image.geometry import (
    Affine,
    is_real,
    metres,
    missing_levels,
    scale_of,
)
from napari_uhrseg.io.image.level_source import LevelSource
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.image.pixel_reader import (
    Band,
    PixelReader,
    Pixels,
    band_axis,
    band_names,
    check_extent,
    sampled_percentiles,
    stated_range,
)
from napari_uhrseg.io.image.resample import ResampleAxis
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import Limits, Roi

__all__ = ["Affine", "Band", "Image", "Pixels"]

SAMPLED = (0.5, 99.5)  # percentiles displayed as black and white without a stated range


@dataclass(eq=False, kw_only=True)
class Image:
    """Opened image that loads its pixels on request.

    Parameters
    ----------
    name
        Name in the window and in messages.
    sources
        Levels with equal axes, finest first. The cache wraps them, and a
        `PendingLevel` is added for each missing coarser level.
    source_axes
        One letter per axis of the sources: ``y``, ``x``, ``s`` (samples) or ``c``
        (channels) for the bands, any other letter for planes (``z``, ``t``).
    path
        File, folder or URL of the image; None for an array.
    fingerprint
        Hash of the content, which identifies the image.
    bands
        Bands without alpha; empty for bands with default names.
    rgb_bands
        Indices of the red, green and blue band; empty if it is not a colour image.
    alpha
        Index of the sample that is opacity and not a band.
    value_range
        Lowest and highest value that the file can contain; default: by the bands.
    masks
        One mask (y, x) per level, which is 0 at invalid pixels.
    is_slide
        True for a slide with a bright background.
    pixel_size
        (height, width) of a level-0 pixel in ``unit``; None if it is not known.
    unit
        ``micrometer``, ``metre``, ``degree`` or ``pixel``.
    crs
        Coordinate reference system as WKT.
    affine
        Transform from pixels to the CRS, in rasterio's order a, b, c, d, e, f.
    colormap
        RGBA colour (0 to 255) of each value of a palette image.
    indices
        Level 0 (y, x) of a palette image as indices into ``colormap``; None for other
        images.
    plane
        Index along each axis other than y, x and the bands; default: z in the
        middle, others 0.
    warnings
        Messages for the user about the file.
    series, series_number
        Names of the images in the file, and the index of this image.
    parallel
        True if several threads may decode at once.
    fill
        True if missing coarser levels are added.
    on_read_error
        Function that receives a message after the first error of decoding.
    limits
        Its ``read_pixels`` bound the memory of resampling.
    """

    name: str
    sources: Sequence[LevelSource]
    source_axes: str
    path: PathOrUrl | None = None
    fingerprint: str = ""
    bands: tuple[Band, ...] = ()
    rgb_bands: tuple[int, ...] = ()
    alpha: int | None = None
    value_range: tuple[float, float] | None = None
    masks: Sequence[LevelSource] = ()
    is_slide: bool = False
    pixel_size: tuple[float, float] | None = None
    unit: str = "pixel"
    crs: str | None = None
    affine: Affine | None = None
    colormap: dict[int, tuple[int, int, int, int]] | None = None
    indices: LevelSource | None = None
    plane: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    series_number: int = 0
    parallel: bool = True
    fill: bool = True
    on_read_error: Callable[[str], None] | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.sources = tuple(wrapped(s, self.parallel) for s in self.sources)
        self.masks = tuple(wrapped(s, self.parallel) for s in self.masks)
        if self.indices is not None:
            self.indices = wrapped(self.indices, self.parallel)
        axes, shape = self.source_axes, self.sources[0].shape
        if not {"y", "x"} <= set(axes) or len(shape) != len(axes):
            raise ValueError(f"axes {axes!r} do not fit the shape {shape}")
        check_extent(self.name, axes, shape)
        if not self.bands:
            count = self._samples - (self.alpha is not None)
            names = band_names(count, len(self.rgb_bands))
            self.bands = tuple(Band(n) for n in names)
        if self.fill:
            every = {band.nodata for band in self.bands}
            nodata = every.pop() if len(every) == 1 else None
            coarser = missing_levels(self.sources[-1], self.source_axes, nodata)
            self.sources = (*self.sources, *coarser)
        first = {k: n // 2 if k == "z" else 0 for k, n in self.planes.items()}
        self.plane = first | self.plane
        self._failed = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        return self.sources[0].dtype

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of level 0 in pixels."""
        return self._size(self.sources[0])

    @property
    def rgb(self) -> bool:
        """True for a colour image."""
        return bool(self.rgb_bands)

    @property
    def opaque(self) -> bool:
        """True if all pixels are valid: no alpha, mask, nodata or NaN."""
        return not (
            self.masks
            or self.alpha is not None
            or self.dtype.kind == "f"
            or any(band.nodata is not None for band in self.bands)
        )

    @property
    def planes(self) -> dict[str, int]:
        """Sizes of the axes other than y, x and the bands."""
        axes = zip(self.source_axes, self.sources[0].shape, strict=True)
        return {a: n for a, n in axes if a not in ("y", "x", self._band_axis)}

    @cached_property
    def downsamples(self) -> tuple[float, ...]:
        """Level-0 pixels per pixel of each level.

        The value is the geometric mean of the scales down and across.
        """
        return tuple(math.sqrt(down * across) for down, across in self._scales)

    @cached_property
    def _scales(self) -> list[tuple[float, float]]:
        """Level-0 pixels per pixel of each level, down and across."""
        return [scale_of(self.shape, self._size(s)) for s in self.sources]

    @property
    def meters_per_pixel(self) -> float | None:
        """Side of a level-0 pixel on the ground in metres (geometric mean)."""
        if self.pixel_size is None:
            return None
        return metres(self.pixel_size, self.unit, self.shape, self.affine, self.crs)

    def with_plane(self, **plane: int) -> Self:
        """Return the image at another plane, as in ``image.with_plane(z=3)``.

        Raises
        ------
        ValueError
            If there is no such plane.
        """
        for axis, index in plane.items():
            if not 0 <= index < self.planes.get(axis, 0):
                raise ValueError(f"no plane {axis}={index}: there are {self.planes}")
        other = replace(self, plane={**self.plane, **plane})
        for name in ("levels", "contrast_limits"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    # display

    @property
    def axes(self) -> str:
        """Axes of ``levels``: planes, then ``yxs`` of a colour image, else ``cyx``.

        An axis of channels keeps its position in the file. Samples with a single band
        have no axis ``c``.
        """
        planes = "".join(self.planes)
        if self.rgb:
            return planes + "yxs"
        if self._band_axis == "s":
            return planes + ("cyx" if len(self.bands) > 1 else "yx")
        return self.source_axes

    @property
    def missing_levels(self) -> bool:
        """True if a level is not complete (see `pyramid_builder.fill_levels`)."""
        pending = (s for s in self.sources if isinstance(s, PendingLevel))
        return any(not level.complete for level in pending)

    @property
    def needs_tiling(self) -> bool:
        """True if level 0 is a large untiled file that is not converted yet."""
        first = self.sources[0]
        return isinstance(first, PendingLevel) and not first.complete

    @cached_property
    def levels(self) -> tuple[Any, ...]:
        """Arrays for napari, finest first, which are dask arrays.

        Pending levels are grey and change during filling, so napari must not cache
        their pixels: the layer needs ``cache=False``. napari always keeps the
        coarsest level, so a pending coarsest level is a numpy array.
        """
        self.fill_pending()
        last = len(self.sources) - 1
        return tuple(self._shown(s, i == last) for i, s in enumerate(self.sources))

    def fill_pending(self) -> None:
        """Set the grey of levels that are not filled yet."""
        pending = [s for s in self.sources if isinstance(s, PendingLevel)]
        if pending:
            grey = 128 if self.dtype == np.uint8 else sum(self.contrast_limits) / 2
            for source in pending:
                source.set_fill_value(grey)

    def _shown(self, source: LevelSource, last: bool) -> Any:
        count = len(self.bands)
        shown = DisplayArray(
            source,
            self.source_axes,
            self.axes,
            samples=shown_samples(self._band_axis, self.rgb_bands, count, self.alpha),
            limits=self.contrast_limits if self.rgb else None,
            on_error=self.report_read_error,
        )
        array = shown.in_memory() if last else None
        return shown.to_dask() if array is None else array

    def report_read_error(self, error: Exception) -> None:
        """Report the first error of decoding to `on_read_error`."""
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
        """Read a rectangle, resampled to a size.

        The source is the coarsest level of the file that is fine enough. At its scale,
        pixels are unchanged. Otherwise they are averaged by area or interpolated
        linearly. The result is deterministic, and the method is thread-safe. Memory:
        the result, the chunk cache, and 16 million source pixels if resampled.

        Parameters
        ----------
        roi
            Rectangle in level-0 pixels; pixels outside the image are 0 and invalid.
        size
            Height and width of the result in pixels; default: those of the rectangle.
        bands
            Indices into ``bands``; default: all.

        Returns
        -------
        Pixels
            Values of the chosen bands, and their validity.

        Raises
        ------
        ReadError
            If pixels cannot be decoded.
        """
        size = (roi.height, roi.width) if size is None else size
        chosen = tuple(range(len(self.bands))) if bands is None else tuple(bands)
        if min(*size, roi.height, roi.width) < 1:
            empty = np.zeros((*size, len(chosen)), self.dtype)
            return Pixels(empty, np.zeros(size, bool))
        most = roi.height / size[0] + 1e-3, roi.width / size[1] + 1e-3
        scales = ((i, *self._scales[i]) for i in self._real)
        level = max((i for i, y, x in scales if y < most[0] and x < most[1]), default=0)
        down, across = self._scales[level]
        rows = ResampleAxis(roi.y / down, roi.height / down / size[0], 0, size[0])
        columns = ResampleAxis(roi.x / across, roi.width / across / size[1], 0, size[1])
        most_pixels = self.limits.read_pixels
        return self._reader.resampled(level, rows, columns, chosen, most_pixels)

    # contrast

    def estimate_range(self, bands: Sequence[int] | None = None) -> tuple[float, float]:
        """Return `contrast_limits`, or the same of some bands."""
        if bands is None or set(bands) >= set(range(len(self.bands))):
            return self.contrast_limits
        return self._range(sorted(set(bands)))

    def estimate_each(self, bands: Sequence[int]) -> tuple[float, ...]:
        """Return the 0.5th and 99.5th percentile of a sample of each band's pixels."""
        reader, level = self._reader, self._real[-1]
        known = {b: sampled_percentiles(reader, level, [b], SAMPLED) for b in bands}
        return tuple(value for band in bands for value in known[band])

    def percentiles(self, band: int, at: tuple[float, float]) -> tuple[float, float]:
        """Return two percentiles of the valid pixels of a band, from a coarse level."""
        reader, level = self._reader, self._coarsest_exact
        return sampled_percentiles(reader, level, [band], at, windows=4)

    @cached_property
    def contrast_limits(self) -> tuple[float, float]:
        """Values displayed as black and white: 0 and 255 for uint8, else by the bands.

        If the bands state no range, they are the 0.5th and 99.5th percentile of at
        most nine windows of 256² pixels of the coarsest level of the file.
        """
        return self._range(range(len(self.bands)))

    def _range(self, bands: Sequence[int]) -> tuple[float, float]:
        own = [self.bands[band] for band in bands]
        if stated := self.value_range or stated_range(self.dtype, own):
            return stated
        return sampled_percentiles(self._reader, self._real[-1], bands, SAMPLED)

    @cached_property
    def _real(self) -> list[int]:
        """Indices of the levels of the file, without the levels made of them."""
        return [i for i, source in enumerate(self.sources) if is_real(source)]

    @property
    def _coarsest_exact(self) -> int:
        """Index of the coarsest level that is complete, with its mask if any."""
        last = len(self.sources) - 1
        source = self.sources[last]
        complete = isinstance(source, PendingLevel) and source.complete
        return last if complete and not self.masks else self._real[-1]

    @cached_property
    def _reader(self) -> PixelReader:
        return PixelReader(
            self.sources, self.source_axes, plane=self.plane, masks=self.masks,
            alpha=self.alpha, nodata=[band.nodata for band in self.bands],
        )  # fmt: skip

    @property
    def _band_axis(self) -> str:
        return band_axis(self.source_axes)

    @property
    def _samples(self) -> int:
        axis, shape = self._band_axis, self.sources[0].shape
        return shape[self.source_axes.index(axis)] if axis else 1

    def _size(self, source: LevelSource) -> tuple[int, int]:
        y, x = self.source_axes.index("y"), self.source_axes.index("x")
        return source.shape[y], source.shape[x]
