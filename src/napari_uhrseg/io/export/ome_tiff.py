"""Exporter of OME-TIFF with a pyramid in SubIFDs, for QuPath, Fiji and OMERO.

Pixels are class ids. A map annotation contains the names of the ids.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_uhrseg.io.export.label_pyramid import shown_pyramid
from napari_uhrseg.io.export.registry import (
    Format,
    WriteOptions,
    register_exporter,
    shown_legend,
)
from napari_uhrseg.io.export.tiff_writer import Tag, TiffLayout, short, text, write_tiff

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

UNITS = {"micrometer": "µm", "metre": "m"}


def _write_ome_tiff(
    store: "LabelStore", path: Path, options: WriteOptions
) -> Iterator[float]:
    """Write the displayed labels as an OME-TIFF."""
    grey = {262: short(1), 284: short(1)}
    first = {
        **grey,
        270: text(_xml(store)),
        305: text("napari-uhrseg"),
    }
    others = {**grey, 254: Tag(4, 1, b"\1\0\0\0")}
    layout = TiffLayout(first, others, True, options.limits.bigtiff_bytes)
    yield from write_tiff(path, shown_pyramid(store), layout)


def _xml(store: "LabelStore") -> str:
    import tifffile

    height, width = store.shape
    metadata: dict[str, Any] = {
        "Name": store.path.stem,
        "MapAnnotation": {str(c.id): c.name for c in shown_legend(store)},
    }
    if store.pixel_size is not None and store.unit in UNITS:
        for axis, size in zip("YX", store.pixel_size, strict=True):
            metadata[f"PhysicalSize{axis}"] = size
            metadata[f"PhysicalSize{axis}Unit"] = UNITS[store.unit]
    xml = tifffile.OmeXml()
    xml.addimage(
        "uint8", (height, width), (1, 1, 1, height, width, 1), axes="YX", **metadata
    )
    return str(xml.tostring())


register_exporter(
    Format(
        "ome-tiff",
        "OME-TIFF",
        ".ome.tif",
        _write_ome_tiff,
        stores_pixel_size=True,
        save_suffix=".ome.tif",
        other_suffixes=(".tiff",),
    )
)
