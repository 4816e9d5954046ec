"""Reader of georeferenced rasters by rasterio: GeoTIFF, COG, JP2, VRT."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.chunk_cache import (
    Array,
    CachedSource,
    LevelSource,
    PendingLevel,
)
from napari_uhrseg.io.image.image import Affine, Band, Image
from napari_uhrseg.io.image.pixel_transforms import palette
from napari_uhrseg.io.paths import Address, is_url
from napari_uhrseg.io.readers import (
    NOT_TILED,
    fingerprint_file,
    register_reader,
)
from napari_uhrseg.io.readers.raster_levels import (
    DatasetPool,
    GdalMask,
    RasterLevel,
    SingleBand,
    bound_blocks,
    quiet,
)
from napari_uhrseg.io.readers.raster_safety import checked_driver
from napari_uhrseg.io.readers.tiff import open_tiff
from napari_uhrseg.io.readers.tiff_tiles import for_tifffile
from napari_uhrseg.types import Limits

# tags of GeoTIFF and GDAL; EVERY_GEO_TAG adds the two with their values
GEO_TAGS = {33550, 33922, 34264, 34735, 42112, 42113}
EVERY_GEO_TAG = GEO_TAGS | {34736, 34737}
OTHER_SUFFIXES = (".jp2", ".j2k", ".vrt", ".img")
MAX_BANDS_PER_CHUNK = 4  # rasters with more bands have one chunk per band


def priority(path: Address) -> float:
    """Return a priority that exceeds tifffile's for files with GDAL's tags."""
    if path.suffix.lower() in OTHER_SUFFIXES:
        return 0.0 if is_url(path) else 3.0
    import tifffile

    try:
        with tifffile.TiffFile(for_tifffile(path)) as tif:
            tags = {int(tag.code) for tag in tif.pages.first.tags}
            return 3.0 if tags & GEO_TAGS and not tif.is_ome else 0.5
    # the TIFF reader reports what is wrong with the file
    except Exception:  # noqa: BLE001
        return 0.5


@register_reader(".tif", ".tiff", ".gtiff", ".geotiff", *OTHER_SUFFIXES,
        title="a raster", priority=priority, urls=True)  # fmt: skip
def open_raster(
    path: Address, series: int | None = None, limits: Limits = Limits()
) -> Image:
    """Open a raster with its overviews as levels; a URL must be that of a GeoTIFF.

    Parameters
    ----------
    path
        File or URL.
    series
        Index of the image in the file.
    limits
        Its ``untiled_pixels`` bound rasters in strips.

    Raises
    ------
    OpenError
        If GDAL cannot open the file.
    """
    if not isinstance(path, Path):
        return _at_url(path)
    import rasterio
    from rasterio.errors import RasterioIOError

    bound_blocks()
    try:
        driver = checked_driver(path)
        with quiet(), rasterio.open(path, driver=driver) as dataset:
            return _image(path, dataset, limits.untiled_pixels)
    except RasterioIOError as error:
        raise OpenError(
            f"{path.name} cannot be opened as a raster: {error}.",
            "It may be damaged, or of a format this GDAL lacks: convert it to GeoTIFF.",
        ) from error


def _at_url(path: Address) -> Image:
    """Open a GeoTIFF at a URL: tifffile reads its pixels, GDAL parses its tags.

    GDAL reads through fsspec too, but not yet from several threads.
    """
    import rasterio
    import tifffile

    image = open_tiff(path, None)
    with tifffile.TiffFile(for_tifffile(path)) as tif:
        page = tif.pages.first
        tags = [(t.code, t.dtype, t.count, t.value, True)
                for t in page.tags if t.code in EVERY_GEO_TAG]  # fmt: skip
        masked = any(p.subfiletype & 4 for p in tif.pages)
        shape = (1, 1, int(page.samplesperpixel))
        small = io.BytesIO()  # the same tags, and one pixel
        tifffile.imwrite(
            small, np.zeros(shape, page.dtype), photometric="minisblack",
            planarconfig="contig", metadata=None, extratags=tags,
        )  # fmt: skip
    with (
        quiet(),
        rasterio.MemoryFile(small.getvalue()) as memory,
        memory.open(driver="GTiff") as dataset,
    ):
        image.crs, image.pixel_size, image.unit = _georeference(dataset)
        image.affine = None if dataset.transform.is_identity else _affine(dataset)
        if len(image.bands) + (image.alpha is not None) == dataset.count:
            kinds = ["red", "green", "blue"] if image.rgb else []
            image.bands = tuple(
                _band(dataset, i, kinds[i] if i < len(kinds) else "")
                for i in range(len(image.bands))
            )
    if masked:
        image.warnings += (
            "The mask in this file is not read from its URL: what it hides shows.",
        )
    return image


def _image(path: Path, dataset: Any, untiled_pixels: int) -> Image:
    if not dataset.count:
        raise OpenError(
            f"{path.name} contains no bands, but {len(dataset.subdatasets)} rasters.",
            "Open one of them: extract it with gdal_translate.",
        )
    files, table = DatasetPool(path, dataset.driver), _table(dataset)
    kinds = [str(c.name) for c in dataset.colorinterp]
    alpha = kinds.index("alpha") if "alpha" in kinds and len(kinds) > 1 else None
    bands = [i for i in range(dataset.count) if i != alpha]
    together = dataset.count <= MAX_BANDS_PER_CHUNK
    large = dataset.width * dataset.height > untiled_pixels
    strips = bool(large and dataset.block_shapes[0][1] == dataset.width)
    count = 0 if strips else len(dataset.overviews(1))
    levels = [
        RasterLevel(files, dataset, level, together) for level in range(-1, count)
    ]
    sources: list[LevelSource] = list(levels)
    if table is not None:
        sources = [palette(SingleBand(level), _lut(table)) for level in levels]
    crs, size, unit = _georeference(dataset)
    return Image(
        name=path.name,
        path=path,
        fingerprint=fingerprint_file(path),
        sources=[_to_tile(sources[0])] if strips else sources,
        source_axes="yxs" if table is not None or together else "cyx",
        bands=tuple(_band(dataset, i, kinds[i]) for i in bands)
        if table is None
        else (),
        rgb_bands=_rgb(kinds, bands) if table is None else (0, 1, 2),
        alpha=alpha if table is None else 3,
        masks=_masks(files, dataset, levels),
        pixel_size=size,
        unit=unit,
        crs=crs,
        affine=None if dataset.transform.is_identity else _affine(dataset),
        colormap=table,
        indices=None if table is None else _Single(levels[0]),
        warnings=tuple(_warnings(dataset, strips)),
    )


def _to_tile(source: LevelSource) -> PendingLevel:
    """Return a large level in strips as a level that is grey until it is converted."""
    chunks = tuple(512 if n > 512 else n for n in source.shape)
    if len(chunks) == 3 and source.chunks[0] == 1:  # one chunk per band
        chunks = (1, *chunks[1:])
    strips = CachedSource(source)
    return PendingLevel(source.shape, source.dtype, chunks, untiled_source=strips)


def _warnings(dataset: Any, strips: bool) -> Iterator[str]:
    if strips:
        yield NOT_TILED
    if dataset.gcps[0] and dataset.crs is None:
        yield (
            "This image is placed by ground control points, which are not used: it "
            "has no pixel size. Warp it with gdalwarp to get one."
        )


def _masks(
    files: DatasetPool, dataset: Any, levels: list[RasterLevel]
) -> list[LevelSource]:
    """Return the masks of the levels if all bands share a mask that is not alpha."""
    flags = {flag.name for flag in dataset.mask_flag_enums[0]}
    if "per_dataset" not in flags or "alpha" in flags:
        return []
    return [GdalMask(files, level) for level in levels]


def _table(dataset: Any) -> dict[int, tuple[int, int, int, int]] | None:
    """Return the colour table of a raster with a single 8 or 16-bit band."""
    if dataset.count != 1 or dataset.dtypes[0] not in ("uint8", "uint16"):
        return None
    try:
        table = dataset.colormap(1)
    except ValueError:
        return None
    return {
        int(k): (int(r), int(g), int(b), int(a)) for k, (r, g, b, a) in table.items()
    }


def _lut(table: dict[int, tuple[int, int, int, int]]) -> Array:
    out = np.zeros((max(table) + 1, 4), np.uint8)
    for index, colour in table.items():
        out[index] = colour
    return out


def _rgb(kinds: list[str], bands: list[int]) -> tuple[int, ...]:
    """Return the indices of the red, green and blue band; empty without them."""
    own = [kinds[i] for i in bands]
    wanted = ("red", "green", "blue")
    return tuple(own.index(k) for k in wanted) if set(wanted) <= set(own) else ()


def _band(dataset: Any, index: int, kind: str) -> Band:
    """Return the name, range and nodata of a band from the metadata."""
    colour = kind if kind in ("red", "green", "blue") else ""
    name = dataset.descriptions[index] or colour or f"band {index + 1}"
    if dataset.count == 1 and not dataset.descriptions[index]:
        name = "value"
    tags = dataset.tags(index + 1)
    try:
        low, high = (float(tags[f"STATISTICS_{k}"]) for k in ("MINIMUM", "MAXIMUM"))
        stated = (low, high) if high > low else None
    except (KeyError, ValueError):
        stated = None
    nodata = dataset.nodatavals[index]
    return Band(str(name), stated, None if nodata is None else float(nodata))


def _affine(dataset: Any) -> Affine:
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    return (a, b, c, d, e, f)


def _georeference(dataset: Any) -> tuple[str | None, tuple[float, float] | None, str]:
    """Return the CRS as WKT, the size of a pixel, and its unit."""
    crs = dataset.crs
    if not crs:
        return None, None, "pixel"
    a, b, _, d, e, _ = _affine(dataset)
    size = (float(np.hypot(b, e)), float(np.hypot(a, d)))
    if dataset.transform.is_identity:
        return crs.to_wkt(), None, "pixel"
    if crs.is_geographic:
        return crs.to_wkt(), size, "degree"
    try:
        _, factor = crs.linear_units_factor
    except Exception:  # noqa: BLE001  CRSs without a unit raise several kinds
        return crs.to_wkt(), None, "pixel"
    return crs.to_wkt(), (size[0] * factor, size[1] * factor), "metre"
