"""Validity of TIFF levels: masks in the file, and tiles that the file lacks."""

from typing import Any

import numpy as np

from napari_uhrseg.io.image.level_source import Array, LevelSource, Slices
from napari_uhrseg.io.image.resample import ResampleAxis, resample
from napari_uhrseg.io.readers.tiff_document import TiffDocument
from napari_uhrseg.io.readers.tiff_tiles import PagesSource, TileMask
from napari_uhrseg.units import formatted


def level_masks(
    document: TiffDocument, levels: list[Any], raw: list[LevelSource]
) -> list[LevelSource]:
    """Return one mask (y, x) per level; empty if all pixels are valid.

    A pixel of level 0 is valid if the file contains its tile, and by the mask of the
    page. Coarser levels have the mask of the file, else that of level 0.

    Parameters
    ----------
    document
        Open file.
    levels
        Levels of the series (``tifffile.TiffPageSeries``), finest first.
    raw
        Their sources.
    """
    own = [_own_mask(document, level) for level in levels]
    tiles = raw[0].missing_tiles() if isinstance(raw[0], PagesSource) else None
    first: LevelSource | None = own[0] or tiles
    if own[0] is not None and tiles is not None:
        first = BothMasks(own[0], tiles)
    if first is None:
        return []
    y = levels[0].axes.index("Y")
    sizes = [tuple(level.shape[y : y + 2]) for level in levels]
    return [first] + [
        mask if mask is not None and tiles is None else ScaledMask(first, size)
        for mask, size in zip(own[1:], sizes[1:], strict=True)
    ]


def without_missing_tiles(
    raw: list[LevelSource], axes: str, warnings: list[str]
) -> list[LevelSource]:
    """Return the levels, with tiles that the file lacks filled from finer levels.

    Parameters
    ----------
    raw
        Sources of the levels, finest first.
    axes
        One letter per axis.
    warnings
        List to which the numbers of missing tiles are added.
    """
    found: list[LevelSource] = []
    for number, source in enumerate(raw):
        mask = source.missing_tiles() if isinstance(source, PagesSource) else None
        if mask is None:
            found.append(source)
            if isinstance(source, PagesSource):
                missing, count = source.missing_in_planes()
                if missing:
                    warnings.append(
                        f"The planes of level {number} lack {formatted(missing)} of "
                        f"{formatted(count)} "
                        "tiles: they show as 0."
                    )
            continue
        tiles = f"{formatted(mask.missing)} of {formatted(mask.count)} tiles"
        text = f"Level {number} lacks {tiles}: "
        if number and _resamples(axes):
            found.append(FilledLevel(source, mask, found[-1], axes))
            warnings.append(text + "they are computed from the finer level.")
        else:
            found.append(source)
            warnings.append(text + "they are empty and not valid.")
    return found


def _resamples(axes: str) -> bool:
    return axes in ("yx", "yxs")


def _own_mask(document: TiffDocument, level: Any) -> PagesSource | None:
    """Return the mask of a level with a single page, by its place and its size."""
    pages = list(level.pages)
    if len(pages) != 1 or not document.masks:
        return None
    page = pages[0]
    for mask in document.masks:
        after = _place(mask) > _place(page)
        size = (mask.imagelength, mask.imagewidth)
        if after and size == (page.imagelength, page.imagewidth):
            return PagesSource([mask], (), mask.keyframe, document.files.of)
    return None


def _place(page: Any) -> tuple[int, ...]:
    index = page.index
    return tuple(index) if isinstance(index, tuple) else (int(index),)


class BothMasks:
    """Mask that is 1 where two masks are not 0."""

    dtype = np.dtype(np.uint8)

    def __init__(self, one: LevelSource, other: LevelSource) -> None:
        self._both = one, other
        self.shape, self.chunks = tuple(one.shape), tuple(one.chunks)

    def __getitem__(self, key: Slices) -> Array:
        one, other = (np.asarray(mask[key]) > 0 for mask in self._both)
        return (one & other).astype(np.uint8)


class ScaledMask:
    """Mask of a coarser level, with the nearest pixels of a finer mask.

    Parameters
    ----------
    mask
        Mask (y, x) of the finer level.
    shape
        Height and width of the coarser level in pixels.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, mask: LevelSource, shape: tuple[int, ...]) -> None:
        self._mask, self.shape = mask, shape
        self.chunks = tuple(min(n, 512) for n in shape)

    def __getitem__(self, key: Slices) -> Array:
        indices = [
            np.minimum(
                ((np.arange(s.start, s.stop) + 0.5) * fine / n).astype(int), fine - 1
            )
            for s, n, fine in zip(key, self.shape, self._mask.shape, strict=True)
        ]
        box = tuple(slice(int(i[0]), int(i[-1]) + 1) for i in indices)
        found = np.asarray(self._mask[box])
        rows, columns = (i - i[0] for i in indices)
        return (found[np.ix_(rows, columns)] > 0).astype(np.uint8)


class FilledLevel:
    """Level whose missing tiles are computed from the finer level.

    Parameters
    ----------
    source
        Level with missing tiles.
    mask
        Mask of its tiles.
    finer
        Next finer level.
    axes
        ``yx`` or ``yxs``.
    """

    def __init__(
        self, source: LevelSource, mask: TileMask, finer: LevelSource, axes: str
    ) -> None:
        self._source, self._mask, self._finer, self._axes = source, mask, finer, axes
        self.shape, self.chunks = tuple(source.shape), tuple(source.chunks)
        self.dtype = np.dtype(source.dtype)

    def __getitem__(self, key: Slices) -> Array:
        out = np.asarray(self._source[key])
        there = self._mask[key[:2]] > 0
        if there.all():
            return out
        fine = self._from_finer(key)
        shown = there if self._axes == "yx" else there[..., None]
        return np.where(shown, out, fine)

    def _from_finer(self, key: Slices) -> Array:
        """Return the mean of the finer level."""
        steps = [
            ResampleAxis(s.start * n / m, n / m, 0, s.stop - s.start)
            for s, n, m in zip(key, self._finer.shape[:2], self.shape[:2], strict=False)
        ]
        spans = [step.span() for step in steps]
        box = tuple(
            slice(max(0, a), min(b, n))
            for (a, b), n in zip(spans, self._finer.shape[:2], strict=True)
        )
        data = np.asarray(self._finer[(*box, *key[2:])])
        data = data if self._axes == "yxs" else data[..., None]
        pads = [
            (part.start - a, b - part.stop)
            for (a, b), part in zip(spans, box, strict=True)
        ]
        data = np.pad(data, [*pads, (0, 0)], mode="edge")
        valid = np.ones(data.shape[:2], bool)
        means, _ = resample(data, valid, steps[0], steps[1])
        return means if self._axes == "yxs" else means[..., 0]
