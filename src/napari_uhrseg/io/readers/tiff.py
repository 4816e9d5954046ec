"""Reader of TIFF files by tifffile: SVS, NDPI, QPTIFF, OME-TIFF, ImageJ and others."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image import pixel_transforms
from napari_uhrseg.io.image.chunk_cache import (
    Array,
    CachedSource,
    LevelSource,
    PendingLevel,
)
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import Address
from napari_uhrseg.io.readers import (
    NOT_TILED,
    UNTILED_PIXELS,
    fingerprint_file,
    register_reader,
)
from napari_uhrseg.io.readers.tiff_metadata import band_names, pixel_size
from napari_uhrseg.io.readers.tiff_tiles import (
    MappedFile,
    PagesSource,
    RangeReader,
    for_tifffile,
)

SLIDES = (".svs", ".ndpi", ".qptiff", ".scn", ".bif")
RGB, PALETTE, SEPARATED, YCBCR, MINISWHITE = 2, 3, 5, 6, 0


@register_reader(".tif", ".tiff", ".btf", ".tf8", ".tf2", ".stk", ".lsm", *SLIDES,
        title="TIFF", priority=lambda _: 2.0, urls=True)  # fmt: skip
def open_tiff(path: Address, series: int | None = None) -> Image:
    """Open an image of a TIFF file: series number ``series``, else the largest.

    Raises
    ------
    OpenError
        If tifffile cannot read the file, or if it has no such series.
    """
    import tifffile

    try:
        tif = tifffile.TiffFile(for_tifffile(path))
        every = list(tif.series)
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError) as error:
        raise _not_tiff(path, error) from error
    if not every:
        raise OpenError(
            f"{path.name} holds no image.", "The file may be incomplete: copy it again."
        )
    number = _largest(every) if series is None else series
    if not 0 <= number < len(every):
        raise OpenError(
            f"{path.name} has no image number {number}.",
            f"It has {len(every)}, counted from 0.",
        )
    return _Opened(path, tif, every, number).image()


def _not_tiff(path: Address, error: Exception) -> OpenError:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] not in (b"II", b"MM", b"EP"):
        return OpenError(
            f"{path.name} is not a TIFF file: it begins with {start!r}.",
            "Its name may be wrong, or the copy damaged: get it again.",
        )
    return OpenError(
        f"{path.name} is a damaged TIFF file: {error}.", "Copy or export it again."
    )


def _largest(series: list[Any]) -> int:
    def area(one: Any) -> int:
        sizes = dict(zip(one.axes, one.shape, strict=True))
        return int(sizes.get("Y", 0) * sizes.get("X", 0))

    return max(range(len(series)), key=lambda i: area(series[i]))


Convert = Callable[[LevelSource], LevelSource]


@dataclass(frozen=True, slots=True)
class _Colours:
    """Conversion of the samples of a file into the bands of an image.

    Attributes
    ----------
    convert
        Transform of each level.
    axes
        Axes of the converted levels.
    bands
        Number of bands, without alpha.
    rgb_bands
        Indices of red, green and blue; empty if the image is not a colour image.
    alpha
        Sample that is opacity, if any.
    table
        RGBA colour of each value of a palette image.
    """

    convert: Convert
    axes: str
    bands: int
    rgb_bands: tuple[int, ...]
    alpha: int | None = None
    table: dict[int, tuple[int, int, int, int]] | None = None


class _Opened:
    """Builder of the image of one series of an open TIFF file."""

    def __init__(self, path: Address, tif: Any, every: list[Any], number: int) -> None:
        self.path, self.tif, self.number = path, tif, number
        self.every, self.series = every, every[number]
        self.key = self.series.keyframe
        self.axes = self.series.axes.lower()
        self.file = RangeReader(path)
        self.warnings: list[str] = []
        if not {"y", "x"} <= set(self.axes) or not self.series.size:
            raise OpenError(
                f"{path.name} holds no two-dimensional image (axes {self.axes}).",
                "Choose another file.",
            )

    def image(self) -> Image:
        raw = [self._source(level) for level in self._levels()]
        masks: list[LevelSource | None] = [
            s.missing_tiles() if isinstance(s, PagesSource) else None for s in raw
        ]
        self._look_for_end(raw)
        colours = self._colours()
        axes = colours.axes
        levels = [colours.convert(source) for source in raw]
        indices = None if colours.table is None else raw[0]
        orientation = int(self.key.tags.valueof(274, 1) or 1)
        if 2 <= orientation <= 8 and not self._is_slide_file():
            levels = [pixel_transforms.Reoriented(s, axes, orientation) for s in levels]
            masks = [
                m and pixel_transforms.Reoriented(m, "yx", orientation) for m in masks
            ]
            if indices is not None:
                indices = pixel_transforms.Reoriented(indices, "yx", orientation)
        size, unit = pixel_size(self.tif, self.key, self.number)
        if size is not None and orientation in (5, 6, 7, 8):
            size = (size[1], size[0])
        levels[0] = self._tiled(levels[0], raw[0], axes)
        if isinstance(levels[0], PendingLevel):  # filled with its coarser levels
            levels, masks = levels[:1], masks[:1]
        image = Image(
            name=self._name(),
            path=self.path,
            fingerprint=self._fingerprint(),
            sources=levels,
            source_axes=axes,
            bands=band_names(self.tif, self.number, colours.bands),
            rgb_bands=colours.rgb_bands,
            alpha=colours.alpha,
            masks=self._masks(masks, levels, axes),
            colormap=colours.table,
            indices=indices,
            pixel_size=size,
            unit=unit,
            is_slide=bool(colours.rgb_bands) and unit == "micrometer",
            warnings=tuple(self.warnings),
            series=tuple(s.name or f"image {i}" for i, s in enumerate(self.every)),
            series_number=self.number,
        )
        if self.tif.is_ome and self.series.kind != "ome":
            image.warnings += (
                "The OME-XML of this file is wrong; it was opened as a plain TIFF.",
            )
        return image

    def _levels(self) -> list[Any]:
        """Return the levels that decrease in size and otherwise match the first."""
        found: list[Any] = []
        y = self.series.axes.index("Y")
        for level in self.series.levels:
            fits = level.axes == self.series.axes and level.dtype == self.series.dtype
            if not found or (fits and level.shape[y] < found[-1].shape[y]):
                found.append(level)
        return found

    def _source(self, level: Any) -> LevelSource:
        """Return a level as the fastest source that reads windows."""
        key = level.keyframe
        path, offset = self.path, level.dataoffset
        if isinstance(path, Path) and offset is not None and key.is_memmappable:
            dtype = np.dtype(f"{self.tif.byteorder}{level.dtype.char}")
            with contextlib.suppress(ValueError, OSError):  # the file is truncated
                return MappedFile(path, offset, level.shape, dtype, self.axes)
        own = len(key.shape)
        with contextlib.suppress(ValueError):
            pages = list(level.pages)
            source = PagesSource(
                pages, level.shape[: len(level.shape) - own], key, self.file
            )
            if source.shape == tuple(level.shape):
                return source
        return _any_source(level)

    def _colours(self) -> "_Colours":
        """Return how the samples become the bands of the image."""
        axes, photometric = self.axes, int(self.key.photometric)
        sizes = dict(zip(axes, self.series.shape, strict=True))
        samples, has_alpha = sizes.get("s", 0), self._has_alpha()
        table = self._palette()
        if table is not None:
            convert = partial(pixel_transforms.palette, table=table)
            known = {i: (r, g, b, 255) for i, (r, g, b) in enumerate(table.tolist())}
            return _Colours(convert, "yxs", 3, (0, 1, 2), table=known)
        if photometric == SEPARATED and samples >= 4 and axes.endswith("yxs"):
            return self._inks(samples > 4 and has_alpha)
        plain: Convert = _unchanged
        if photometric == MINISWHITE and self.series.dtype.kind in "ub":
            plain = pixel_transforms.inverted
        if samples >= 3 and photometric in (RGB, YCBCR):
            alpha = 3 if samples > 3 and has_alpha else None
            return _Colours(
                plain, axes, samples - (alpha is not None), (0, 1, 2), alpha
            )
        alpha = samples - 1 if samples == 2 and has_alpha else None
        bands = samples or sizes.get("c", 1)
        return _Colours(plain, axes, bands - (alpha is not None), (), alpha)

    def _inks(self, with_alpha: bool) -> "_Colours":
        """Return the conversion of CMYK to RGB."""
        convert = partial(pixel_transforms.cmyk, alpha=with_alpha)
        return _Colours(convert, self.axes, 3, (0, 1, 2), 3 if with_alpha else None)

    def _has_alpha(self) -> bool:
        """Return whether the first extra sample is opacity (ExtraSamples 1 or 2)."""
        extra = tuple(int(v) for v in self.key.extrasamples or ())
        return extra[:1] in ((1,), (2,))

    def _palette(self) -> Array | None:
        """Return the colour table (entries, 3) of a palette image, uint8."""
        if self.tif.is_ome or self.tif.is_imagej or self.axes != "yx":
            return None
        table = self.key.colormap if int(self.key.photometric) == PALETTE else None
        if table is None:
            return None
        colours = np.ascontiguousarray(np.asarray(table).T)
        return (colours >> 8 if colours.max() > 255 else colours).astype("u1")

    def _tiled(self, level: LevelSource, raw: LevelSource, axes: str) -> LevelSource:
        """Return level 0, or a level to be converted if it is large and in strips."""
        sizes = dict(zip(self.axes, self.series.shape, strict=True))
        large = sizes["y"] * sizes["x"] > UNTILED_PIXELS
        if not large or not isinstance(raw, PagesSource) or raw.is_tiled:
            return level
        self.warnings.append(NOT_TILED)
        strips = CachedSource(level)
        chunks = tuple(
            512 if a in "yx" else c for a, c in zip(axes, level.chunks, strict=True)
        )
        return PendingLevel(level.shape, level.dtype, chunks, untiled_source=strips)

    def _masks(
        self, masks: list[Any], levels: list[LevelSource], axes: str
    ) -> list[LevelSource]:
        """Return one mask per level if any level has missing tiles."""
        if not any(mask is not None for mask in masks):
            return []
        y = axes.index("y")
        return [
            FullMask(level.shape[y : y + 2]) if mask is None else mask
            for mask, level in zip(masks, levels, strict=True)
        ]

    def _look_for_end(self, raw: list[LevelSource]) -> None:
        end = max((s.end() for s in raw if isinstance(s, PagesSource)), default=0)
        if end > self.file.size:
            self.warnings.append(
                f"The file is incomplete: it has {self.file.size:,} of {end:,} bytes. "
                "What is missing shows as empty; copy it again to get all of it."
            )

    def _is_slide_file(self) -> bool:
        return self.path.suffix.lower() in SLIDES

    def _name(self) -> str:
        return self.path.name if self.number == 0 else f"{self.path.name} {self.number}"

    def _fingerprint(self) -> str:
        return fingerprint_file(self.path) + (f"-{self.number}" if self.number else "")


class FullMask:
    """Mask that is 1 everywhere."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.chunks = tuple(min(n, 1024) for n in shape)

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        return np.ones([s.stop - s.start for s in key], np.uint8)


def _unchanged(source: LevelSource) -> LevelSource:
    return source


def _any_source(level: Any) -> LevelSource:
    """Return a level as tifffile's zarr store, which is slower but reads any layout."""
    import zarr

    from napari_uhrseg.io.image.chunk_cache import ArraySource

    array = zarr.open_array(level.aszarr(), mode="r")
    return ArraySource(array)
