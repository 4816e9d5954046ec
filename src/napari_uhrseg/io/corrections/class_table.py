"""Names of the values of a mask, from the metadata of its file.

The exports of this program contain such a table: OME-TIFF as a map annotation, OME-Zarr
as the properties of the label image, GeoTIFF as band metadata ``CLASS_3``.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from napari_uhrseg.io.paths import PathOrUrl, to_path

NAME_KEYS = ("class", "name", "class_name", "label")  # of a label's properties
GDAL_METADATA = 42112  # TIFF tag
MAX_JSON_BYTES = 1 << 26

ClassNames = dict[int, str]


def read_class_table(path: Path | str) -> ClassNames:
    """Return the class name of each value; empty if the file contains no names."""
    where = to_path(path)
    try:
        if isinstance(where, Path) and where.is_file():
            return _of_tiff(where)
        return _of_zarr(where)
    # `open_image` reports files that cannot be read
    except (OSError, ValueError, KeyError, TypeError, AttributeError,
            RecursionError, ElementTree.ParseError,
            tifffile.TiffFileError):  # fmt: skip
        return {}


def _of_tiff(path: Path) -> ClassNames:
    with tifffile.TiffFile(path) as tif:
        found = _of_ome(tif.ome_metadata) if tif.is_ome else {}
        return found or _of_gdal(tif.pages.first.tags.valueof(GDAL_METADATA))


def _of_ome(xml: str | None) -> ClassNames:
    """Return the first map annotation whose keys are all whole numbers."""
    for element in ElementTree.fromstring(xml or ""):
        if _local(element) != "StructuredAnnotations":
            continue
        for annotation in element:
            pairs = [(m.get("K", ""), m.text or "") for m in _entries(annotation)]
            if pairs and all(re.fullmatch(r"\d{1,9}", key) for key, _ in pairs):
                return {int(key): name for key, name in pairs if name}
    return {}


def _entries(annotation: Any) -> Iterator[Any]:
    return (part for part in annotation.iter() if _local(part) == "M")


def _local(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _of_gdal(xml: Any) -> ClassNames:
    if not isinstance(xml, str):
        return {}
    found = {}
    for item in ElementTree.fromstring(xml.strip("\0 \n")).iter("Item"):
        match = re.fullmatch(r"CLASS_(\d{1,9})", item.get("name", ""))
        if match and item.get("sample", "0") == "0" and item.text:
            found[int(match[1])] = item.text
    return found


def _of_zarr(folder: PathOrUrl) -> ClassNames:
    for name in ("zarr.json", ".zattrs"):
        file = folder / name
        if file.is_file() and file.stat().st_size <= MAX_JSON_BYTES:
            data = json.loads(file.read_text(encoding="utf-8"))
            attributes = data.get("attributes", {}) if name == "zarr.json" else data
            own = attributes.get("ome", attributes)
            return dict(_properties(own.get("image-label", {}).get("properties") or ()))
    return {}


def _properties(entries: Any) -> Iterator[tuple[int, str]]:
    for entry in entries:
        value = entry.get("label-value")
        name = next((entry[k] for k in NAME_KEYS if entry.get(k)), None)
        if isinstance(value, int) and name is not None:
            yield value, str(name)
