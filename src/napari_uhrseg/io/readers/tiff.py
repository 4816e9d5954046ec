"""Reader of TIFF files by tifffile: SVS, NDPI, QPTIFF, OME-TIFF, ImageJ and others."""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image import pixel_transforms
from napari_uhrseg.io.image.chunk_cache import CachedSource
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.level_source import ArraySource, LevelSource
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.readers.common import NOT_TILED, probe
from napari_uhrseg.io.readers.registry import RefusedError, register_reader
from napari_uhrseg.io.readers.tiff_colours import colour_warning, colours_of
from napari_uhrseg.io.readers.tiff_document import TiffDocument, open_document
from napari_uhrseg.io.readers.tiff_masks import level_masks, without_missing_tiles
from napari_uhrseg.io.readers.tiff_metadata import band_names, pixel_size
from napari_uhrseg.io.readers.tiff_ome import COMPANION
from napari_uhrseg.io.readers.tiff_tiles import MappedFile, PagesSource
from napari_uhrseg.types import BoolMask, Limits
from napari_uhrseg.units import formatted

MAX_TILE_PIXELS = 2**26  # larger tiles must not exceed the image
SLIDES = (".svs", ".ndpi", ".qptiff", ".scn", ".bif")
SUFFIXES = (
    ".tif",
    ".tiff",
    ".gtiff",
    ".geotiff",
    ".btf",
    ".tf8",
    ".tf2",
    ".stk",
    ".lsm",
)


@register_reader(*SUFFIXES, *SLIDES, COMPANION,
        title="TIFF", priority=lambda _: 2.0, urls=True)  # fmt: skip
def open_tiff(
    path: PathOrUrl, series: int | None = None, limits: Limits = Limits()
) -> Image:
    """Open an image of a TIFF file.

    Parameters
    ----------
    path
        TIFF file, URL of one, or companion file of OME-TIFF files.
    series
        Index of the image; None for the largest.
    limits
        Its ``untiled_pixels`` bound images in strips.

    Raises
    ------
    OpenError
        If tifffile cannot read the file, or if it has no such series.
    """
    return image_of_document(open_document(path), series, limits)


def image_of_document(
    document: TiffDocument, series: int | None, limits: Limits
) -> Image:
    """Return an image of an open TIFF file.

    Parameters
    ----------
    document
        The open file.
    series
        Index of the image in the file. None: the largest.
    limits
        Bounds of the reader.

    Raises
    ------
    OpenError
        If there is no such image.
    """
    number = _largest(document.series) if series is None else series
    _check_number(document, number)
    return _image(document, number, limits.untiled_pixels)


def _check_number(document: TiffDocument, number: int) -> None:
    if not 0 <= number < len(document.series):
        raise OpenError(
            f"{document.path.name} has no image number {number}.",
            f"It has {len(document.series)}, counted from 0.",
        )


def _largest(series: list[Any]) -> int:
    def area(one: Any) -> int:
        sizes = dict(zip(one.axes, one.shape, strict=True))
        return int(sizes.get("Y", 0) * sizes.get("X", 0))

    return max(range(len(series)), key=lambda i: area(series[i]))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Pixels of a series as they are in the file.

    Attributes
    ----------
    levels
        Levels (``tifffile.TiffPageSeries``), finest first.
    axes
        One letter per axis.
    kept
        Indices of the channels that are in the files; None for all.
    """

    levels: list[Any]
    axes: str
    kept: tuple[int, ...] | None

    @property
    def key(self) -> Any:
        """Page that describes the pages of the finest level."""
        return self.levels[0].keyframe

    def shape(self, level: Any) -> tuple[int, ...]:
        """Return the size of each axis of a level."""
        shape = tuple(int(n) for n in level.shape)
        if self.kept is None:
            return shape
        return tuple(
            len(self.kept) if a == "c" else n
            for a, n in zip(self.axes, shape, strict=True)
        )


def _image(document: TiffDocument, number: int, untiled_pixels: int) -> Image:
    """Return the image of a series."""
    series = document.series[number]
    layout = _layout(document, series)
    raw = [_source(document, layout, level) for level in layout.levels]
    incomplete = _check_end(document, raw)
    colours = colours_of(document.tif, layout.key, layout.axes, layout.shape(series))
    document.warnings += filter(None, [colour_warning(layout.key)])
    masks = level_masks(document, layout.levels, raw)
    filled = without_missing_tiles(raw, layout.axes, document.warnings)
    levels = [colours.convert(source) for source in filled]
    indices = None if colours.table is None else raw[0]
    size, unit = pixel_size(document, series)
    orientation = int(layout.key.tags.valueof(274, 1) or 1)
    if 2 <= orientation <= 8 and document.path.suffix.lower() not in SLIDES:
        turned = pixel_transforms.Reoriented
        levels = [turned(s, colours.axes, orientation) for s in levels]
        masks = [turned(m, "yx", orientation) for m in masks]
        if indices is not None:
            indices = turned(indices, "yx", orientation)
        if size is not None and orientation >= 5:
            size = (size[1], size[0])
    if _is_in_strips(raw[0]) and math.prod(_size(raw[0], layout.axes)) > untiled_pixels:
        document.warnings.append(NOT_TILED)
        # it is filled with its coarser levels
        levels, masks = [_to_tile(levels[0], colours.axes)], masks[:1]
    image = Image(
        name=_name(document.path, number),
        path=document.path,
        fingerprint=document.fingerprint(number),
        sources=levels,
        source_axes=colours.axes,
        bands=band_names(document, series, colours.bands, layout.kept),
        rgb_bands=colours.rgb_bands,
        alpha=colours.alpha,
        value_range=colours.value_range,
        masks=masks,
        colormap=colours.table,
        indices=indices,
        pixel_size=size,
        unit=unit,
        is_slide=bool(colours.rgb_bands) and unit == "micrometer",
        warnings=tuple(document.warnings),
        series=document.names(),
        series_number=number,
    )
    if incomplete:
        _check_middle(image, incomplete)
    return image


def _name(path: PathOrUrl, number: int) -> str:
    return path.name if number == 0 else f"{path.name} {number}"


def _layout(document: TiffDocument, series: Any) -> _Layout:
    """Return the levels of a series, without channels that are not in the files."""
    axes = series.axes.lower()
    if not {"y", "x"} <= set(axes) or not series.size:
        raise OpenError(
            f"{document.path.name} contains no two-dimensional image (axes {axes}).",
            "Choose another file.",
        )
    levels = _levels(document, series)
    return _Layout(levels, axes, _kept_channels(document, series, axes))


def _levels(document: TiffDocument, series: Any) -> list[Any]:
    """Return the levels that decrease in size and otherwise match the first."""
    found: list[Any] = []
    y, x = series.axes.index("Y"), series.axes.index("X")
    for level in series.levels:
        if found:
            size, finer = ((one.shape[y], one.shape[x]) for one in (level, found[-1]))
            is_larger = size[0] > finer[0] or size[1] > finer[1]
            if not _same_kind(level, series) or is_larger or size == finer:
                continue
        found.append(level)
    if left_out := len(series.levels) - len(found):
        document.warnings.append(
            f"{left_out} of {len(series.levels)} levels of {document.path.name} are "
            "left out: they are not coarser than the level before, or of another type."
        )
    return found


def _same_kind(level: Any, series: Any) -> bool:
    """Return True if a level differs from its series only in height and width."""
    if level.axes != series.axes or level.dtype != series.dtype:
        return False
    sizes = zip(series.axes, level.shape, series.shape, strict=True)
    return all(a in "YX" or own == first for a, own, first in sizes)


def _channels_with_planes(there: BoolMask, channel: int) -> BoolMask:
    """Return for each channel whether it has a plane."""
    return np.asarray(there.any(tuple(i for i in range(there.ndim) if i != channel)))


def _kept_channels(
    document: TiffDocument, series: Any, axes: str
) -> tuple[int, ...] | None:
    """Return the channels with planes, and warn about missing planes; None for all."""
    if series.kind != "ome" or series.dataoffset is not None:
        return None
    leading = series.shape[: len(series.shape) - len(series.keyframe.shape)]
    there = np.array([page is not None for page in series.pages])
    if there.all() or there.size != math.prod(leading):
        return None
    gone = int((~there).sum())
    text = (
        f"{formatted(gone)} of {formatted(there.size)} planes of this image are missing"
    )
    if document.ome is not None and document.ome.missing:
        text += f" (not in its folder: {document.ome.missing_text()})"
    kept = None
    if "c" in axes[: len(leading)]:
        whole = _channels_with_planes(there.reshape(leading), axes.index("c"))
        if not whole.all():
            kept = tuple(int(i) for i in np.flatnonzero(whole))
            left_out = f"{formatted(int((~whole).sum()))} of {formatted(whole.size)}"
            text += f". {left_out} channels are left out"
            gone -= int((~whole).sum()) * there.size // whole.size
    if gone:
        text += f". {formatted(gone)} missing planes show as 0"
    document.warnings.append(text + ".")
    return kept


def _source(document: TiffDocument, layout: _Layout, level: Any) -> LevelSource:
    """Return a level as the fastest source that reads windows."""
    _check_tiles(document.path.name, level.keyframe)
    key, path, offset = level.keyframe, document.files.own.path, level.dataoffset
    own_file = key.parent is document.tif
    if isinstance(path, Path) and offset is not None and key.is_memmappable:
        path = path if own_file else Path(key.parent.filehandle.path)
        dtype = np.dtype(f"{key.parent.byteorder}{level.dtype.char}")
        with contextlib.suppress(ValueError, OSError):  # the file is truncated
            return MappedFile(path, offset, level.shape, dtype, layout.axes)
    leading = layout.shape(level)[: len(level.shape) - len(key.shape)]
    with contextlib.suppress(ValueError):
        pages = _pages(level, layout, len(leading))
        source = PagesSource(pages, leading, key, document.files.of)
        if source.shape == layout.shape(level):
            return source
    if layout.kept is not None:
        raise OpenError(
            f"{document.path.name} is incomplete, and the order of its planes is "
            "not known.",
            "Copy the missing files of the set into its folder.",
        )
    return _any_source(level)


def _check_tiles(name: str, page: Any) -> None:
    """Raise if tiles are much larger than the image, since each is decoded whole."""
    if not page.is_tiled or page.tilelength * page.tilewidth <= MAX_TILE_PIXELS:
        return
    if page.tilelength > 2 * page.imagelength or page.tilewidth > 2 * page.imagewidth:
        raise RefusedError(
            f"{name} says that it has tiles of {page.tilewidth} x {page.tilelength} "
            f"pixels, but its image has {page.imagewidth} x {page.imagelength}.",
            "The file may be damaged or incomplete: copy it again.",
        )


def _pages(level: Any, layout: _Layout, leading: int) -> list[Any]:
    """Return the pages of a level in order, without those of missing channels."""
    pages = list(level.pages)
    if layout.kept is None:
        return pages
    numbers = np.arange(len(pages)).reshape(level.shape[:leading])
    chosen = np.take(numbers, layout.kept, layout.axes.index("c"))
    return [pages[i] for i in chosen.ravel()]


def _any_source(level: Any) -> LevelSource:
    """Return a level as tifffile's zarr store, which is slower but reads any layout."""
    import zarr

    return ArraySource(zarr.open_array(level.aszarr(), mode="r"))


def _check_end(document: TiffDocument, raw: list[LevelSource]) -> str:
    """Warn about files that end before their pixels; return the warning."""
    ends: dict[int, tuple[Any, int]] = {}
    for source in raw:
        for page, end in source.ends() if isinstance(source, PagesSource) else ():
            if end > ends.get(id(page.parent), (None, 0))[1]:
                ends[id(page.parent)] = page, end
    for page, end in ends.values():
        size = document.files.of(page).size
        if end > size:
            name = page.parent.filename or document.path.name
            bytes_there = f"{formatted(size)} of {formatted(end)} bytes"
            text = f"{name} is incomplete: it has {bytes_there}"
            document.warnings.append(
                f"{text}. What is missing shows as empty; copy it again to get all of "
                "it."
            )
            return text
    return ""


def _check_middle(image: Image, incomplete: str) -> None:
    """Raise RefusedError if the middle of an incomplete file is missing."""
    try:
        probe(image)
    except OpenError as error:
        raise RefusedError(
            f"{incomplete}, and its middle cannot be decoded.",
            "Copy or download it again.",
        ) from error


def _is_in_strips(source: LevelSource) -> bool:
    return isinstance(source, PagesSource) and not source.is_tiled


def _size(source: LevelSource, axes: str) -> tuple[int, int]:
    return source.shape[axes.index("y")], source.shape[axes.index("x")]


def _to_tile(level: LevelSource, axes: str) -> PendingLevel:
    """Return a large level in strips as a level that is grey until it is converted."""
    strips = CachedSource(level)
    chunks = tuple(
        512 if a in "yx" else c for a, c in zip(axes, level.chunks, strict=True)
    )
    return PendingLevel(level.shape, level.dtype, chunks, untiled_source=strips)
