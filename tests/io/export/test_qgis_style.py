"""Styles for QGIS and raster attribute tables, read back by sqlite3, GDAL and XML."""

import ctypes
import json
import sqlite3
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import pytest
import rasterio

from helpers.export_stores import LEGEND, UTM32, image
from napari_uhrseg.io.export import export
from napari_uhrseg.io.labels.store import LabelStore

COLORS = {"road": "255,128,0,255", "lake": "0,0,255,255", "pond": "0,255,255,255"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "labels.zarr"
    with LabelStore.create(path, image(UTM32), LEGEND) as made:
        made.prediction[0][10:50, 10:90] = 1
        made.prediction[0][100:150, 10:90] = 2
        yield made


def check_style(text):
    """Check that each class has a category whose symbol has its colour."""
    root = ET.fromstring(text)
    renderer = root.find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == (
        "categorizedSymbol",
        "class",
    )
    symbols = {s.get("name"): s for s in renderer.find("symbols")}
    found = {}
    for category in renderer.find("categories"):
        layer = symbols[category.get("symbol")].find("layer")
        assert layer.get("class") == "SimpleFill"
        (color,) = (o for o in layer.iter("Option") if o.get("name") == "color")
        found[category.get("value")] = color.get("value")
        assert category.get("label") == category.get("value")
    assert found == COLORS


def test_geopackage_has_a_default_style(store, tmp_path):
    path = tmp_path / "a.gpkg"
    list(export(store, path, "geopackage"))
    connection = sqlite3.connect(path)
    (row,) = connection.execute(
        "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML "
        "FROM layer_styles"
    )
    geometry = connection.execute("SELECT column_name FROM gpkg_geometry_columns")
    assert row[:3] == ("labels", *geometry.fetchone(), 1)
    connection.close()
    check_style(row[3])
    layers = pyogrio.list_layers(path)
    assert [name for name, kind in layers if kind is not None] == ["labels"]
    meta, _, _, fields = pyogrio.raw.read(path, layer="labels")
    data = dict(zip(meta["fields"], fields, strict=True))
    assert sorted(data["class"]) == ["lake", "road"]
    np.testing.assert_array_equal(data["area_m2"], data["pixels"] * 0.25)


@pytest.mark.parametrize("name", ["geojson", "geojson-projected"])
def test_geojson_has_a_style_beside_it(store, tmp_path, name):
    list(export(store, tmp_path / "a.geojson", name))
    check_style((tmp_path / "a.qml").read_text(encoding="utf-8"))
    (tmp_path / "a.qml").write_text("mine")
    list(export(store, tmp_path / "a.geojson", name, overwrite=True))
    assert (tmp_path / "a.qml").read_text() == "mine"


def attribute_table(path: Path) -> list[list[str]]:
    """Return the attribute table of a raster as GDAL reads it, with column names."""
    folder = Path(rasterio.__file__).parents[1] / "rasterio.libs"
    (library,) = folder.glob("libgdal*")
    gdal, handle = ctypes.CDLL(str(library)), ctypes.c_void_p
    for name, result, arguments in (
        ("GDALAllRegister", None, []),
        ("GDALOpen", handle, [ctypes.c_char_p, ctypes.c_int]),
        ("GDALGetRasterBand", handle, [handle, ctypes.c_int]),
        ("GDALGetDefaultRAT", handle, [handle]),
        ("GDALRATGetColumnCount", ctypes.c_int, [handle]),
        ("GDALRATGetRowCount", ctypes.c_int, [handle]),
        ("GDALRATGetNameOfCol", ctypes.c_char_p, [handle, ctypes.c_int]),
        ("GDALRATGetUsageOfCol", ctypes.c_int, [handle, ctypes.c_int]),
        ("GDALRATGetValueAsString", ctypes.c_char_p, [handle] + 2 * [ctypes.c_int]),
        ("GDALClose", None, [handle]),
    ):
        function = getattr(gdal, name)
        function.restype, function.argtypes = result, arguments
    gdal.GDALAllRegister()
    data = gdal.GDALOpen(str(path).encode(), 0)
    table = gdal.GDALGetDefaultRAT(gdal.GDALGetRasterBand(data, 1))
    columns = range(gdal.GDALRATGetColumnCount(table))
    found = [[gdal.GDALRATGetNameOfCol(table, i).decode() for i in columns]]
    found.append([str(gdal.GDALRATGetUsageOfCol(table, i)) for i in columns])
    found += [
        [gdal.GDALRATGetValueAsString(table, row, i).decode() for i in columns]
        for row in range(gdal.GDALRATGetRowCount(table))
    ]
    gdal.GDALClose(data)
    return found


def test_geotiff_has_an_attribute_table(store, tmp_path):
    list(export(store, tmp_path / "a.tif", "cog"))
    names, usages, *rows = attribute_table(tmp_path / "a.tif")
    assert names == ["Value", "Class", "Red", "Green", "Blue"]
    assert usages == ["5", "2", "6", "7", "8"]  # MinMax, Name and the colours
    assert rows == [
        ["1", "road", "255", "128", "0"],
        ["2", "lake", "0", "0", "255"],
        ["3", "pond", "0", "255", "255"],
    ]
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.crs.to_epsg() == UTM32
        assert raster.colormap(1)[1] == (255, 128, 0, 255)
        assert [Path(f).name for f in raster.files] == ["a.tif", "a.tif.aux.xml"]


def test_qupath_objects_have_measurements(tmp_path):
    about = image(pixel_size=(0.5, 0.5))
    with LabelStore.create(tmp_path / "s.zarr", about, LEGEND) as made:
        made.prediction[0][10:50, 10:90] = 1
        list(export(made, tmp_path / "q.geojson", "qupath"))
    (found,) = json.loads((tmp_path / "q.geojson").read_text())["features"]
    # QuPath 0.4 and newer write and read measurements as an object of numbers
    assert found["properties"]["measurements"] == {"Area µm^2": 800, "Pixels": 3200}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["q.geojson", "s.zarr"]
