"""Metadata of rasters: georeference, bands, colours and the files beside a raster."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_uhrseg.io.image.geometry import UNIT_METRES
from napari_uhrseg.io.image.image import Affine, Band, Image
from napari_uhrseg.io.image.level_source import Array
from napari_uhrseg.io.image.nodata import MAX_MEASURED
from napari_uhrseg.io.readers.tiff_colours import ASSOCIATED
from napari_uhrseg.units import format_length

# tags of GeoTIFF and GDAL; EVERY_GEO_TAG adds the two with their values
GEO_TAGS = {33550, 33922, 34264, 34735, 42112, 42113}
EVERY_GEO_TAG = GEO_TAGS | {34736, 34737}
NODATA_TAG = 42113
STRUCTURE = "IMAGE_STRUCTURE"  # GDAL's domain of facts about the file
BLACK, WHITE = (0, 0, 0, 255), (255, 255, 255, 255)
COLOURS = (
    "red",
    "green",
    "blue",
    "nir",
    "rededge",
    "swir",
)  # of rasterio's ColorInterp
MOST_MICROMETRES = 100.0  # a larger wavelength without a unit is in nanometres
ColorTable = dict[int, tuple[int, int, int, int]]


class GeoReference(NamedTuple):
    """Position of a raster: CRS as WKT, transform, and the size of a pixel."""

    crs: str | None
    affine: Affine | None
    pixel_size: tuple[float, float] | None
    unit: str


class Colors(NamedTuple):
    """Use of the bands of a raster.

    Attributes
    ----------
    table
        Colour table of the only band, if any.
    kinds
        Colour interpretation of each band of the file.
    alpha
        Index of the band that is opacity, if any.
    is_associated
        True if the other bands are multiplied by alpha in the file.
    value_range
        Lowest and highest value by the bits per sample, if they are fewer than 8.
    """

    table: ColorTable | None
    kinds: tuple[str, ...]
    alpha: int | None
    is_associated: bool
    value_range: tuple[float, float] | None

    @property
    def bands(self) -> list[int]:
        """Indices of the bands without alpha."""
        return [i for i in range(len(self.kinds)) if i != self.alpha]

    @property
    def rgb_bands(self) -> tuple[int, ...]:
        """Indices among `bands` of red, green and blue; empty without them."""
        own = [self.kinds[i] for i in self.bands]
        wanted = ("red", "green", "blue")
        return tuple(own.index(k) for k in wanted) if set(wanted) <= set(own) else ()


def georeference(dataset: Any) -> GeoReference:
    """Return the position of an open dataset, and the unit of its pixels."""
    identity = dataset.transform.is_identity
    a, b, c, d, e, f = (float(v) for v in tuple(dataset.transform)[:6])
    affine = None if identity else (a, b, c, d, e, f)
    crs = dataset.crs
    if not crs:
        return GeoReference(None, affine, None, "pixel")
    text, size = crs.to_wkt(), (float(np.hypot(b, e)), float(np.hypot(a, d)))
    if identity:
        return GeoReference(text, None, None, "pixel")
    if crs.is_geographic:
        return GeoReference(text, affine, size, "degree")
    try:
        _, factor = crs.linear_units_factor
    except Exception:  # noqa: BLE001  CRSs without a unit raise several kinds
        return GeoReference(text, affine, None, "pixel")
    return GeoReference(text, affine, (size[0] * factor, size[1] * factor), "metre")


def place(image: Image, dataset: Any) -> None:
    """Give an image of another reader the position and nodata that GDAL knows."""
    position = georeference(dataset)
    image.crs, image.affine = position.crs, position.affine
    if position.crs is not None:
        image.pixel_size, image.unit = position.pixel_size, position.unit
    kinds = dict(enumerate(("red", "green", "blue"))) if image.rgb else {}
    if len(image.bands) + (image.alpha is not None) == dataset.count:
        found = bands_of(
            dataset, {i: kinds.get(i, "") for i in range(len(image.bands))}
        )
        names = dataset.descriptions
        image.bands = tuple(
            replace(band, name=names[i] or own.name)
            for i, (band, own) in enumerate(zip(found, image.bands, strict=True))
        )


def raster_warnings(image: Image, dataset: Any) -> Iterator[str]:
    """Yield warnings about the position, pixel size and scales of an image."""
    yield from _scale_warnings(dataset)
    if dataset.gcps[0] and dataset.crs is None:
        yield (
            f"This image is placed by {len(dataset.gcps[0])} ground control points, "
            "which are not used: it has no pixel size. Warp it with gdalwarp to get "
            "one."
        )
    elif image.crs is None and image.affine is not None:
        a, _, _, _, e, _ = image.affine
        yield (
            f"This image has a position, but its coordinate system is not known: a "
            f"pixel of {abs(a):g} x {abs(e):g} has no unit. Assign the system with "
            "gdal_edit -a_srs."
        )
    elif image.affine is not None and image.pixel_size is None:
        yield (
            "The coordinate system of this image has neither longitudes and latitudes "
            "nor a map projection, so the pixel size is not known. Assign a system "
            "with gdal_edit -a_srs."
        )
    if image.unit != "metre" or image.pixel_size is None:
        return
    ground = image.meters_per_pixel
    if ground is None:
        yield (
            "The coordinate system of this image has no point on the Earth at its "
            "centre, so the pixel size on the ground is not known. Check the system "
            "and the position with gdalinfo."
        )
    else:
        on_map = math.sqrt(math.prod(image.pixel_size)) * UNIT_METRES["metre"]
        if not math.isclose(on_map, ground, rel_tol=1e-6):
            yield (
                f"A pixel of {format_length(on_map)} on the map is "
                f"{format_length(ground)} on the ground, because the map projection "
                "changes lengths. The size on the ground is used."
            )


def _scale_warnings(dataset: Any) -> Iterator[str]:
    """Yield a warning for each scale and offset of bands, which are not applied."""
    bands: dict[tuple[float, float], list[int]] = {}
    stated = zip(dataset.scales, dataset.offsets, strict=True)
    for number, (scale, offset) in enumerate(stated, 1):
        if (scale, offset) != (1, 0):
            bands.setdefault((scale, offset), []).append(number)
    for (scale, offset), numbers in bands.items():
        names = ", ".join(map(str, numbers))
        yield (
            f"The file states a scale of {scale:g} and an offset of {offset:g} for "
            f"band{'s' if len(numbers) > 1 else ''} {names} of {dataset.count}. They "
            "are not applied: the values are those in the file. gdal_translate "
            "-unscale -ot Float32 applies them."
        )


def colors(dataset: Any) -> Colors:
    """Return the use of the bands of an open dataset."""
    kinds = tuple(str(c.name) for c in dataset.colorinterp)
    alpha = kinds.index("alpha") if "alpha" in kinds and len(kinds) > 1 else None
    associated = alpha is not None and _is_associated(dataset, alpha)
    return Colors(_table(dataset), kinds, alpha, associated, _bit_range(dataset))


def _is_associated(dataset: Any, alpha: int) -> bool:
    """Return whether the first image of a TIFF file has associated alpha.

    GDAL does not tell the two kinds of alpha apart.
    """
    if dataset.driver != "GTiff" or not Path(dataset.name).is_file():
        return False
    import tifffile

    with tifffile.TiffFile(dataset.name) as tif:
        page = tif.pages.first
        kinds = tuple(page.extrasamples or ())
        place = alpha - (page.samplesperpixel - len(kinds))
    return 0 <= place < len(kinds) and int(kinds[place]) == ASSOCIATED


def _bit_range(dataset: Any) -> tuple[float, float] | None:
    """Return the range of samples of fewer than 8 bits; None for others."""
    bits = {dataset.tags(i, ns=STRUCTURE).get("NBITS", "") for i in dataset.indexes}
    number = bits.pop() if len(bits) == 1 else ""
    if not number.isdecimal() or not 0 < int(number) < 8:
        return None
    return 0.0, float(2 ** int(number) - 1)


def _table(dataset: Any) -> ColorTable | None:
    """Return the colour table of a raster with a single 8 or 16-bit band.

    GDAL adds one to a band of one bit, whose values are not colours.
    """
    if dataset.count != 1 or dataset.dtypes[0] not in ("uint8", "uint16"):
        return None
    try:
        table = dataset.colormap(1)
    except ValueError:
        return None
    found = {
        int(k): (int(r), int(g), int(b), int(a)) for k, (r, g, b, a) in table.items()
    }
    one_bit = dataset.tags(1, ns=STRUCTURE).get("NBITS") == "1"
    return None if one_bit and found == {0: BLACK, 1: WHITE} else found


def lookup_table(table: ColorTable) -> Array:
    """Return a colour table as an array (values, 4) of uint8."""
    out = np.zeros((max(table) + 1, 4), np.uint8)
    for index, colour in table.items():
        out[index] = colour
    return out


def bands_of(dataset: Any, kinds: Mapping[int, str]) -> tuple[Band, ...]:
    """Return names, ranges and nodata of bands from the metadata.

    Parameters
    ----------
    dataset
        The open dataset.
    kinds
        Index of each band, from 0, to its colour interpretation, such as "red"; may be
        empty.

    Returns
    -------
    The bands. A range is None if the stated statistics are not plausible.
    """
    # rasterio reads these for all bands at each access
    names, nodata = dataset.descriptions, _nodata_values(dataset)
    return tuple(
        _band_of(dataset, i, kind, names[i] or "", nodata[i])
        for i, kind in kinds.items()
    )


def _band_of(
    dataset: Any, index: int, kind: str, name: str, nodata: float | None
) -> Band:
    colour = kind if kind in COLOURS else ""
    unnamed = "value" if dataset.count == 1 else colour or f"band {index + 1}"
    return Band(
        name or unnamed, _stated_range(dataset, index, nodata), nodata,
        wavelength=_wavelength(dataset, index), color=colour,
    )  # fmt: skip


def _wavelength(dataset: Any, index: int) -> float | None:
    """Return the central wavelength of a band in nm; None if it is not stated."""
    imagery = dataset.tags(index + 1, ns="IMAGERY")
    own = {k.lower(): v for k, v in dataset.tags(index + 1).items()}
    value = imagery.get("CENTRAL_WAVELENGTH_UM")
    unit = "micrometers" if value else own.get("wavelength_units", "").lower()
    try:
        number = float(value or own["wavelength"])
    except (KeyError, ValueError):
        return None
    if not unit:
        unit = "micrometers" if number < MOST_MICROMETRES else "nanometers"
    nanometres = number * 1000 if unit.startswith(("micro", "um", "µm")) else number
    return nanometres if MOST_MICROMETRES < nanometres < math.inf else None


def _nodata_values(dataset: Any) -> list[float | None]:
    """Return the nodata value of each band; rasterio rounds integers of 64 bits."""
    found, types = dataset.nodatavals, dataset.dtypes
    exact = _exact_nodata(dataset) if {"int64", "uint64"} & {*types} else None
    values: list[float | None] = []
    for value, kind in zip(found, types, strict=True):
        if kind not in ("int64", "uint64"):
            values.append(None if value is None else float(value))
        elif exact is not None:
            values.append(exact)
        else:
            whole = value is not None and value == int(value)
            values.append(int(value) if whole else value)
    return values


def _exact_nodata(dataset: Any) -> int | None:
    """Return the nodata value in the text of a GeoTIFF if it is a whole number."""
    if dataset.driver != "GTiff" or not Path(dataset.name).is_file():
        return None
    import tifffile

    with tifffile.TiffFile(dataset.name) as tif:
        text = str(tif.pages.first.tags.valueof(NODATA_TAG, "")).strip("\0 ")
    with suppress(ValueError):
        return int(text)
    return None


def _stated_range(
    dataset: Any, index: int, nodata: float | None
) -> tuple[float, float] | None:
    """Return the range of a band's statistics; None if they include nodata."""
    tags = dataset.tags(index + 1)
    try:
        low, high = (float(tags[f"STATISTICS_{k}"]) for k in ("MINIMUM", "MAXIMUM"))
    except (KeyError, ValueError):
        return None
    plausible = high > low and max(abs(low), abs(high)) < MAX_MEASURED
    return (low, high) if plausible and nodata not in (low, high) else None


def pages(dataset: Any) -> list[str]:
    """Return GDAL's names of the images of a TIFF file with several images."""
    names = [str(name) for name in dataset.subdatasets]
    return [name for name in names if name.startswith("GTIFF_DIR:")]
