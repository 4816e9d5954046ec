"""Reading polygons from GeoJSON files."""

import json

import numpy as np
import pytest

from helpers.label_stores import FakeImage
from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.corrections.geojson_import import read_polygons
from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Polygon, Roi

SQUARE = [[10, 20], [110, 20], [110, 80], [10, 80], [10, 20]]
HOLE = [[40, 40], [60, 40], [60, 60], [40, 60], [40, 40]]
PIXELS = FakeImage(shape=(500, 400))


def write(folder, data):
    path = folder / "shapes.geojson"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def feature(coordinates, kind="Polygon", **properties):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def collection(*features, **more):
    return {"type": "FeatureCollection", "features": list(features), **more}


def test_geojson_of_slide_viewer_is_in_pixels(tmp_path):
    """As QuPath writes them: classified objects, holes, parts, some without a class."""
    tumor = {"name": "Tumor", "color": [200, 0, 0]}
    data = collection(
        feature([SQUARE, HOLE], objectType="annotation", classification=tumor),
        feature([[SQUARE], [HOLE]], "MultiPolygon", classification=tumor),
        feature([HOLE], objectType="annotation"),
        feature([5, 5], "Point", classification=tumor),
    )
    for written in (data, data["features"]):  # it may write a bare list
        first, second, third, fourth = read_polygons(write(tmp_path, written), PIXELS)
        assert [n for _, n in (first, second, third, fourth)] == ["Tumor"] * 3 + [None]
        mask = rasterize(first[0], Roi(0, 0, 500, 400))
        assert mask.sum() == 100 * 60 - 20 * 20
        assert mask[20:80, 10:110].sum() == mask.sum()
        assert not mask[40:60, 40:60].any()
        assert second[0] == Polygon(first[0].corners)
        assert third[0] == fourth[0]


@pytest.mark.parametrize("member", [True, False])
def test_geojson_map_coordinates_become_pixels(tmp_path, member):
    from rasterio.crs import CRS
    from rasterio.warp import transform

    utm = CRS.from_epsg(32632)
    image = FakeImage(shape=(500, 400), unit="metre", crs=utm.to_wkt(),
                      affine=(0.5, 0, 400_000, 0, -0.5, 5_000_000))  # fmt: skip
    corners = np.array(SQUARE, float)
    east, north = 400_000 + 0.5 * corners[:, 0], 5_000_000 - 0.5 * corners[:, 1]
    if member:  # a GIS that names its coordinate system
        ring = np.stack([east, north], 1).tolist()
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
        data = collection(feature([ring], **{"class": "lake"}), crs=crs)
    else:  # longitude and latitude, as the standard wants
        lonlat = transform(utm, CRS.from_epsg(4326), east, north)
        data = collection(feature([np.stack(lonlat, 1).tolist()], label="lake"))
    ((polygon, name),) = read_polygons(write(tmp_path, data), image)
    assert name == "lake"
    np.testing.assert_allclose(
        [(x, y) for y, x in polygon.corners], SQUARE[:-1], atol=0.01
    )
    crs = {"type": "name", "properties": {"name": "EPSG:32632"}}
    path = write(tmp_path, collection(feature([SQUARE]), crs=crs))
    with pytest.raises(OpenError, match=r"has map coordinates .* scene has none"):
        read_polygons(path, PIXELS)


def test_geojson_pixels_on_georeferenced_image_stay_pixels(tmp_path):
    from rasterio.crs import CRS

    image = FakeImage(crs=CRS.from_epsg(32632).to_wkt(),
                      affine=(0.5, 0, 400_000, 0, -0.5, 5_000_000))  # fmt: skip
    small = [[1, 2], [50, 2], [50, 60], [1, 2]]
    for ring in (SQUARE, small):
        ((polygon, _),) = read_polygons(write(tmp_path, feature([ring])), image)
        assert [(x, y) for y, x in polygon.corners] == [tuple(p) for p in ring[:-1]]


@pytest.fixture
def ortho(tmp_path):
    """1000 x 1000 m at 15 degrees east and 52.35 degrees north, a pixel a metre."""
    import rasterio

    path = tmp_path / "ortho.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=1000, height=1000, count=1, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.Affine(1, 0, 500_000, 0, -1, 5_800_000),
    ) as file:  # fmt: skip
        file.write(np.zeros((1, 1000, 1000), np.uint8))
    return open_image(path)


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


@pytest.mark.parametrize(
    ("ring", "covered"),
    [
        (box(14.9, 52.2, 15.2, 52.5), 1.0),  # around it
        (box(14, 52, 16, 53), 1.0),  # a district
        (box(14.9, 52.34, 15.2, 52.345), 0.5),  # across it, without a corner on it
        (box(15.001, 52.343, 15.002, 52.344), 0.0075),  # on it
    ],
)
def test_geojson_degrees_around_image_are_not_pixels(ortho, tmp_path, ring, covered):
    ((polygon, _),) = read_polygons(write(tmp_path, feature([ring])), ortho)
    mask = rasterize(polygon, Roi(0, 0, 1000, 1000))
    assert mask.mean() == pytest.approx(covered, abs=0.2 * covered)


@pytest.mark.parametrize(
    "ring",
    [
        box(10, 20, 110, 80),  # in degrees around the image
        box(0, 0, 30, 60),
        box(-20, 400, 300, 1200),  # partly beside it, and no degrees
        box(170, 2, 178, 9),  # in degrees where its map has no coordinates
    ],
)
def test_geojson_pixels_that_could_be_degrees_stay_pixels(ortho, tmp_path, ring):
    ((polygon, _),) = read_polygons(write(tmp_path, feature([ring])), ortho)
    assert [[x, y] for y, x in polygon.corners] == ring[:-1]


@pytest.mark.parametrize(
    "ring",
    [
        box(500_100, 5_799_200, 500_300, 5_799_500),  # of the map, and no crs member
        box(15.5, 52.3, 15.6, 52.4),  # the next village
        box(-60, -20, -40, -10),  # another country
    ],
)
def test_geojson_outside_image_is_rejected(ortho, tmp_path, ring):
    path = write(tmp_path, feature([ring]))
    with pytest.raises(OpenError, match=r"do not overlap ortho.tif") as told:
        read_polygons(path, ortho)
    assert "crs member" in told.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not GeoJSON"),
        ("<kml></kml>", "is not GeoJSON"),
        ("[1, 2]", "is not GeoJSON"),
        ('{"type": "Topology"}', "Topology is not a GeoJSON type"),
        ('{"features": []}', "is not GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "contains no polygons"),
        (json.dumps(feature([1, 2], "Point")), "contains no polygons"),
        (json.dumps(feature([[[1, 2], [3, 4], [1, 2]]])), "contains no polygons"),
        (json.dumps(feature([[["a", 2], [3, 4], [1, 2]]])), "is not GeoJSON"),
        (json.dumps(feature([[[1], [3], [2], [1]]])), "is not GeoJSON"),
        (json.dumps(feature(7)), "is not GeoJSON"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 3], [4, 5]]]}',
         "is not a number"),
        (json.dumps(collection(feature([SQUARE]), crs={"type": "link"})),
         "names its coordinate system in an unknown form"),
    ],
)  # fmt: skip
def test_invalid_geojson_is_reported(tmp_path, text, message):
    with pytest.raises(OpenError, match=message):
        read_polygons(write(tmp_path, text), PIXELS)


def test_unreadable_geojson_is_reported(tmp_path):
    with pytest.raises(OpenError, match="cannot be read: No such file"):
        read_polygons(tmp_path / "missing.geojson", PIXELS)
    (tmp_path / "binary.geojson").write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(OpenError, match="is not GeoJSON"):
        read_polygons(tmp_path / "binary.geojson", PIXELS)
