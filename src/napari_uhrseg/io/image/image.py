"""An image of any size: lazy levels for showing, and exact reading by rectangle."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from napari_uhrseg.io.image.chunk_cache import LevelSource, PendingLevel, wrapped
from napari_uhrseg.io.image.display_array import DisplayArray
from napari_uhrseg.io.image.geometry import (
    Affine,
    is_real,
    metres,
    missing_levels,
    scale_of,
)
from napari_uhrseg.io.image.pixel_reader import (
    Band,
    PixelReader,
    Pixels,
    band_axis,
    band_names,
    sample_of,
    sampled_range,
    stated_range,
)
from napari_uhrseg.io.image.resample import ResampleAxis
from napari_uhrseg.io.paths import Address
from napari_uhrseg.types import Roi

__all__ = ["Affine", "Band", "Image", "Pixels"]


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
    series, series_number
        Names of the images in the file, and which of them this is.
    parallel
        Whether several threads may decode at once.
    fill
        Whether missing coarser levels are to be made.
    on_read_error
        Called once with a message when something shown cannot be decoded.
    """

    name: str
    sources: Sequence[LevelSource]
    source_axes: str
    path: Address | None = None
    fingerprint: str = ""
    bands: tuple[Band, ...] = ()
    rgb_bands: tuple[int, ...] = ()
    alpha: int | None = None
    masks: Sequence[LevelSource] = ()
    is_slide: bool = False
    pixel_size: tuple[float, float] | None = None
    unit: str = "pixel"
    crs: str | None = None
    affine: Affine | None = None
    colormap: dict[int, tuple[int, int, int, int]] | None = None
    plane: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    series_number: int = 0
    parallel: bool = True
    fill: bool = True
    on_read_error: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        self.sources = tuple(wrapped(s, self.parallel) for s in self.sources)
        self.masks = tuple(wrapped(s, self.parallel) for s in self.masks)
        axes, shape = self.source_axes, self.sources[0].shape
        if not {"y", "x"} <= set(axes) or len(shape) != len(axes):
            raise ValueError(f"axes {axes!r} do not fit the shape {shape}")
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
    def opaque(self) -> bool:
        """Whether every pixel means something: no alpha, mask, nodata or NaN."""
        return not (
            self.masks
            or self.alpha is not None
            or self.dtype.kind == "f"
            or any(band.nodata is not None for band in self.bands)
        )

    @property
    def planes(self) -> dict[str, int]:
        """Axes beside y, x and the bands, with their sizes."""
        axes = zip(self.source_axes, self.sources[0].shape, strict=True)
        return {a: n for a, n in axes if a not in ("y", "x", self._band_axis)}

    @cached_property
    def downsamples(self) -> tuple[float, ...]:
        """How many level-0 pixels a pixel of each of ``levels`` covers a side.

        The geometric mean of both sides, where a level shrank more along one.
        """
        return tuple(math.sqrt(down * across) for down, across in self._scales)

    @cached_property
    def _scales(self) -> list[tuple[float, float]]:
        """The same down and across."""
        return [scale_of(self.shape, self._size(s)) for s in self.sources]

    @property
    def meters_per_pixel(self) -> float | None:
        """Ground covered by a pixel, geometric mean of both sides, in metres."""
        if self.pixel_size is None:
            return None
        return metres(self.pixel_size, self.unit, self.shape, self.affine)

    def with_plane(self, **plane: int) -> Self:
        """The same image, read at another plane: ``image.with_plane(z=3)``."""
        for axis, index in plane.items():
            if not 0 <= index < self.planes.get(axis, 0):
                raise ValueError(f"no plane {axis}={index}: there are {self.planes}")
        other = replace(self, plane={**self.plane, **plane})
        for name in ("levels", "contrast_limits"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    # what is shown

    @property
    def axes(self) -> str:
        """Axes of ``levels``: planes, then ``yxs`` of a colour image, else ``cyx``.

        Channels that lie elsewhere in the file stay there; ``c`` is missing where
        there is one band only.
        """
        planes = "".join(self.planes)
        if self.rgb:
            return planes + "yxs"
        if self._band_axis == "s":
            return planes + ("cyx" if len(self.bands) > 1 else "yx")
        return self.source_axes

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
                source.set_fill_value(grey)
        last = len(self.sources) - 1
        return tuple(self._shown(s, i == last) for i, s in enumerate(self.sources))

    def _shown(self, source: LevelSource, last: bool) -> Any:
        shown = DisplayArray(
            source,
            self.source_axes,
            self.axes,
            samples=self._shown_samples(),
            limits=self.contrast_limits if self.rgb else None,
            on_error=self._report,
        )
        array = shown.in_memory() if last else None
        return shown.to_dask() if array is None else array

    def _shown_samples(self) -> list[int] | None:
        """Samples to show in their order; None where that is the source as it is."""
        if not self.rgb:
            if self._band_axis != "s":
                return None
            return [sample_of(i, self.alpha) for i in range(len(self.bands))]
        samples = [sample_of(band, self.alpha) for band in self.rgb_bands]
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
        most = roi.height / size[0] + 1e-3, roi.width / size[1] + 1e-3
        fine = (i for i in self._real if np.less(self._scales[i], most).all())
        level = max(fine, default=0)
        down, across = self._scales[level]
        rows = ResampleAxis(roi.y / down, roi.height / down / size[0], 0, size[0])
        columns = ResampleAxis(roi.x / across, roi.width / across / size[1], 0, size[1])
        return self._reader.resampled(level, rows, columns, chosen)

    # contrast

    def estimate_range(self) -> tuple[float, float]:
        return self.contrast_limits

    @cached_property
    def contrast_limits(self) -> tuple[float, float]:
        """The values that matter: 0 to 255 for 8 bits, else what the bands state.

        Where they state nothing, the 0.5th and 99.5th percentile of the coarsest
        real level, of which at most nine windows of 256² pixels are read.
        """
        stated = stated_range(self.dtype, self.bands)
        return stated or sampled_range(self._reader, self._real[-1], len(self.bands))

    @cached_property
    def _real(self) -> list[int]:
        """Levels that may be read: those of the file, not what was made of them."""
        return [i for i, source in enumerate(self.sources) if is_real(source)]

    @cached_property
    def _reader(self) -> PixelReader:
        return PixelReader(
            self.sources,
            self.source_axes,
            plane=self.plane,
            masks=self.masks,
            alpha=self.alpha,
            nodata=[band.nodata for band in self.bands],
        )

    @property
    def _band_axis(self) -> str:
        return band_axis(self.source_axes)

    @property
    def _samples(self) -> int:
        if not self._band_axis:
            return 1
        return self.sources[0].shape[self.source_axes.index(self._band_axis)]

    def _size(self, source: LevelSource) -> tuple[int, int]:
        shape = source.shape
        return (
            shape[self.source_axes.index("y")],
            shape[self.source_axes.index("x")],
        )
