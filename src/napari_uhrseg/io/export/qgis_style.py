"""QGIS styles and attribute tables with the names and colours of the classes.

A style of polygons (QML) classifies the field ``class``. It is stored in the table
``layer_styles`` of a GeoPackage, and beside a GeoJSON file as a ``.qml`` file. QGIS
loads both with the layer. A raster attribute table is stored beside a GeoTIFF as
``.aux.xml``, where GDAL reads it.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from napari_uhrseg.io.export.registry import shown_legend
from napari_uhrseg.types import LabelClass, Legend

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

STYLE_NAME = "classes"
OPACITY = "0.7"
DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
# usages of columns in GDAL: values, name, red, green, blue; types: 0 integer, 2 text
RAT_COLUMNS = (
    ("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8),
)  # fmt: skip
STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
    f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT CURRENT_TIMESTAMP
)"""
"""The table as QGIS creates it."""


def polygon_style(legend: Legend) -> str:
    """Return a QGIS style that fills polygons with the colour of their ``class``."""
    root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="class", symbollevels="0",
        enableorderby="0", forceraster="0",
    )  # fmt: skip
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for number, label in enumerate(legend):
        ET.SubElement(
            categories, "category", symbol=str(number), value=label.name,
            label=label.name, render="true", type="string",
        )  # fmt: skip
        symbols.append(_fill(str(number), label))
    ET.indent(root)
    return DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def _fill(name: str, label: LabelClass) -> ET.Element:
    """Return a symbol that fills a polygon and draws a thin outline."""
    symbol = ET.Element("symbol", name=name, type="fill", alpha=OPACITY,
                        clip_to_extent="1", force_rhr="0")  # fmt: skip
    layer = ET.SubElement(
        symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0",
                          "pass": "0"},
    )  # fmt: skip
    color = ",".join(map(str, (*label.rgb, 255)))
    options = {
        "color": color, "style": "solid", "outline_color": color,
        "outline_style": "solid", "outline_width": "0.1", "outline_width_unit": "MM",
        "joinstyle": "bevel",
    }  # fmt: skip
    found = ET.SubElement(layer, "Option", type="Map")
    for key, value in options.items():
        ET.SubElement(found, "Option", type="QString", name=key, value=value)
    return symbol


def add_layer_style(path: Path, layer: str, legend: Legend) -> None:
    """Add the style of a layer of polygons to a GeoPackage, as its default style.

    Parameters
    ----------
    path
        GeoPackage without styles.
    layer
        Name of the layer.
    legend
        Classes of its polygons.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    try:
        with closing(sqlite3.connect(path)) as connection, connection:
            (column,) = connection.execute(
                "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?",
                (layer,),
            ).fetchone()
            connection.execute(STYLES)
            connection.execute(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
                "VALUES ('layer_styles', 'attributes', 'layer_styles')"
            )
            connection.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, "
                "f_table_name, f_geometry_column, styleName, styleQML, styleSLD, "
                "useAsDefault, description, owner) "
                "VALUES ('', '', ?, ?, ?, ?, '', 1, '', '')",
                (layer, column, STYLE_NAME, polygon_style(legend)),
            )
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def write_style_beside(store: "LabelStore", path: Path) -> None:
    """Write the style of a file of polygons beside it, unless there is a style."""
    target = path.with_suffix(".qml")
    if not target.exists():
        target.write_text(polygon_style(shown_legend(store)), encoding="utf-8")


def write_attribute_table(store: "LabelStore", path: Path) -> None:
    """Write the raster attribute table of a GeoTIFF beside it, and replace it."""
    target = path.with_name(path.name + ".aux.xml")
    target.write_text(attribute_table(shown_legend(store)), encoding="utf-8")


def attribute_table(legend: Legend) -> str:
    """Return GDAL's raster attribute table of the first band, as an auxiliary file."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(RAT_COLUMNS):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(field, tag).text = str(value)
    for index, label in enumerate(legend):
        row = ET.SubElement(table, "Row", index=str(index))
        for value in (label.id, label.name, *label.rgb):
            ET.SubElement(row, "F").text = str(value)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
