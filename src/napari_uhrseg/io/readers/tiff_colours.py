"""Conversion of the samples of TIFF files into the bands of an image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from napari_uhrseg.io.image import pixel_transforms
from napari_uhrseg.io.image.level_source import Array, LevelSource

MINISWHITE, RGB, PALETTE, SEPARATED, YCBCR = 0, 2, 3, 5, 6
ASSOCIATED, UNASSOCIATED = 1, 2  # kinds of alpha in the tag ExtraSamples
APERIO_YCBCR = 33003  # JPEG 2000 in YCbCr, although the file states RGB
# compressions whose codec returns RGB for YCbCr: JPEG, WebP, JPEG XR, JPEG XL
RGB_CODECS = {6, 7, 33007, 34892, 34934, 22610, 34927, 50001, 50002, 52546}
UNCONVERTED = {
    8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "a colour filter array",
    32844: "LogL", 32845: "LogLuv",
}  # fmt: skip
YCBCR_WEIGHTS = (0.299, 0.587, 0.114)

Convert = Callable[[LevelSource], LevelSource]


@dataclass(frozen=True, slots=True)
class Colours:
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
    value_range
        Lowest and highest value by the bits per sample, if they are fewer than 8.
    table
        RGBA colour of each value of a palette image.
    """

    convert: Convert
    axes: str
    bands: int
    rgb_bands: tuple[int, ...] = ()
    alpha: int | None = None
    value_range: tuple[float, float] | None = None
    table: dict[int, tuple[int, int, int, int]] | None = None


def colours_of(tif: Any, key: Any, axes: str, shape: tuple[int, ...]) -> Colours:
    """Return how the samples become the bands of the image.

    Parameters
    ----------
    tif
        Open file (``tifffile.TiffFile``).
    key
        Page that describes the series.
    axes
        One letter per axis of the series.
    shape
        Size of each axis.

    Returns
    -------
    The conversion for all levels of the series.
    """
    if (table := _palette(tif, key, axes)) is not None:
        convert = partial(pixel_transforms.palette, table=table)
        known = {i: (r, g, b, 255) for i, (r, g, b) in enumerate(table.tolist())}
        return Colours(convert, "yxs", 3, (0, 1, 2), table=known)
    sizes = dict(zip(axes, shape, strict=True))
    samples, photometric = sizes.get("s", 0), int(key.photometric)
    alpha = _alpha(key, samples)
    steps: list[Convert] = []
    bits, top = _bits(key), None
    if photometric == MINISWHITE and np.dtype(key.dtype).kind in "ub":
        steps.append(partial(pixel_transforms.inverted, bits=bits))
    if bits < 8 and np.dtype(key.dtype).kind == "u":
        top = (0.0, float(2**bits - 1))
    if samples >= 3 and axes.endswith("syx"):
        whole = samples == 3 or alpha is not None or photometric == SEPARATED
        if whole and _needs_all_samples(key, alpha):
            steps.append(pixel_transforms.SamplesLast)
            axes = axes[:-3] + "yxs"
    last = axes.endswith("s")
    if photometric == SEPARATED and samples >= 4 and last:
        with_alpha = samples > 4 and alpha == 4
        steps.append(partial(pixel_transforms.cmyk, alpha=with_alpha))
        opacity = 3 if with_alpha else None
        return Colours(_all(steps), axes, 3, (0, 1, 2), opacity)
    if _is_ycbcr(key) and samples >= 3 and last:
        steps.append(_from_ycbcr(key))
    if alpha is not None and _kind(key, samples, alpha) == ASSOCIATED and last:
        steps.append(partial(pixel_transforms.unassociated, alpha=alpha))
    colour = samples >= 3 and photometric in (RGB, YCBCR)
    bands = (samples or sizes.get("c", 1)) - (alpha is not None)
    return Colours(
        _all(steps), axes, bands, (0, 1, 2) if colour else (), alpha, value_range=top
    )


def colour_warning(key: Any) -> str:
    """Return a warning for a colour space that is not converted; empty for others."""
    name = UNCONVERTED.get(int(key.photometric))
    if name is None:
        return ""
    return (
        f"The colours of this file are {name}, which is not converted: its bands are "
        "not red, green and blue. Convert it to RGB."
    )


def _all(steps: list[Convert]) -> Convert:
    """Return one conversion that applies all steps in order."""

    def convert(source: LevelSource) -> LevelSource:
        for step in steps:
            source = step(source)
        return source

    return convert


def _bits(key: Any) -> int:
    """Return the bits of a sample; those of the type if the samples differ."""
    bits = key.bitspersample
    whole = int(8 * np.dtype(key.dtype).itemsize)
    return min(bits, whole) if isinstance(bits, int) and bits > 0 else whole


def _extra(key: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in key.extrasamples or ())


def _alpha(key: Any, samples: int) -> int | None:
    """Return the index of the first sample that is opacity, by ExtraSamples."""
    extra = _extra(key)
    first = samples - len(extra)
    found = (i for i, v in enumerate(extra) if v in (ASSOCIATED, UNASSOCIATED))
    position = next(found, None)
    return None if position is None or first < 1 else first + position


def _kind(key: Any, samples: int, alpha: int) -> int:
    extra = _extra(key)
    return extra[alpha - (samples - len(extra))]


def _is_ycbcr(key: Any) -> bool:
    """Return whether the decoded samples are YCbCr."""
    compression = int(key.compression)
    if compression == APERIO_YCBCR:
        return True
    decoded = compression in RGB_CODECS and int(key.planarconfig) == 1
    return int(key.photometric) == YCBCR and not decoded


def _needs_all_samples(key: Any, alpha: int | None) -> bool:
    return (
        _is_ycbcr(key)
        or int(key.photometric) == SEPARATED
        or (alpha is not None and ASSOCIATED in _extra(key))
    )


def _from_ycbcr(key: Any) -> Convert:
    weights = _numbers(key, 529, 3) or YCBCR_WEIGHTS
    reference = _numbers(key, 532, 6)
    return partial(pixel_transforms.ycbcr, weights=weights, reference=reference)


def _numbers(key: Any, tag: int, count: int) -> tuple[float, ...] | None:
    """Return the rational numbers of a tag, or None if they are not valid."""
    value = key.tags.valueof(tag)
    if not isinstance(value, tuple) or len(value) != 2 * count or not all(value[1::2]):
        return None
    return tuple(a / b for a, b in zip(value[::2], value[1::2], strict=True))


def _palette(tif: Any, key: Any, axes: str) -> Array | None:
    """Return the colour table (entries, 3) of a palette image, uint8."""
    if tif.is_ome or tif.is_imagej or axes != "yx":
        return None
    table = key.colormap if int(key.photometric) == PALETTE else None
    if table is None:
        return None
    colours = np.ascontiguousarray(np.asarray(table).T)
    return (colours >> 8 if colours.max() > 255 else colours).astype("u1")
