"""Export of a tissue mask as a GeoJSON file or a PNG picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_uhrseg.errors import ExportError
from napari_uhrseg.types import TissueMask

SUFFIXES = (".geojson", ".json", ".png")


def check_suffix(path: Path) -> None:
    """Raise ExportError if a mask cannot be written to a file of this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError(
            f"{path.name} is neither a GeoJSON nor a PNG file.",
            "Choose a name that ends in .geojson or .png.",
        )


def write_mask(mask: TissueMask, path: Path) -> None:
    """Write a mask to a new file.

    PNG has one pixel per pixel of the mask, 255 for tissue. GeoJSON has polygons in
    level-0 pixels, y downwards, which QuPath, ``--roi`` and ``correct`` read.

    Raises
    ------
    ExportError
        If the suffix is neither that of GeoJSON nor of PNG.
    """
    check_suffix(path)
    if path.suffix.lower() == ".png":
        from PIL import Image as Picture

        Picture.fromarray(mask.pixels.astype(np.uint8) * 255).save(path, "PNG")
        return
    path.write_text(json.dumps(_features(mask)), encoding="utf-8")


def _features(mask: TissueMask) -> dict[str, Any]:
    from rasterio import Affine
    from rasterio.features import shapes

    pixels = mask.pixels.astype(np.uint8)
    found = shapes(pixels, mask=mask.pixels, transform=Affine.scale(mask.factor))
    kind = {"name": "Tissue", "color": [255, 200, 0]}
    properties = {"objectType": "annotation", "classification": kind}
    height, width = mask.image_shape
    features = []
    for shape, _ in found:
        rings = [
            [[min(x, width), min(y, height)] for x, y in ring]
            for ring in shape["coordinates"]
        ]
        geometry = {"type": "Polygon", "coordinates": rings}
        features.append(
            {"type": "Feature", "geometry": geometry, "properties": properties}
        )
    return {"type": "FeatureCollection", "features": features}
