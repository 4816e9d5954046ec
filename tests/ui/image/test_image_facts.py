"""Test the facts of an image in the panel: position and nodata."""

import numpy as np
import rasterio

from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Band
from napari_uhrseg.ui.image.panel import facts


def test_facts_state_position_and_nodata():
    image = image_from_array(
        np.zeros((20, 30, 2), np.uint16), name="a", axes="yxs", pixel_size=(2, 2),
        unit="metre",
    )  # fmt: skip
    image.crs = rasterio.CRS.from_epsg(32633).to_wkt()
    image.affine = (2.0, 0.0, 500_000.0, 0.0, -2.0, 5_000_000.0)
    image.bands = Band("red", nodata=0), Band("nir", nodata=0)
    assert facts(image).splitlines()[1:] == [
        "2 m/px, WGS 84 / UTM zone 33N (EPSG:32633)",
        "Extent: x 500000 to 500060, y 4999960 to 5000000",
        "Nodata: 0",
    ]
    image.bands = Band("red", nodata=-1), Band("nir")
    image.affine = (0.0, -2.0, 0.0, -2.0, 0.0, 0.0)
    lines = facts(image).splitlines()
    assert lines[-2:] == ["Rotation: 90° clockwise", "Nodata: red -1"]
