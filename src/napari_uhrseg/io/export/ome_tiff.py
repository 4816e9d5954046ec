"""OME-TIFF with its pyramid in sub-directories: for QuPath, Fiji, OMERO.

Class ids as grey values; the names stand in a map annotation, id to name.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_uhrseg.io.export import exporter, shown_legend
from napari_uhrseg.io.export.label_pyramid import shown_pyramid
from napari_uhrseg.io.export.tiff_writer import Tag, short, text, write_tiff

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

UNITS = {"micrometer": "µm", "metre": "m"}


@exporter("ome-tiff", title="OME-TIFF", suffix=".ome.tif")
def write_ome_tiff(store: "LabelStore", path: Path, simplify: float) -> Iterator[float]:
    """The labels as an OME-TIFF."""
    grey = {262: short(1), 284: short(1)}
    first = {
        **grey,
        270: text(_xml(store)),
        305: text("napari-uhrseg"),
    }
    others = {**grey, 254: Tag(4, 1, b"\1\0\0\0")}
    yield from write_tiff(path, shown_pyramid(store), first, others, nested=True)


def _xml(store: "LabelStore") -> str:
    import tifffile

    height, width = store.shape
    said: dict[str, Any] = {
        "Name": store.path.stem,
        "MapAnnotation": {str(c.id): c.name for c in shown_legend(store)},
    }
    if store.pixel_size is not None and store.unit in UNITS:
        for axis, size in zip("YX", store.pixel_size, strict=True):
            said[f"PhysicalSize{axis}"] = size
            said[f"PhysicalSize{axis}Unit"] = UNITS[store.unit]
    xml = tifffile.OmeXml()
    xml.addimage(
        "uint8", (height, width), (1, 1, 1, height, width, 1), axes="YX", **said
    )
    return str(xml.tostring())
