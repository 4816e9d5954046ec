"""Cloud Optimized GeoTIFF: for QGIS and all else that reads rasters through GDAL.

``cog``: class ids, 0 as nodata, with a colour table; band metadata ``CLASS_3`` names
class 3. ``confidence``: 1 (undecided) to 255 (sure), 0 as nodata. Overviews are the
store's own levels (majority, and mean). A BigTIFF from 2 GB of pixels on.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_uhrseg.io.export import exporter, shown_legend
from napari_uhrseg.io.export.label_pyramid import confidence_pyramid, shown_pyramid
from napari_uhrseg.io.export.tiff_writer import Tag, Tags, short, write_tiff
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

# what a coarser level has as well: its kind of colour, the colours, nodata
SHARED = {262, 284, 320, 42113}
PLACE = {33550, 33922, 34264}  # pixel scale and tie points, or a matrix
KEYS = {34735, 34736, 34737, 42112}  # the CRS; GDAL's metadata


@exporter("cog", title="GeoTIFF (COG)", suffix=".tif")
def write_cog(store: "LabelStore", path: Path, simplify: float) -> Iterator[float]:
    """The labels as a COG."""
    return _write(store, path, shown_legend(store))


@exporter("confidence", title="Confidence (GeoTIFF)", suffix=".tif")
def write_confidence(
    store: "LabelStore", path: Path, simplify: float
) -> Iterator[float]:
    """The confidence as a COG."""
    return _write(store, path, None)


def _write(store: "LabelStore", path: Path, legend: Legend | None) -> Iterator[float]:
    pyramid = confidence_pyramid(store) if legend is None else shown_pyramid(store)
    tags = _template(store, legend)
    others = {code: tag for code, tag in tags.items() if code in SHARED}
    others[254] = Tag(4, 1, b"\1\0\0\0")  # a coarser level of another
    yield from write_tiff(path, pyramid, tags, others, nested=False)


def _template(store: "LabelStore", legend: Legend | None) -> Tags:
    """The tags that GDAL gives a small raster of this place and these classes."""
    import rasterio
    import tifffile
    from rasterio.io import MemoryFile

    options: dict[str, Any] = {
        "driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8",
        "nodata": 0,
    }  # fmt: skip
    if store.crs is not None:
        options["crs"] = rasterio.CRS.from_wkt(store.crs)
    # rasterio warns of rasters that lie nowhere; then the place is not taken over
    place = store.affine or (1.0, 0.0, 1.0, 0.0, 1.0, 1.0)
    options["transform"] = rasterio.Affine(*place)
    taken = SHARED | KEYS | (PLACE if store.affine else set())
    with MemoryFile() as memory:
        with memory.open(**options) as raster:
            if legend is None:
                raster.set_band_description(1, "confidence")
            else:
                raster.write_colormap(1, {c.id: (*c.rgb, 255) for c in legend})
                raster.set_band_description(1, "class")
                raster.update_tags(1, **{f"CLASS_{c.id}": c.name for c in legend})
            raster.write(np.zeros((1, 1, 1), np.uint8))
        data = bytes(memory.getbuffer())
    with tifffile.TiffFile(BytesIO(data)) as tiff:
        found = {
            int(tag.code): Tag(
                int(tag.dtype),
                tag.count,
                data[tag.valueoffset : tag.valueoffset + tag.valuebytecount],
            )
            for tag in tiff.pages.first.tags
            if int(tag.code) in taken
        }
    return {**found, **_resolution(store)}


def _resolution(store: "LabelStore") -> Tags:
    """Pixels per centimetre, for what has a size and no place."""
    if store.pixel_size is None or store.unit != "micrometer":
        return {}
    found = []
    for size in store.pixel_size:
        ratio = Fraction(10_000 / size).limit_denominator(1000)
        if not 0 < ratio.numerator < 2**32:
            return {}
        found.append(struct.pack("<II", ratio.numerator, ratio.denominator))
    height, width = found
    return {282: Tag(5, 1, width), 283: Tag(5, 1, height), 296: short(3)}
