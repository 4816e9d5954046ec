"""Polygons, read back with shapely, GDAL's vector side (pyogrio) and pyproj."""

import json

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from rasterio.features import rasterize

from helpers.export_stores import UTM32, image, make_store, truth
from helpers.label_stores import LEGEND, FakeImage
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.corrections.polygon_import import read_polygons
from napari_uhrseg.io.export import export
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.vectorize.label_strips import read_strips
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.io.vectorize.simplify import trace_polygons
from napari_uhrseg.types import Roi, Stroke


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with make_store(tmp_path_factory.mktemp("s") / "labels.zarr", image(UTM32)) as made:
        yield made


def written(store, path, format_name, **options):
    list(export(store, path, format_name, **options))
    return json.loads(path.read_text())


def shapes_of(collection):
    features = collection["features"]
    return [shapely.from_geojson(json.dumps(f["geometry"])) for f in features]


@pytest.mark.slow
def test_qupath_gets_pixels_classes_and_colours(store, tmp_path):
    found = written(store, tmp_path / "q.geojson", "qupath")
    ids = {"road": 1, "lake": 2}
    names = [f["properties"]["classification"]["name"] for f in found["features"]]
    shapes = shapes_of(found)
    assert shapely.is_valid(shapes).all()
    assert set(names) == set(ids)
    pairs = [(s, ids[n]) for s, n in zip(shapes, names, strict=True)]
    np.testing.assert_array_equal(rasterize(pairs, store.shape), truth(store))
    for name, class_id in ids.items():
        area = sum(s.area for s, n in zip(shapes, names, strict=True) if n == name)
        assert area == np.count_nonzero(truth(store) == class_id)
    road = found["features"][names.index("road")]["properties"]
    assert road["objectType"] == "annotation"
    assert road["classification"]["color"] == [255, 128, 0]
    assert any(len(s.interiors) for s in shapes)


@pytest.mark.slow
def test_polygons_in_the_images_crs(store, tmp_path):
    written(store, tmp_path / "p.geojson", "geojson-projected")
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "p.geojson")
    assert meta["crs"] == f"EPSG:{UTM32}"
    data = dict(zip(meta["fields"], fields, strict=True))
    shapes = shapely.from_wkb(geometry)
    a, b, c, d, e, f = store.affine
    again = rasterize(
        list(zip(shapes, data["class_id"].tolist(), strict=True)),
        store.shape,
        transform=(a, b, c, d, e, f),
    )
    np.testing.assert_array_equal(again, truth(store))
    assert shapely.area(shapes).sum() == np.count_nonzero(truth(store)) * 0.25
    assert data["pixels"].sum() == np.count_nonzero(truth(store))
    np.testing.assert_array_equal(data["area_m2"], data["pixels"] * 0.25)


def test_area_of_a_polygon_in_degrees_is_that_on_the_ellipsoid(tmp_path):
    affine = (1e-4, 0.0, 10.0, 0.0, -1e-4, 60.0)
    with LabelStore.create(tmp_path / "s.zarr", image(4326, affine), LEGEND) as made:
        made.prediction[0][100:2000, 50:900] = 1
        made.prediction[0][300:900, 100:500] = 0
        (feature,) = written(made, tmp_path / "g.geojson", "geojson")["features"]
    shape = shapely.from_geojson(json.dumps(feature["geometry"]))
    area = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]
    assert feature["properties"]["area_m2"] == pytest.approx(area, rel=1e-6)


@pytest.mark.slow
def test_longitude_and_latitude_by_rfc_7946(store, tmp_path):
    found = written(store, tmp_path / "g.geojson", "geojson")
    assert "crs" not in found
    shapes = shapes_of(found)
    assert all(s.exterior.is_ccw for s in shapes)
    assert not any(ring.is_ccw for s in shapes for ring in s.interiors)
    west, south, east, north = shapely.total_bounds(shapes)
    to_map = pyproj.Transformer.from_crs(4326, UTM32, always_xy=True)
    x, y = to_map.transform([west, east], [south, north])
    assert np.allclose([x[0], y[1]], store.affine[2::3], atol=0.5)
    # on the ellipsoid: the projection's areas are 0.08 % smaller in its middle
    geod = pyproj.Geod(ellps="WGS84")
    area = sum(geod.geometry_area_perimeter(s)[0] for s in shapes)
    flat = np.count_nonzero(truth(store)) * 0.25
    assert area == pytest.approx(flat / 0.9996**2, rel=1e-5)


@pytest.mark.slow
def test_our_own_import_finds_the_same_pixels(store, tmp_path):
    """What leaves as longitude and latitude comes back as corners of pixels."""
    written(store, tmp_path / "g.geojson", "geojson")
    for region, name in read_polygons(tmp_path / "g.geojson", store)[:200]:
        corners = np.asarray(region.corners)
        assert name in ("road", "lake")
        np.testing.assert_allclose(corners, np.round(corners), atol=0.02)


@pytest.mark.slow
def test_long_sides_are_divided_where_they_bend(tmp_path):
    """A side of 20 km is no straight line in degrees: it gets points in between."""
    affine = (20.0, 0.0, 400_000.0, 0.0, -20.0, 6_700_000.0)
    with make_store(tmp_path / "s.zarr", image(UTM32, affine)) as store:
        store.prediction[0][:] = 1
        store.correction[0][:] = 0
        found = written(store, tmp_path / "g.geojson", "geojson")
        (shape,) = shapes_of(found)
        to_map = pyproj.Transformer.from_crs(4326, UTM32, always_xy=True)
        back = shapely.transform(shape, lambda p: np.stack(to_map.transform(*p.T), 1))
        box = shapely.box(400_000, 6_650_000, 422_000, 6_700_000)
        assert back.hausdorff_distance(box) < 0.01
        assert len(shape.exterior.coords) > 20


@pytest.mark.slow
def test_the_geopackage(store, tmp_path):
    list(export(store, tmp_path / "a.gpkg", "geopackage"))
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "a.gpkg", layer="labels")
    assert meta["crs"] == f"EPSG:{UTM32}"
    data = dict(zip(meta["fields"], fields, strict=True))
    shapes = shapely.from_wkb(geometry)
    a, b, c, d, e, f = store.affine
    again = rasterize(
        list(zip(shapes, data["class_id"].tolist(), strict=True)),
        store.shape,
        transform=(a, b, c, d, e, f),
    )
    np.testing.assert_array_equal(again, truth(store))
    assert set(data["class"]) == {"road", "lake"}


@pytest.mark.slow
def test_a_geopackage_without_a_crs_lies_in_pixels(tmp_path):
    with make_store(tmp_path / "s.zarr") as store:
        list(export(store, tmp_path / "a.gpkg", "geopackage"))
        info = pyogrio.read_info(tmp_path / "a.gpkg", layer="labels")
        assert info["total_bounds"] == (0, -2500, 1100, 0)


@pytest.mark.slow
def test_simplified_polygons_have_fewer_corners(store, tmp_path):
    plain = written(store, tmp_path / "a.geojson", "qupath")
    fewer = written(store, tmp_path / "b.geojson", "qupath", simplify=15.0)
    plain, fewer = shapes_of(plain), shapes_of(fewer)
    assert len(plain) == len(fewer)
    assert shapely.is_valid(fewer).all()
    assert (
        shapely.get_num_coordinates(fewer).sum()
        < 0.97 * shapely.get_num_coordinates(plain).sum()
    )


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["geojson", "geojson-projected"])
def test_without_a_crs_there_are_no_places_on_the_map(tmp_path, format_name):
    with make_store(tmp_path / "s.zarr") as store:
        with pytest.raises(ExportError, match="no coordinate system") as caught:
            list(export(store, tmp_path / "a.geojson", format_name))
        assert "qupath" in caught.value.hint
        assert not (tmp_path / "a.geojson").exists()


@pytest.mark.slow
def test_an_empty_store_gives_an_empty_file(tmp_path):
    everywhere = [(row, column) for row in range(3) for column in range(2)]
    with make_store(tmp_path / "s.zarr", image(UTM32), missing=everywhere) as store:
        store.correction[0][:] = 0
        assert written(store, tmp_path / "a.geojson", "geojson")["features"] == []
        list(export(store, tmp_path / "a.gpkg", "geopackage"))
        assert pyogrio.read_info(tmp_path / "a.gpkg", layer="labels")["features"] == 0


@pytest.mark.slow
def test_polygons_of_a_store_with_few_written_chunks(tmp_path):
    """The parts without labels are not read; objects end at their borders."""
    places = [Roi(0, 1000, 30, 60), Roi(2040, 1020, 20, 9), Roi(5100, 20, 20, 8)]
    large = FakeImage(shape=(100_000, 100_000))
    with LabelStore.create(tmp_path / "labels.zarr", large, LEGEND) as store:
        with Corrections.open(store) as corrections:
            for roi in places:
                ids = np.ones((roi.height, roi.width), np.uint8)
                corrections.apply(Stroke(roi, ids > 0, ids))
        found = shapes_of(written(store, tmp_path / "a.geojson", "qupath"))
    wanted = [shapely.box(r.x, r.y, r.right, r.bottom) for r in places]
    assert list(shapely.normalize(found)) == list(shapely.normalize(wanted))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blots", "coverage_corners"),
    [
        ([Roi(1024, 1024, 500, 700), Roi(3100, 1400, 50, 648)], 2_000_000),
        ([Roi(0, 0, 300, 200), Roi(3000, 2000, 200, 200)], 2_000_000),
        ([Roi(2040, 0, 20, 2200), Roi(3199, 2199, 1, 1)], 90),
    ],
    ids=["inner", "corners", "wide"],
)
def test_simplified_polygons_do_not_depend_on_the_written_chunks(
    blots, coverage_corners, tmp_path
):
    """Objects at the border of the written chunks are those of the whole image."""
    limits = VectorLimits(coverage_corners=coverage_corners, max_corners=900)
    large, rng = FakeImage(shape=(3200, 2200)), np.random.default_rng(0)
    with LabelStore.create(tmp_path / "labels.zarr", large, LEGEND) as store:
        for roi in blots:
            coarse = rng.integers(0, 3, (roi.height // 19 + 1, roi.width // 19 + 1))
            ids = np.kron(coarse, np.ones((19, 19)))[: roi.height, : roi.width]
            store.correction[0][roi.slices] = ids.astype(np.uint8)
        options = {"simplify": 4.0, "limits": limits}
        found = written(store, tmp_path / "a.geojson", "qupath", **options)
        strips = read_strips(store, Roi(0, 0, *store.shape), limits)
        traced = [x for x in trace_polygons(strips, 4.0, limits, 255)
                  if not isinstance(x, Roi)]  # fmt: skip
    wanted = [[[*ring.tolist(), ring[0].tolist()] for ring in rings]
              for _, rings in traced]  # fmt: skip
    assert [f["geometry"]["coordinates"] for f in found["features"]] == wanted


def test_simplification_reads_only_written_chunks(tmp_path, monkeypatch):
    read, labels = [], np.ones((30, 60), np.uint8)
    read_labels = LabelStore.read_labels

    def noted(store, roi, level=0):
        read.append(roi.area)
        return read_labels(store, roi, level)

    monkeypatch.setattr(LabelStore, "read_labels", noted)
    large = FakeImage(shape=(100_000, 100_000))
    with LabelStore.create(tmp_path / "labels.zarr", large, LEGEND) as store:
        store.correction[0][70_000:70_030, 3000:3060] = labels
        found = written(store, tmp_path / "a.geojson", "qupath", simplify=2.0)
    assert shapes_of(found)[0].area == 30 * 60
    assert sum(read) < 2 * 1026 * 2050
