"""Class shares as columns of the regions' own file, read back by pyogrio and json."""

import json

import numpy as np
import pyogrio
import pytest
import shapely

from helpers.export_stores import LEGEND
from helpers.label_stores import FakeImage
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.measure.region_shares import write_region_shares

AFFINE = (2.0, 0.0, 500_000.0, 0.0, -2.0, 5_300_000.0)
CRS = "EPSG:32632"
BOXES = [(0, 0, 20, 10), (10, 0, 30, 20), (500, 500, 510, 510)]  # x0, y0, x1, y1 in px


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """60 x 40 pixels of 2 m: 15 columns of road, 10 of lake, then nothing."""
    import rasterio

    about = FakeImage(
        (40, 60), pixel_size=(2.0, 2.0), unit="metre", affine=AFFINE,
        crs=rasterio.CRS.from_string(CRS).to_wkt(),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("s") / "labels.zarr"
    with LabelStore.create(path, about, LEGEND) as made:
        made.prediction[0][:, :15] = 1
        made.prediction[0][:, 15:25] = 2
        yield made


def on_the_map(box):
    x0, y0, x1, y1 = box
    a, _, c, _, e, f = AFFINE
    return shapely.box(a * x0 + c, e * y1 + f, a * x1 + c, e * y0 + f)


def write_regions(path, driver):
    pyogrio.raw.write(
        path,
        geometry=np.asarray(shapely.to_wkb([on_the_map(b) for b in BOXES]), object),
        field_data=[np.array(["a", "b", "far"], object), np.array([7, 8, 9])],
        fields=np.array(["name", "owner"], object),
        layer="parcels", driver=driver, geometry_type="Polygon", crs=CRS,
    )  # fmt: skip
    return path


def check(fields):
    assert fields["name"].tolist() == ["a", "b", "far"]
    assert fields["owner"].tolist() == [7, 8, 9]
    nan = np.nan
    expected = {
        "labelled": [1, 0.75, nan],
        "share_road": [0.75, 1 / 3, nan], "area_m2_road": [600, 400, nan],
        "objects_road": [1, 1, nan],
        "share_lake": [0.25, 2 / 3, nan], "area_m2_lake": [200, 800, nan],
        "objects_lake": [1, 1, nan],
        "share_pond": [0, 0, nan], "area_m2_pond": [0, 0, nan],
        "objects_pond": [0, 0, nan],
    }  # fmt: skip
    assert list(fields) == ["name", "owner", *expected]
    for name, values in expected.items():
        np.testing.assert_allclose(fields[name].astype(float), values, err_msg=name)


def read(path):
    meta, fids, geometry, columns = pyogrio.raw.read(path, return_fids=True)
    shapes = shapely.from_wkb(geometry)
    return meta, dict(zip(meta["fields"], columns, strict=True)), shapes, fids


@pytest.mark.parametrize(
    ("suffix", "driver"), [("gpkg", "GPKG"), ("shp", "ESRI Shapefile")]
)
def test_layers_get_fields(store, tmp_path, suffix, driver):
    source = write_regions(tmp_path / f"parcels.{suffix}", driver)
    *_, notes = write_region_shares(store, source, tmp_path / "out.gpkg")
    meta, fields, shapes, _ = read(tmp_path / "out.gpkg")
    check(fields)
    assert meta["crs"] == CRS
    assert pyogrio.list_layers(tmp_path / "out.gpkg")[:, 0].tolist() == ["parcels"]
    assert shapely.equals(shapes, [on_the_map(b) for b in BOXES]).all()
    assert "Without values: 'far'." in notes


def test_a_file_gets_its_own_fields_again(store, tmp_path):
    """A second run changes the values and adds no fields."""
    path = write_regions(tmp_path / "parcels.gpkg", "GPKG")
    for _ in range(2):
        list(write_region_shares(store, path, path, overwrite=True))
    check(read(path)[1])
    # the spatial index still finds the features
    box = on_the_map(BOXES[1]).bounds
    assert len(pyogrio.raw.read(path, bbox=box)[2]) == 2


def test_geojson_keeps_all_members(store, tmp_path):
    features = [
        {"type": "Feature", "id": "x", "geometry": None, "properties": {"n": 1}},
        {
            "type": "Feature", "id": "y", "properties": None, "foreign": [1],
            "geometry": shapely.geometry.mapping(on_the_map(BOXES[0])),
        },
    ]  # fmt: skip
    crs = {"type": "name", "properties": {"name": CRS}}
    data = {"type": "FeatureCollection", "crs": crs, "features": features, "more": 1}
    source = tmp_path / "regions.geojson"
    source.write_text(json.dumps(data))
    *_, notes = write_region_shares(store, source, tmp_path / "out.geojson")
    found = json.loads((tmp_path / "out.geojson").read_text())
    assert found["more"] == 1
    assert found["features"][0] == features[0]
    second = found["features"][1]
    assert (second["id"], second["foreign"]) == ("y", [1])
    assert second["properties"]["share_road"] == 0.75
    assert second["properties"]["area_m2_lake"] == 200
    assert any("without a geometry" in note for note in notes)


def test_other_suffixes_are_refused(store, tmp_path):
    source = write_regions(tmp_path / "parcels.gpkg", "GPKG")
    with pytest.raises(ExportError, match=r"does not end in \.gpkg"):
        list(write_region_shares(store, source, tmp_path / "out.geojson"))
    with pytest.raises(ExportError, match="exists already"):
        list(write_region_shares(store, source, source))
