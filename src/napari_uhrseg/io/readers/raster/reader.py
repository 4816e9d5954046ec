"""Reader of georeferenced rasters by rasterio: GeoTIFF, COG, JPEG 2000, VRT."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.chunk_cache import CachedSource
from napari_uhrseg.io.image.image import Band, Image
from napari_uhrseg.io.image.level_source import LevelSource
from napari_uhrseg.io.image.pending_level import PendingLevel
from napari_uhrseg.io.image.pixel_reader import MOST_BANDS
from napari_uhrseg.io.image.pixel_transforms import palette, unassociated
from napari_uhrseg.io.paths import PathOrUrl, is_url
from napari_uhrseg.io.readers.beside import files_beside
from napari_uhrseg.io.readers.common import NOT_TILED, RASTER, fingerprint_file
from napari_uhrseg.io.readers.png_jpeg import open_plain
from napari_uhrseg.io.readers.raster.levels import (
    DatasetPool,
    GdalMask,
    RasterLevel,
    SingleBand,
    bound_blocks,
    quiet,
)
from napari_uhrseg.io.readers.raster.metadata import (
    EVERY_GEO_TAG,
    GEO_TAGS,
    Colors,
    bands_of,
    colors,
    georeference,
    lookup_table,
    pages,
    place,
    raster_warnings,
)
from napari_uhrseg.io.readers.raster.safety import checked_driver
from napari_uhrseg.io.readers.raster.undeclared_nodata import undeclared_nodata
from napari_uhrseg.io.readers.registry import RefusedError, register_reader
from napari_uhrseg.io.readers.tiff import image_of_document, open_tiff
from napari_uhrseg.io.readers.tiff_document import open_document, split_pages
from napari_uhrseg.io.readers.tiff_tiles import for_tifffile
from napari_uhrseg.types import Limits
from napari_uhrseg.units import formatted

OTHER_SUFFIXES = (".jp2", ".j2k", ".vrt", ".img")
PICTURES = (".png", ".jpg", ".jpeg")
MAX_BANDS_PER_CHUNK = 4  # rasters with more bands have one chunk per band
ORIENTATION = 274  # TIFF tag
GREY, RGB, PALETTE, YCBCR, JPEG = 1, 2, 3, 6, 7


def priority(path: PathOrUrl) -> float:
    """Return a priority that exceeds those of others for files with a position."""
    suffix = path.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        return 0.0 if is_url(path) else 3.0
    placed = isinstance(path, Path) and bool(files_beside(path))
    if suffix in PICTURES:
        return 3.0 if placed else 0.0
    import tifffile

    try:
        with tifffile.TiffFile(for_tifffile(path)) as tif:
            tags = {int(tag.code) for tag in tif.pages.first.tags}
            return 3.0 if (placed or tags & GEO_TAGS) and not tif.is_ome else 0.5
    # the TIFF reader reports what is wrong with the file
    except Exception:  # noqa: BLE001
        return 0.5


@register_reader(".tif", ".tiff", ".gtiff", ".geotiff", *OTHER_SUFFIXES, *PICTURES,
        title=RASTER, priority=priority, urls=True)  # fmt: skip
def open_raster(
    path: PathOrUrl, series: int | None = None, limits: Limits = Limits()
) -> Image:
    """Open a raster with its overviews as levels; a URL must be that of a GeoTIFF.

    Parameters
    ----------
    path
        File or URL.
    series
        Index of the image in the file; None for the first.
    limits
        Its ``untiled_pixels`` bound rasters in strips.

    Raises
    ------
    OpenError
        If GDAL cannot open the file, or if there is no such image.
    """
    if not isinstance(path, Path):
        return _at_url(path, series, limits)
    import rasterio
    from rasterio.errors import RasterioIOError

    bound_blocks()
    try:
        driver = checked_driver(path)
        with quiet(), rasterio.open(path, driver=driver) as dataset:
            if driver in ("PNG", "JPEG"):
                return _placed(open_plain(path, series, limits), dataset)
            if driver == "GTiff" and not _has_plain_colors(path):
                return _placed(open_tiff(path, series, limits), dataset)
            names = pages(dataset) or [str(path)]
        number = _checked_number(path, series, len(names))
        name = path if number == 0 else names[number]
        with quiet(), rasterio.open(name, driver=driver) as dataset:
            image = _image(DatasetPool(name, driver), dataset, limits.untiled_pixels)
    except RasterioIOError as error:
        raise OpenError(
            f"{path.name} cannot be opened as a raster: {error}.",
            "It may be damaged, or of a format this GDAL lacks: convert it to GeoTIFF.",
        ) from error
    _describe_file(image, path, number, len(names))
    if driver == "GTiff" and image.crs is None:
        plain = open_tiff(path, None, limits)
        image.pixel_size, image.unit = plain.pixel_size, plain.unit
    image.warnings += undeclared_nodata(image)
    if series is None:
        image.warnings += _other_images(path, len(names))
    return image


def _other_images(path: PathOrUrl, count: int) -> tuple[str, ...]:
    """Return the warning about the images of a file that are not shown."""
    if count < 2:
        return ()
    return (
        f"{path.name} contains {count} images; the first is shown. The others are "
        "chosen as its series.",
    )


def _checked_number(path: Path, series: int | None, count: int) -> int:
    number = 0 if series is None else series
    if not 0 <= number < count:
        raise OpenError(
            f"{path.name} has no image number {number}.",
            f"It has {count}, counted from 0.",
        )
    return number


def _describe_file(image: Image, path: Path, number: int, count: int) -> None:
    """Set the name, the path, the fingerprint and the series of an image."""
    image.name = path.name if number == 0 else f"{path.name} {number}"
    image.path = path
    image.fingerprint = fingerprint_file(path) + (f"-{number}" if number else "")
    if count > 1:
        image.series = tuple(f"image {i}" for i in range(count))
        image.series_number = number


def _has_plain_colors(path: Path) -> bool:
    """Return whether GDAL gives the samples of a TIFF file as they are displayed.

    It does not invert, rotate, or convert from other colour spaces. Files with the
    tags of GeoTIFF or GDAL are always read by GDAL.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            if {int(tag.code) for tag in page.tags} & GEO_TAGS:
                return True
            upright = page.tags.valueof(ORIENTATION, 1) == 1
            jpeg = page.photometric == YCBCR and page.compression == JPEG
            return upright and (page.photometric in (GREY, RGB, PALETTE) or jpeg)
    except Exception:  # noqa: BLE001  GDAL may read what tifffile cannot
        return True


def _placed(image: Image, dataset: Any) -> Image:
    """Return an image of another reader with the position from files beside it."""
    rotated = dataset.tags().get("EXIF_Orientation", "1") != "1"
    if rotated or image.shape != dataset.shape:
        image.warnings += (
            "The position of this image is not used, because its orientation tag "
            "rotates it. Rotate it with gdalwarp, or remove the tag.",
        )
        return image
    place(image, dataset)
    image.warnings += tuple(raster_warnings(image, dataset))
    if _has_mask(dataset) and not image.masks and image.alpha is None:
        image.warnings += (
            "The mask in the file beside this image is not used: what it hides shows. "
            "Convert the image with gdal_translate -co TILED=YES.",
        )
    return image


def _at_url(path: PathOrUrl, series: int | None, limits: Limits) -> Image:
    """Open a GeoTIFF at a URL: tifffile reads its pixels, GDAL parses its tags.

    GDAL reads through fsspec too, but not yet from several threads.
    """
    import rasterio
    import tifffile

    document = open_document(path)
    split_pages(document)
    image = image_of_document(document, 0 if series is None else series, limits)
    with tifffile.TiffFile(for_tifffile(path)) as tif:
        page = tif.pages[document.series[image.series_number].pages[0].index]
        tags = [(t.code, t.dtype, t.count, t.value, True)
                for t in page.tags if t.code in EVERY_GEO_TAG]  # fmt: skip
        masked = any(p.subfiletype & 4 for p in tif.pages)
        samples = int(page.samplesperpixel)
        small = io.BytesIO()  # the same tags, and one pixel
        tifffile.imwrite(
            small, np.zeros((samples, 1, 1), page.dtype), photometric="minisblack",
            planarconfig="separate" if samples > 1 else None, metadata=None,
            extratags=tags,
        )  # fmt: skip
    with (
        quiet(),
        rasterio.MemoryFile(small.getvalue()) as memory,
        memory.open(driver="GTiff") as dataset,
    ):
        place(image, dataset)
        image.warnings += tuple(raster_warnings(image, dataset))
    if masked and not image.masks:
        image.warnings += (
            "The mask in this file is not read from its URL: what it hides shows.",
        )
    if series is None:
        image.warnings += _other_images(path, len(document.series))
    return image


def _image(files: DatasetPool, dataset: Any, untiled_pixels: int) -> Image:
    """Return the image of an open dataset; its name is not set."""
    if not dataset.count:
        raise OpenError(
            f"{Path(dataset.name).name} contains no bands, but "
            f"{len(dataset.subdatasets)} rasters.",
            "Open one of them: extract it with gdal_translate.",
        )
    if dataset.count > MOST_BANDS:
        raise RefusedError(
            f"{Path(dataset.name).name} states {formatted(dataset.count)} bands; at "
            "most "
            f"{formatted(MOST_BANDS)} can be opened.",
            "If the file is not damaged, extract bands with gdal_translate -b.",
        )
    found, position = colors(dataset), georeference(dataset)
    together = dataset.count <= MAX_BANDS_PER_CHUNK or found.is_associated
    large = dataset.width * dataset.height > untiled_pixels
    strips = bool(large and dataset.block_shapes[0][1] == dataset.width)
    count = 0 if strips else len(dataset.overviews(1))
    levels = [RasterLevel(files, dataset, i, together) for i in range(-1, count)]
    sources: list[LevelSource] = list(levels)
    table = found.table
    if table is not None:
        sources = [palette(SingleBand(x), lookup_table(table)) for x in levels]
    elif found.alpha is not None and found.is_associated:
        sources = [unassociated(level, found.alpha) for level in levels]
    image = Image(
        name="",
        sources=[_to_tile(sources[0])] if strips else sources,
        source_axes="yxs" if table is not None or together else "cyx",
        bands=_bands(dataset, found),
        rgb_bands=found.rgb_bands if table is None else (0, 1, 2),
        alpha=found.alpha if table is None else 3,
        value_range=found.value_range if table is None else None,
        masks=_masks(files, dataset, levels),
        pixel_size=position.pixel_size,
        unit=position.unit,
        crs=position.crs,
        affine=position.affine,
        colormap=table,
        indices=None if table is None else SingleBand(levels[0]),
    )
    image.warnings = (NOT_TILED,) if strips else ()
    image.warnings += tuple(raster_warnings(image, dataset))
    return image


def _bands(dataset: Any, found: Colors) -> tuple[Band, ...]:
    """Return the bands without alpha; default bands for a colour table."""
    if found.table is not None:
        return ()
    return bands_of(dataset, {i: found.kinds[i] for i in found.bands})


def _to_tile(source: LevelSource) -> PendingLevel:
    """Return a large level in strips as a level that is grey until it is converted."""
    chunks = tuple(512 if n > 512 else n for n in source.shape)
    if len(chunks) == 3 and source.chunks[0] == 1:  # one chunk per band
        chunks = (1, *chunks[1:])
    strips = CachedSource(source)
    return PendingLevel(source.shape, source.dtype, chunks, untiled_source=strips)


def _masks(
    files: DatasetPool, dataset: Any, levels: list[RasterLevel]
) -> list[LevelSource]:
    """Return the masks of the levels if all bands share a mask that is not alpha."""
    return [GdalMask(files, level) for level in levels] if _has_mask(dataset) else []


def _has_mask(dataset: Any) -> bool:
    """Return whether all bands share a mask that is not alpha."""
    flags = {flag.name for flag in dataset.mask_flag_enums[0]}
    return "per_dataset" in flags and "alpha" not in flags
