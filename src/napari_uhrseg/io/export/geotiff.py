"""Exporters of Cloud Optimized GeoTIFF (COG), for QGIS and other GDAL programs.

``cog``: class ids, 0 as nodata, with a colour table. Band metadata ``CLASS_3`` names
class 3. A raster attribute table beside the file (``.aux.xml``) has the names and
colours of all classes. ``confidence``: 1 (undecided) to 255 (certain), 0 as nodata.
Overviews are the levels of the store (majority for labels, mean for confidence). Files
with over 2 GB of pixels are BigTIFF.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_uhrseg.io.export.label_pyramid import confidence_pyramid, shown_pyramid
from napari_uhrseg.io.export.qgis_style import write_attribute_table
from napari_uhrseg.io.export.registry import (
    Format,
    WriteOptions,
    register_exporter,
    shown_legend,
)
from napari_uhrseg.io.export.tiff_writer import Tag, Tags, TiffLayout, short, write_tiff
from napari_uhrseg.types import Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

# tags of coarser levels, too: photometric interpretation, colour table, nodata
SHARED = {262, 284, 320, 42113}
PLACE = {33550, 33922, 34264}  # pixel scale and tie points, or a matrix
KEYS = {34735, 34736, 34737, 42112}  # the CRS; GDAL's metadata


def _write_cog(
    store: "LabelStore", path: Path, options: WriteOptions
) -> Iterator[float]:
    """Write the displayed labels as a COG with a colour table."""
    return _write(store, path, options, shown_legend(store))


def _write_confidence(
    store: "LabelStore", path: Path, options: WriteOptions
) -> Iterator[float]:
    """Write the confidence as a COG."""
    return _write(store, path, options, None)


def _write(
    store: "LabelStore", path: Path, options: WriteOptions, legend: Legend | None
) -> Iterator[float]:
    pyramid = confidence_pyramid(store) if legend is None else shown_pyramid(store)
    tags = _template(store, legend)
    others = {code: tag for code, tag in tags.items() if code in SHARED}
    others[254] = Tag(4, 1, b"\1\0\0\0")  # a coarser level of another
    layout = TiffLayout(tags, others, False, options.limits.bigtiff_bytes)
    yield from write_tiff(path, pyramid, layout)


def _template(store: "LabelStore", legend: Legend | None) -> Tags:
    """Return the tags of a small raster that GDAL writes with the same metadata."""
    import rasterio
    import tifffile
    from rasterio.io import MemoryFile

    options: dict[str, Any] = {
        "driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8",
        "nodata": 0,
    }  # fmt: skip
    if store.crs is not None:
        options["crs"] = rasterio.CRS.from_wkt(store.crs)
    # avoids rasterio's warning for a missing transform; these tags are not copied
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
    """Return the resolution in pixels per centimetre, for sizes in micrometres."""
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


_GeoTiff = partial(Format, suffix=".tif", other_suffixes=(".tiff",), stores_crs=True)
register_exporter(
    _GeoTiff(
        "cog",
        "GeoTIFF (COG)",
        write=_write_cog,
        save_suffix=".cog.tif",
        beside=write_attribute_table,
    )
)
register_exporter(
    _GeoTiff("confidence", "Confidence (GeoTIFF)", write=_write_confidence)
)
