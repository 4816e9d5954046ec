"""Functions that read pixel sizes and channel names from TIFF metadata."""

import math
import re
from typing import Any
from xml.etree import ElementTree

from napari_uhrseg.io.image.image import Band

PixelSize = tuple[tuple[float, float] | None, str]

_MICRONS = {
    "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0,
    "micrometer": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25_400.0, "in": 25_400.0,
}  # fmt: skip
UNKNOWN: PixelSize = (None, "pixel")


def pixel_size(tif: Any, page: Any, number: int) -> PixelSize:
    """Return the size of a pixel and its unit from the most reliable metadata.

    The order is OME-XML, the description of SVS files, ImageJ metadata, and the
    resolution tags.

    Parameters
    ----------
    tif
        Open file (``tifffile.TiffFile``).
    page
        Page that describes the series (its keyframe).
    number
        Index of the series in the file.

    Returns
    -------
    (height, width) in the unit, and ``micrometer``; or None and ``pixel``.
    """
    if tif.is_ome and (found := _ome_size(_ome_image(tif, number))):
        return found, "micrometer"
    if tif.is_svs:
        match = re.search(r"MPP\s*=\s*([\d.]+)", page.description or "")
        match = match or re.search(r"MPP\s*=\s*([\d.]+)", tif.pages.first.description)
        if match and 0 < (size := float(match[1])) < 50:
            return (size, size), "micrometer"
    if tif.is_imagej:
        return _imagej_size(tif, page)
    return _resolution_size(page)


def band_names(tif: Any, number: int, count: int) -> tuple[Band, ...]:
    """Return the bands as named by OME, Vectra or ImageJ; empty without names.

    Parameters
    ----------
    tif
        Open file (``tifffile.TiffFile``).
    number
        Index of the series in the file.
    count
        Number of bands of the image.

    Returns
    -------
    One band for each name; empty if the names do not match the bands.
    """
    names: list[str] = []
    if tif.is_ome:
        names = _ome_names(_ome_image(tif, number))
    elif tif.is_qpi:
        names = _vectra_names(tif.series[number].pages)
    elif tif.is_imagej:
        names = [str(v) for v in (tif.imagej_metadata or {}).get("Labels") or []]
    if count < 2 or len(names) != count or not any(names):
        return ()
    return tuple(Band(n or f"channel {i + 1}") for i, n in enumerate(names))


def _ome_names(image: Any) -> list[str]:
    channels = (e for e in _children(image, "Pixels") if _local(e) == "Channel")
    return [c.get("Name") or c.get("Fluor") or "" for c in channels]


def _vectra_names(pages: Any) -> list[str]:
    texts = (getattr(page, "description", "") for page in pages)
    found = (re.search(r"<Name>([^<]+)</Name>", text) for text in texts)
    return [m[1] for m in found if m]


def _ome_image(tif: Any, number: int) -> Any:
    """Return the ``Image`` element of a series, or None if the XML is invalid."""
    try:
        root = ElementTree.fromstring(tif.ome_metadata or "")
    except ElementTree.ParseError:
        return None
    images = [e for e in root if _local(e) == "Image"]
    return images[number] if number < len(images) else None


def _ome_size(image: Any) -> tuple[float, float] | None:
    pixels = _child(image, "Pixels")
    if pixels is None:
        return None
    sizes = []
    for axis in "YX":
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        try:
            size = float(pixels.get(f"PhysicalSize{axis}", "nan")) * _MICRONS[unit]
        except (KeyError, ValueError):
            return None
        sizes.append(size)
    good = all(math.isfinite(s) and s > 0 for s in sizes)
    return (sizes[0], sizes[1]) if good else None


def _imagej_size(tif: Any, page: Any) -> PixelSize:
    unit = str((tif.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
    found = _per_unit(page)
    if unit.lower() not in _MICRONS or found is None:
        return UNKNOWN
    factor = _MICRONS[unit.lower()]
    return (found[0] * factor, found[1] * factor), "micrometer"


def _resolution_size(page: Any) -> PixelSize:
    """Return the size by the resolution tags if it is plausible for a microscope."""
    found = _per_unit(page)
    unit = int(page.tags.valueof(296, 2) or 2)
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


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _children(element: Any, name: str) -> list[Any]:
    """Return the elements inside the child with a name."""
    child = _child(element, name)
    return [] if child is None else list(child)


def _child(element: Any, name: str) -> Any:
    if element is None:
        return None
    return next((e for e in element if _local(e) == name), None)
