"""Annotation regions: their file, locks of corrections, and counts."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS

from helpers.networks import LEGEND
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.annotations.region_counts import count_corrected
from napari_uhrseg.io.corrections.annotations.regions_file import (
    FILE,
    read_regions,
    write_regions,
)
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.corrections.polygon_import import read_polygon_file
from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import AnnotationRegion, MultiPolygon, Polygon, Roi, Stroke

SHAPE = (200, 300)
WHOLE = Roi(0, 0, *SHAPE)
HOLE = ((60.0, 60.0), (60.0, 80.0), (80.0, 80.0), (80.0, 60.0))
SQUARE = Polygon(((50, 50), (50, 150), (130, 150), (130, 50)), (HOLE,))
REGION = MultiPolygon((SQUARE, Polygon(((0.5, 0), (0, 9.5), (9, 9)))))


@pytest.fixture
def store(tmp_path):
    image = image_from_array(np.zeros(SHAPE, np.uint8), name="image")
    with LabelStore.create(tmp_path / "a.zarr", image, LEGEND) as made:
        made.prediction[0][:] = 3
        yield made


def test_file_of_regions_can_be_imported_as_polygons(store):
    write_regions(store.path, [AnnotationRegion("gland", REGION)])
    affine = (2.0, 0.0, 5e5, 0.0, -2.0, 5e6)
    crs = CRS.from_epsg(32632).to_wkt()
    on_map = SimpleNamespace(name="map", shape=SHAPE, unit="metre", crs=crs,
                             affine=affine, meters_per_pixel=2.0)  # fmt: skip
    for image in (store, on_map):
        (found,) = read_polygon_file(store.path / FILE, image).features
        assert (found.title, found.region) == ("gland", REGION)


def stroke(roi: Roi, class_id: int, level: int = 0) -> Stroke:
    shape = tuple(-(-n >> level) for n in (roi.height, roi.width))
    return Stroke(roi, np.ones(shape, bool), np.full(shape, class_id, np.uint8), level)


def corrected(store) -> np.ndarray:
    return store.correction[0][:]


def test_regions_are_read_as_they_were_written(store):
    assert read_regions(store.path) == ()
    regions = (
        AnnotationRegion("gland é", REGION, locked=True),
        AnnotationRegion("", MultiPolygon((SQUARE,))),
    )
    write_regions(store.path, regions)
    assert read_regions(store.path) == regions
    data = json.loads((store.path / FILE).read_text())
    shape = shapely.from_geojson(json.dumps(data["features"][0]["geometry"]))
    assert shape.is_valid
    assert shape.area == pytest.approx(80 * 100 - 20 * 20 + 43.625, abs=5)
    assert data["features"][0]["properties"]["isLocked"] is True
    write_regions(store.path, ())
    assert read_regions(store.path) == ()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"features": [1]}', "[" * 10_000,
     '{"features": [{"properties": {}, "geometry": {"type": "Point"}}]}',
     '{"features": [{"properties": {}, "geometry": {"type": "MultiPolygon", '
     '"coordinates": [[[[0, 0], [1e400, 0], [1, 1]]]]}}]}'],
)  # fmt: skip
def test_damaged_file_of_regions_is_reported(store, text):
    (store.path / FILE).write_text(text)
    with pytest.raises(StoreError, match=r"annotation regions of .* are damaged"):
        read_regions(store.path)
    with pytest.raises(StoreError, match="damaged"):
        Corrections.open(store)


@pytest.mark.parametrize("level", [0, 2])
def test_strokes_do_not_change_locked_regions(store, level):
    write_regions(store.path, [AnnotationRegion("a", REGION, locked=True)])
    locked = rasterize(REGION, WHOLE)
    with Corrections.open(store) as corrections:
        corrections.apply(stroke(WHOLE, 1, level))
        found = corrected(store) == 1
        assert not found[locked].any()
        if level:
            blocks = locked.reshape(50, 4, 75, 4).any((1, 3)).repeat(4, 0).repeat(4, 1)
            np.testing.assert_array_equal(found, ~blocks)
        else:
            np.testing.assert_array_equal(found, ~locked)
        inside = corrections.apply(stroke(Roi(92, 100, 8, 8), 2, level))
        assert inside.area == 0
        corrections.set_locked(())
        corrections.apply(stroke(Roi(92, 100, 8, 8), 2, level))
    assert (corrected(store)[92:100, 100:108] == 2).all()


def test_fills_confirmations_and_reversions_do_not_change_locked_regions(store):
    locked = rasterize(REGION, WHOLE)
    with Corrections.open(store) as corrections:
        list(corrections.fill(WHOLE, 1))
        corrections.set_locked([REGION])
        list(corrections.fill(WHOLE, 2))
        np.testing.assert_array_equal(corrected(store), np.where(locked, 1, 2))
        list(corrections.revert(WHOLE))
        np.testing.assert_array_equal(corrected(store), np.where(locked, 1, 0))
        list(corrections.confirm(WHOLE))
        np.testing.assert_array_equal(corrected(store), np.where(locked, 1, 3))
        list(corrections.relabel({1: 2}))  # classes change everywhere
        np.testing.assert_array_equal(corrected(store), np.where(locked, 2, 3))
        for _ in range(5):
            corrections.undo()  # also what was changed before the lock
        assert not corrected(store).any()


def test_corrected_pixels_of_a_region_are_counted(store):
    with Corrections.open(store) as corrections:
        corrections.apply(stroke(Roi(0, 0, 100, 100), 1))
        corrections.apply(stroke(Roi(100, 90, 50, 50), 2))
    labels = corrected(store)[rasterize(REGION, WHOLE)]
    expected = {i: int((labels == i).sum()) for i in (1, 2)}
    assert count_corrected(store, REGION) == expected
    assert min(expected.values()) > 0
    assert count_corrected(store, Roi(180, 0, 9, 9)) == {}
