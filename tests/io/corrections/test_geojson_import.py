"""Reading polygons from GeoJSON files."""

import json

import numpy as np
import pyogrio
import pytest
import shapely

from helpers.label_stores import FakeImage
from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.corrections.geojson_import import parse_geojson
from napari_uhrseg.io.corrections.polygon_features import ClassField
from napari_uhrseg.io.corrections.polygon_import import (
    read_polygon_file,
    read_polygons,
)
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


@pytest.mark.parametrize("code", ["1e308", "9" * 30, "0", "x"])
def test_code_that_names_no_coordinate_system_is_reported(tmp_path, code):
    crs = {"type": "name", "properties": {"name": f"EPSG:{code}"}}
    data = collection(feature([SQUARE]), crs=crs)
    with pytest.raises(OpenError, match=f"coordinate system 'EPSG:{code}'.* unknown"):
        read_polygons(write(tmp_path, data), PIXELS)


def test_unreadable_geojson_is_reported(tmp_path):
    with pytest.raises(OpenError, match="cannot be read: No such file"):
        read_polygons(tmp_path / "missing.geojson", PIXELS)
    (tmp_path / "binary.geojson").write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(OpenError, match="is not GeoJSON"):
        read_polygons(tmp_path / "binary.geojson", PIXELS)


def test_derived_class_of_slide_viewer_has_all_its_names(tmp_path):
    derived = feature([SQUARE], classification={"names": ["Tumor", "Positive"]})
    ((_, name),) = read_polygons(write(tmp_path, derived), PIXELS)
    assert name == "Tumor: Positive"


def test_features_without_area_are_counted(tmp_path):
    data = collection(
        {"type": "Feature", "properties": {}},
        {"type": "Feature", "geometry": None, "properties": None},
        feature([5, 5], "Point"),
        feature([SQUARE]),
        feature([box(900, 0, 950, 9)], name="far"),
    )
    found = read_polygon_file(write(tmp_path, data), PIXELS)
    assert list(found.skipped.values()) == [2, 1]
    assert (len(found.features), found.outside) == (1, ("far",))
    first, second, third = found.notes("scene")
    assert first == "Skipped: 2 features without a geometry."
    assert second.startswith("Skipped: 1 feature without an area")
    assert third == "Skipped: 1 of 2 features lies beside scene."


@pytest.mark.parametrize(
    "ring",
    [
        [[10, 10], [60, 10], [10, 10], [10, 10]],
        [[11.1, 48.1], [11.2, 48.2], [11.3, 48.3], [11.1, 48.1]],
        [[5, 5], [5, 5], [5, 5], [5, 5]],
    ],
)
def test_polygon_without_area_is_not_reported_as_beside_the_image(tmp_path, ring):
    with pytest.raises(OpenError, match=r"no polygons \(1 without an area"):
        read_polygons(write(tmp_path, collection(feature([ring]))), PIXELS)


def test_feature_keeps_its_name_or_identifier(tmp_path):
    two = {"type": "MultiPolygon", "coordinates": [[SQUARE], [HOLE]]}
    data = collection(
        feature([SQUARE], NAME="north", id=7),
        feature([SQUARE], name="north", id=8),
        {**feature([SQUARE], **{"class": "wheat"}), "id": "P-17"},
        {"type": "Feature", "geometry": two, "properties": {"parcel_id": 4.0}},
    )
    found = read_polygon_file(write(tmp_path, data), PIXELS)
    titles = [f.title for f in found.features]
    assert titles == ["north", "north (2)", "P-17 wheat", "4"]
    assert [len(f.region.polygons) for f in found.features] == [1, 1, 1, 2]
    same = collection(*({**feature([SQUARE]), "id": "annotation"} for _ in range(2)))
    found = read_polygon_file(write(tmp_path, same), PIXELS)
    assert [f.title for f in found.features] == ["1", "2"]


def test_identifier_is_kept_if_other_features_have_none(tmp_path):
    data = collection(
        feature([SQUARE], name="north"), feature([SQUARE], id="B7"), feature([SQUARE])
    )
    found = read_polygon_file(write(tmp_path, data), PIXELS)
    assert [f.title for f in found.features] == ["north", "B7", "3"]


def test_entry_that_is_no_feature_is_an_error_in_words(tmp_path):
    data = collection(feature([SQUARE]), 5)
    with pytest.raises(OpenError, match="an entry that is not a feature"):
        read_polygon_file(write(tmp_path, data), PIXELS)


def test_latitude_first_is_named_as_the_cause(ortho, tmp_path):
    turned = [[y, x] for x, y in box(15.001, 52.343, 15.002, 52.344)]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}
    path = write(tmp_path, collection(feature([turned]), crs=crs))
    with pytest.raises(OpenError, match=r"1 feature .* lies beside ortho.tif") as said:
        read_polygons(path, ortho)
    assert "latitude first" in said.value.hint


@pytest.mark.parametrize(
    ("code", "ring", "reason"),
    [
        (4326, box(15, 91, 16, 92), "Invalid latitude"),
        (4326, box(500_000, 5_800_000, 500_100, 5_800_100), "Invalid l"),
        (3857, box(0, 0, 1e30, 9), r"a coordinate is 1e\+30"),  # PROJ never returns
    ],
)
def test_coordinates_outside_their_system_are_rejected(
    ortho, tmp_path, code, ring, reason
):
    crs = {"type": "name", "properties": {"name": f"EPSG:{code}"}}
    path = write(tmp_path, collection(feature([ring]), crs=crs))
    with pytest.raises(OpenError, match=rf"EPSG:{code}: .*{reason}"):
        read_polygons(path, ortho)


def test_exchanged_longitudes_above_ninety_are_beside_the_image(ortho, tmp_path):
    crs = {"type": "name", "properties": {"name": "EPSG:4326"}}
    data = collection(feature([box(120, 10, 121, 11)]), crs=crs)
    with pytest.raises(OpenError, match=r"lies beside ortho.tif"):
        read_polygons(write(tmp_path, data), ortho)


@pytest.mark.parametrize(
    "name",
    [
        "http://127.0.0.1:9/crs",
        "/etc/hostname",
        "+proj=utm +zone=33 +nadgrids=http://127.0.0.1:9/grid",
        "EPSG:999999",
        "nonsense",
    ],
)
def test_coordinate_system_that_is_no_code_is_refused(ortho, tmp_path, name):
    crs = {"type": "name", "properties": {"name": name}}
    with pytest.raises(OpenError, match="is unknown"):
        read_polygons(write(tmp_path, collection(feature([SQUARE]), crs=crs)), ortho)


@pytest.mark.parametrize(
    "name",
    [
        "EPSG:4326",
        "urn:ogc:def:crs:OGC:1.3:CRS84",
        "http://www.opengis.net/def/crs/EPSG/0/4326",
    ],
)
def test_coordinate_system_is_named_by_code_or_uri(ortho, tmp_path, name):
    ring = box(15.001, 52.343, 15.002, 52.344)
    crs = {"type": "name", "properties": {"name": name}}
    found = read_polygon_file(
        write(tmp_path, collection(feature([ring]), crs=crs)), ortho
    )
    assert (len(found.features), found.guess) == (1, "")


def test_guessed_coordinates_are_reported(ortho, tmp_path):
    ring = box(-20, 400, 300, 1200)  # no degrees
    found = read_polygon_file(write(tmp_path, feature([ring])), ortho)
    assert "are read as pixels" in found.notes("ortho.tif")[-1]
    ring = box(15.001, 52.343, 15.002, 52.344)  # no pixels
    assert not read_polygon_file(write(tmp_path, feature([ring])), ortho).notes("x")


def vector_file(path, crs, shapes, layer="plots", **more):
    pyogrio.raw.write(
        path,
        np.array(shapely.to_wkb(shapes), object),
        [np.array([f"plot {i}" for i in range(len(shapes))], object)],
        np.array(["NAME"]),
        geometry_type="Unknown" if path.suffix == ".gpkg" else "Polygon",
        crs=crs,
        layer=layer,
        **more,
    )
    return path


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("name", ["a.gpkg", "a.shp"])
def test_geopackage_and_shapefile_are_read(ortho, tmp_path, name):
    plot = shapely.box(500_100, 5_799_800, 500_300, 5_799_900)
    far = shapely.box(0, 0, 1, 1)
    path = vector_file(tmp_path / name, "EPSG:32633", [plot, far, None])
    found = read_polygon_file(path, ortho)
    (kept,) = found.features
    assert (kept.title, found.outside) == ("plot 0", ("plot 1",))
    assert dict(found.skipped) == {"without a geometry": 1}
    assert kept.region.bounds == Roi(100, 100, 100, 200)
    assert found.guess == ""
    path.unlink()
    path = vector_file(tmp_path / name, None, [plot])
    (tmp_path / "a.prj").unlink(missing_ok=True)
    found = read_polygon_file(path, ortho)
    assert found.features[0].region.bounds == Roi(100, 100, 100, 200)
    assert "system of the image" in found.guess


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("field", [None, "class"])
def test_numbers_of_classes_have_no_decimal_places(ortho, tmp_path, field, dtype):
    shapes = [shapely.box(500_100 + 10 * i, 5_799_800, 500_108 + 10 * i, 5_799_900)
              for i in range(3)]  # fmt: skip
    values = np.array([4, 2.5, np.nan], dtype)
    pyogrio.raw.write(
        tmp_path / "a.gpkg", np.array(shapely.to_wkb(shapes), object), [values],
        np.array(["class"]), geometry_type="Polygon", crs="EPSG:32633",
    )  # fmt: skip
    found = read_polygon_file(tmp_path / "a.gpkg", ortho, ClassField(field))
    assert [f.class_name for f in found.features] == ["4", "2.5", None]


def test_geopackage_with_two_layers_or_other_content_is_refused(ortho, tmp_path):
    plot = [shapely.box(500_100, 5_799_800, 500_300, 5_799_900)]
    path = vector_file(tmp_path / "a.gpkg", "EPSG:32633", plot)
    vector_file(path, "EPSG:32633", plot, "more, of it", append=True)
    with pytest.raises(OpenError, match="2 layers of geometries: 'plots', 'more, of"):
        read_polygons(path, ortho)
    for name in ("b.gpkg", "b.shp"):
        (tmp_path / name).write_text("<OGRVRTDataSource/>")
        with pytest.raises(OpenError, match="is not a"):
            read_polygons(tmp_path / name, ortho)
        (tmp_path / name).unlink()
        with pytest.raises(OpenError, match="cannot be read: No such file"):
            read_polygons(tmp_path / name, ortho)


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "GeometryCollection", "geometries": [' * 900,
        "[" * 5000 + "]" * 5000,
    ],
)
def test_deeply_nested_file_is_refused(tmp_path, text):
    path = tmp_path / "deep.geojson"
    path.write_text(text)
    with pytest.raises(OpenError, match="not GeoJSON"):
        parse_geojson(path)
