"""Picture of an image: its bands in the colours red, green and blue, and contrast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from napari_uhrseg.io.image.band_colors import true_color
from napari_uhrseg.io.image.display_array import DisplayArray
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import Array, LevelSource, OnError, Slices
from napari_uhrseg.io.image.nodata import differs_from_nodata
from napari_uhrseg.io.image.pixel_reader import sample_of

ContrastLimits = tuple[float, float]
Stretch = Literal["percentiles", "full", "custom"]
PERCENTILES = (2.0, 98.0)


@dataclass(frozen=True, slots=True)
class Picture:
    """Way in which an image is displayed.

    Parameters
    ----------
    bands
        Indices of the bands displayed as red, green and blue in one layer; empty for
        one layer for each band.
    stretch
        ``percentiles``: from the 2nd to the 98th percentile of each band. ``full``:
        the range of the data type, or of the values. ``custom``: ``limits``.
    limits
        Values displayed as black and white, for each displayed band.
    """

    bands: tuple[int, ...] = ()
    stretch: Stretch = "percentiles"
    limits: tuple[ContrastLimits, ...] = ()

    def fits(self, image: Image) -> bool:
        """Return whether the image has these bands, and limits for each of them."""
        count = len(self.bands) or len(image.bands)
        inside = all(0 <= band < len(image.bands) for band in self.bands)
        limited = self.stretch != "custom" or len(self.limits) == count
        rising = all(low < high for low, high in self.limits)
        return inside and len(self.bands) in (0, 3) and limited and rising

    def shown_bands(self, image: Image) -> tuple[int, ...]:
        """Return the indices of the displayed bands."""
        return self.bands or tuple(range(len(image.bands)))


def default_picture(image: Image) -> Picture:
    """Return the picture of an image that the user has not changed.

    Colour images, and rasters of at least three bands, are displayed as red, green and
    blue: by their names, colour interpretation or wavelengths if these are known, else
    the first three bands. Other images, such as fluorescence images, have one layer
    for each band. Colour images of 8 bits, and a single band of 8 bits, are displayed
    unchanged.
    """
    bands: tuple[int, ...] = ()
    if image.rgb:
        bands = image.rgb_bands
    elif _is_composite(image):
        bands = true_color(image.bands) or (0, 1, 2)
    eight_bits = image.dtype == np.uint8 and (image.rgb or len(image.bands) == 1)
    unchanged = eight_bits or image.dtype.kind == "b" or image.value_range is not None
    return Picture(bands, "full" if unchanged else "percentiles")


def _is_composite(image: Image) -> bool:
    if len(image.bands) < 3:
        return False
    if image.crs is not None or image.affine is not None:
        return True
    if image.unit == "micrometer":
        return False
    return "s" in image.source_axes or true_color(image.bands) is not None


def quick_limits(image: Image, picture: Picture) -> tuple[ContrastLimits, ...]:
    """Return the limits of each displayed band that are known without reading."""
    if picture.stretch == "custom":
        return picture.limits
    return tuple(_quick(image, picture, i) for i in picture.shown_bands(image))


def measured_limits(image: Image, picture: Picture) -> tuple[ContrastLimits, ...]:
    """Return the limits of each displayed band, from a bounded sample of its pixels."""
    if picture.stretch == "custom":
        return picture.limits
    return tuple(_measured(image, picture, i) for i in picture.shown_bands(image))


def needs_measuring(image: Image, picture: Picture) -> bool:
    """Return whether `measured_limits` may differ from `quick_limits`."""
    if picture.stretch == "custom":
        return False
    if picture.stretch == "full":
        return _type_range(image) is None
    return not all(_states_display(image, i) for i in picture.shown_bands(image))


def value_bounds(image: Image, band: int) -> ContrastLimits:
    """Return the range of a band's data type; for wide types, that of a sample."""
    return _type_range(image) or image.percentiles(band, (0.0, 100.0))


def _measured(image: Image, picture: Picture, band: int) -> ContrastLimits:
    if picture.stretch == "full":
        return value_bounds(image, band)
    if _states_display(image, band):
        return image.bands[band].range or (0.0, 1.0)
    return image.percentiles(band, PERCENTILES)


def _quick(image: Image, picture: Picture, band: int) -> ContrastLimits:
    if _states_display(image, band) and picture.stretch == "percentiles":
        return image.bands[band].range or (0.0, 1.0)
    return _type_range(image) or image.bands[band].range or (0.0, 1.0)


def _states_display(image: Image, band: int) -> bool:
    """Return whether the range of a band is made for display, as in OME-Zarr.

    The range of a raster is that of its values.
    """
    raster = image.crs is not None or image.affine is not None
    return image.bands[band].range is not None and not raster


def _type_range(image: Image) -> ContrastLimits | None:
    """Return the range of the values by the file or by a type of at most 16 bits."""
    if image.value_range is not None:
        return image.value_range
    if image.dtype.kind == "b":
        return 0.0, 1.0
    if image.dtype.kind in "iu" and image.dtype.itemsize <= 2:
        info = np.iinfo(image.dtype)
        return float(info.min), float(info.max)
    return None


def composite_levels(
    image: Image, bands: Sequence[int], limits: Sequence[ContrastLimits]
) -> tuple[Any, ...]:
    """Return three bands as uint8 colours for napari, computed chunk by chunk.

    Invalid pixels (nodata in all three bands, NaN, alpha, mask) are transparent.

    Parameters
    ----------
    image
        The image.
    bands
        Indices of the bands displayed as red, green and blue.
    limits
        Values of each of these bands displayed as 0 and 255.

    Returns
    -------
    Dask arrays (planes, y, x, 3), finest first; with 4 samples if pixels may be
    invalid. An 8-bit colour image with the limits 0 and 255 has its own levels.
    """
    plain = image.dtype == np.uint8 and all(tuple(x) == (0, 255) for x in limits)
    if image.rgb and plain and tuple(bands) == image.rgb_bands:
        return image.levels
    image.fill_pending()
    axes = "".join(image.planes) + "yxs"
    colors = _Colors(image, tuple(bands), tuple(limits))
    masks = [*image.masks, *[None] * len(image.sources)]
    return tuple(
        CompositeArray(source, image.source_axes, axes, colors, mask).to_dask()
        for source, mask in zip(image.sources, masks, strict=False)
    )


def band_levels(image: Image, band: int) -> tuple[Any, ...]:
    """Return one band of a colour image for napari: dask arrays (planes, y, x)."""
    image.fill_pending()
    axes = "".join(image.planes) + "yx"
    samples, on_error = [sample_of(band, image.alpha)], image.report_read_error
    return tuple(
        DisplayArray(
            source, image.source_axes, axes, samples=samples, on_error=on_error
        ).to_dask()
        for source in image.sources
    )


class _Colors:
    """Conversion of the samples of three bands to uint8 colours."""

    def __init__(
        self, image: Image, bands: tuple[int, ...], limits: tuple[ContrastLimits, ...]
    ) -> None:
        self.samples = [sample_of(band, image.alpha) for band in bands]
        if image.alpha is not None:
            self.samples.append(image.alpha)
        self.nodata = [image.bands[band].nodata for band in bands]
        self.limits = limits
        self.tables: list[Array] = []  # 8-bit value of each value of a short type
        if image.dtype.kind == "u" and image.dtype.itemsize <= 2:
            every = np.arange(np.iinfo(image.dtype).max + 1)
            self.tables = [_bytes(every, pair) for pair in limits]
        self.transparent = not image.opaque
        self.has_alpha = image.alpha is not None
        self.on_error: OnError = image.report_read_error

    def convert(self, raw: Array, mask: Array | None) -> Array:
        """Return colours (…, 3 or 4) of samples; ``mask`` is 0 at invalid pixels."""
        data = raw[..., :3]
        colors = np.empty(data.shape, np.uint8)
        for i, limits in enumerate(self.limits):
            values, table = data[..., i], self.tables[i] if self.tables else None
            colors[..., i] = _bytes(values, limits) if table is None else table[values]
        if not self.transparent:
            return colors
        valid = np.ones(raw.shape[:-1], bool)
        if self.has_alpha:
            valid &= raw[..., 3] > 0
        if all(value is not None for value in self.nodata):
            different = [
                differs_from_nodata(data[..., i], value)
                for i, value in enumerate(self.nodata)
            ]
            valid &= np.any(different, axis=0)
        if data.dtype.kind == "f":
            valid &= np.isfinite(data).all(axis=-1)
        if mask is not None:
            valid &= mask > 0
        colors[~valid] = 0
        alpha = np.where(valid, np.uint8(255), np.uint8(0))
        return np.concatenate([colors, alpha[..., None]], axis=-1)


def _bytes(values: Array, limits: ContrastLimits) -> Array:
    """Return values as uint8: the limits become 0 and 255, NaN becomes 0."""
    low, high = limits
    scaled = (values - low) * (255 / (high - low))
    rounded = np.rint(np.clip(np.nan_to_num(scaled), 0, 255))
    return rounded.astype(np.uint8)


class CompositeArray(DisplayArray):
    """Three bands of one level as uint8 colours (…, y, x, 3 or 4).

    Parameters
    ----------
    source
        Source of the level.
    source_axes
        One letter per axis of the source.
    axes
        One letter per axis of this array: planes, then ``yxs``.
    colors
        Conversion of the samples to colours.
    mask
        Mask (y, x) of the level, which is 0 at invalid pixels; None without one.
    """

    def __init__(
        self,
        source: LevelSource,
        source_axes: str,
        axes: str,
        colors: _Colors,
        mask: LevelSource | None,
    ) -> None:
        super().__init__(
            source, source_axes, axes, samples=colors.samples, on_error=colors.on_error
        )
        self._colors, self._mask = colors, mask
        count = 4 if colors.transparent else 3
        self.shape = (*self.shape[:-1], count)
        self.chunks = (*self.chunks[:-1], count)
        self.dtype = np.dtype(np.uint8)

    def _read(self, key: Slices) -> Array:
        raw = super()._read((*key[:-1], slice(0, len(self._colors.samples))))
        mask = None if self._mask is None else np.asarray(self._mask[key[-3:-1]])
        colors: Array = self._colors.convert(raw, mask)[..., key[-1]]
        return colors
