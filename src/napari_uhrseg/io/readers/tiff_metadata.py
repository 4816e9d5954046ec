"""Functions that read pixel sizes and channel names from TIFF metadata."""

import re
from typing import Any

from napari_uhrseg.io.image.image import Band
from napari_uhrseg.io.readers.tiff_document import TiffDocument
from napari_uhrseg.io.readers.tiff_ome import (
    channel_names,
    emission_wavelengths,
    micrometres,
    physical_size,
    states_size,
)

PixelSize = tuple[tuple[float, float] | None, str]

UNKNOWN: PixelSize = (None, "pixel")


def pixel_size(document: TiffDocument, series: Any) -> PixelSize:
    """Return the size of a pixel and its unit from the most reliable metadata.

    The order is OME-XML, the description of SVS files, ImageJ metadata, and the
    resolution tags. A warning is added to the document if the OME-XML states a size
    that is not a length.

    Returns
    -------
    (height, width) in the unit, and ``micrometer``; or None and ``pixel``.
    """
    tif, page = document.tif, series.keyframe
    if (image := document.ome_image(series)) is not None and states_size(image):
        found, warning = physical_size(image)
        document.warnings += [warning] if warning else []
        return (found, "micrometer") if found else UNKNOWN
    if series.kind == "svs":
        return _svs_size(document.series[0], series)
    if tif.is_imagej:
        return _imagej_size(tif, page)
    return _resolution_size(page)


def band_names(
    document: TiffDocument, series: Any, count: int, kept: tuple[int, ...] | None
) -> tuple[Band, ...]:
    """Return the bands as named by OME, Vectra or ImageJ; empty without names.

    Parameters
    ----------
    document
        Open file.
    series
        Series of the image (``tifffile.TiffPageSeries``).
    count
        Number of bands of the image.
    kept
        Indices of the channels that are in the files; None for all.

    Returns
    -------
    One band for each name; empty if the names do not match the bands.
    """
    names: list[str] = []
    waves: list[float | None] = []
    tif = document.tif
    if (image := document.ome_image(series)) is not None:
        names, waves = channel_names(image), emission_wavelengths(image)
    elif tif.is_qpi:
        names = _vectra_names(series.pages)
    elif tif.is_imagej:
        names = [str(v) for v in (tif.imagej_metadata or {}).get("Labels") or []]
    waves = waves or [None] * len(names)
    if kept is not None and len(names) > max(kept):
        names, waves = [names[i] for i in kept], [waves[i] for i in kept]
    elif count < 2:
        return ()
    if len(names) != count or not (any(names) or any(waves)):
        return ()
    return tuple(
        Band(name or f"channel {i + 1}", wavelength=wave)
        for i, (name, wave) in enumerate(zip(names, waves, strict=True))
    )


def _vectra_names(pages: Any) -> list[str]:
    texts = (getattr(page, "description", "") for page in pages)
    found = (re.search(r"<Name>([^<]+)</Name>", text) for text in texts)
    return [m[1] for m in found if m]


def _svs_size(baseline: Any, series: Any) -> PixelSize:
    """Return the size by the MPP of an SVS file, which applies to its baseline.

    The thumbnail shows the same area with fewer pixels. The scale of the label and of
    the macro image is not known.
    """
    match = re.search(r"MPP\s*=\s*([\d.]+)", baseline.keyframe.description or "")
    try:
        size = float(match[1]) if match else 0.0
    except ValueError:
        return UNKNOWN
    if not 0 < size < 50:
        return UNKNOWN if series is not baseline else _resolution_size(series.keyframe)
    if series is baseline:
        return (size, size), "micrometer"
    if series.name != "Thumbnail":
        return UNKNOWN
    full, small = baseline.keyframe, series.keyframe
    return (
        size * full.imagelength / small.imagelength,
        size * full.imagewidth / small.imagewidth,
    ), "micrometer"


def _imagej_size(tif: Any, page: Any) -> PixelSize:
    unit = str((tif.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
    found = _per_unit(page)
    factor = micrometres(unit)
    if factor is None or found is None:
        return UNKNOWN
    return (found[0] * factor, found[1] * factor), "micrometer"


def _resolution_size(page: Any) -> PixelSize:
    """Return the size by the resolution tags if it is plausible for a microscope."""
    found = _per_unit(page)
    unit = int(page.tags.valueof(296, 2))  # tifffile's NONE (1) is false
    if found is None or unit not in (2, 3):
        return UNKNOWN
    factor, limit = (10_000.0, 50.0) if unit == 3 else (25_400.0, 10.0)
    size = (found[0] * factor, found[1] * factor)
    return (size, "micrometer") if all(0.01 < s < limit for s in size) else UNKNOWN


def _per_unit(page: Any) -> tuple[float, float] | None:
    """Return the (height, width) of a pixel in the unit of the resolution tags."""
    sizes = []
    for tag in (283, 282):
        value = page.tags.valueof(tag)
        if not isinstance(value, tuple) or len(value) != 2 or not all(value):
            return None
        sizes.append(value[1] / value[0])
    return sizes[0], sizes[1]
