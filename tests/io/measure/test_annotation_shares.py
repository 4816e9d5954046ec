"""Class shares of annotation regions, read back by pyogrio and by the importer."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from helpers.export_stores import LEGEND
from helpers.label_stores import FakeImage
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.corrections.polygon_import import read_polygon_file
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.measure.annotation_shares import write_annotation_shares
from napari_uhrseg.types import AnnotationRegion, MultiPolygon, Polygon, Roi

AFFINE = (2.0, 0.0, 500_000.0, 0.0, -2.0, 5_300_000.0)
WKT = rasterio.CRS.from_epsg(32632).to_wkt()
HOLE = ((2.0, 2.0), (2.0, 6.0), (6.0, 6.0), (6.0, 2.0))
REGIONS = (
    AnnotationRegion("a", MultiPolygon.of(Roi(0, 0, 10, 20)), locked=True),
    AnnotationRegion(
        "", MultiPolygon((Polygon(((0, 0), (0, 20), (10, 20), (10, 0)), (HOLE,)),))
    ),
)


@pytest.fixture(params=[False, True], ids=["pixels", "map"])
def store(request, tmp_path):
    """40 x 60 pixels: 15 columns of road, then lake; two rows of lake are corrected."""
    place = {"affine": AFFINE, "crs": WKT} if request.param else {}
    about = FakeImage((40, 60), pixel_size=(2.0, 2.0), unit="metre", **place)
    with LabelStore.create(tmp_path / "labels.zarr", about, LEGEND) as made:
        made.prediction[0][:, :15] = 1
        made.prediction[0][:, 15:] = 2
        made.correction[0][:2, 15:] = 2
        yield made


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_regions_have_names_locks_counts_and_shares(store, tmp_path, suffix):
    path = tmp_path / f"regions{suffix}"
    *_, notes = write_annotation_shares(store, REGIONS, path)
    assert notes == ()
    meta, _, geometry, columns = pyogrio.raw.read(path)
    fields = dict(zip(meta["fields"], columns, strict=True))
    assert list(fields)[:5] == ["name", "locked", "corrected", "labelled", "share_road"]
    assert fields["name"].tolist() == ["a", ""]
    assert fields["locked"].tolist() == [True, False]
    assert fields["corrected"].tolist() == [10, 10]
    np.testing.assert_allclose(fields["share_road"], [0.75, 134 / 184])
    np.testing.assert_allclose(fields["area_m2_lake"], [200, 200])
    assert fields["objects_road"].tolist() == [1, 1]
    areas = shapely.area(shapely.from_wkb(geometry)).tolist()
    scale = 1 if store.crs is None else 4
    assert areas == [200 * scale, 184 * scale]
    if store.crs is not None:
        assert meta["crs"] == "EPSG:32632"
    # the importer finds the same pixels
    found = read_polygon_file(path, store)
    np.testing.assert_allclose(
        found.features[1].region.polygons[0].holes[0], HOLE, atol=1e-6
    )
    assert found.guess == ""


def test_pixels_are_annotations_of_qupath(tmp_path):
    about = FakeImage((40, 60), pixel_size=(0.5, 0.5))
    path = tmp_path / "regions.geojson"
    with LabelStore.create(tmp_path / "labels.zarr", about, LEGEND) as store:
        store.prediction[0][:, :15] = 1
        list(write_annotation_shares(store, REGIONS[:1], path))
    (feature,) = json.loads(path.read_text())["features"]
    found = feature["properties"]
    # QuPath's PathObject: type, name, lock, and measurements as an object of numbers
    assert (found["objectType"], found["name"], found["isLocked"]) == (
        "annotation", "a", True,
    )  # fmt: skip
    assert found["measurements"]["share_road"] == 1
    assert all(isinstance(v, int | float) for v in found["measurements"].values())


def test_labels_of_a_clean_up_are_counted_instead(store, tmp_path):
    about = FakeImage(store.shape, pixel_size=(2.0, 2.0), unit="metre")
    path = tmp_path / "regions.geojson"
    with LabelStore.create(tmp_path / "cleaned.zarr", about, LEGEND) as cleaned:
        cleaned.prediction[0][:] = 2
        list(write_annotation_shares(store, REGIONS[:1], path, labels=cleaned))
    meta, _, _, columns = pyogrio.raw.read(path)
    fields = dict(zip(meta["fields"], columns, strict=True))
    assert (fields["share_lake"][0], fields["corrected"][0]) == (1, 10)


def test_unusable_requests_are_refused(store, tmp_path):
    with pytest.raises(ExportError, match="no annotation regions"):
        list(write_annotation_shares(store, (), tmp_path / "a.gpkg"))
    with pytest.raises(ExportError, match=r"does not end in \.gpkg"):
        list(write_annotation_shares(store, REGIONS, tmp_path / "a.shp"))
    assert not list(tmp_path.glob("a.*"))
