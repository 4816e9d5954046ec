"""Test the region of ``napari-uhrseg segment`` in map coordinates and from a file."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.io.corrections.region_text import MapRectangle, regions_of
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi

EAST, NORTH = 500_000, 5_300_000


@pytest.fixture
def segment(files, tmp_path):
    """Return a function that labels a region of a raster with pixels of 2 m."""

    def run(region, *options, turn=0.0):
        path = tmp_path / "map.tif"
        place = Affine.translation(EAST, NORTH) * Affine.rotation(turn)
        values = np.random.default_rng(0).integers(0, 255, (3, 300, 420), np.uint8)
        with rasterio.open(
            path, "w", width=420, height=300, count=3, dtype="uint8", crs="EPSG:32632",
            transform=place * Affine.scale(2, -2), photometric="RGB",
        ) as out:  # fmt: skip
            out.write(values)
        command = ["segment", str(path), "--roi", region, "--device", "cpu"]
        command += ["--checkpoint", str(files / "net.safetensors")]
        command += ["--output", str(tmp_path / "labels.zarr"), *options]
        return CliRunner().invoke(app, command)

    return run


def labelled(tmp_path):
    with LabelStore.open(tmp_path / "labels.zarr") as store:
        return store.prediction[0][:] > 0


@pytest.mark.slow
def test_map_rectangle_labels_its_pixels(segment, tmp_path):
    box = f"map:{EAST + 40},{NORTH - 100},{EAST + 101},{NORTH - 20}"
    result = segment(box)
    assert result.exit_code == 0, result.output
    expected = np.zeros((300, 420), bool)
    expected[10:50, 20:51] = True
    np.testing.assert_array_equal(labelled(tmp_path), expected)


def test_map_rectangle_on_pixel_borders_adds_no_pixel(tmp_path):
    image = image_from_array(np.zeros((300, 420), np.uint8), name="ortho")
    image.crs, image.affine = "a map", (0.1, 0, 687_321.7, 0, -0.1, 5_334_567.3)
    left, top = 687_321.7, 5_334_567.3
    box = MapRectangle(left + 3.7, top - 5, left + 10.1, top - 1)
    assert regions_of(box, image) == ([Roi(10, 37, 40, 64)], [])


@pytest.mark.slow
def test_map_rectangle_on_rotated_raster_is_not_its_bounding_box(segment, tmp_path):
    # at 45 degrees, the square around a point is a diamond in pixels
    middle = Affine.translation(EAST, NORTH) * Affine.rotation(45) @ (400, -300)
    (x, y), half = middle, 60
    box = f"map:{x - half},{y - half},{x + half},{y + half}"
    result = segment(box, turn=45)
    assert result.exit_code == 0, result.output
    rows, columns = np.mgrid[:300, :420] + 0.5
    expected = np.abs(rows - 150) + np.abs(columns - 200) < half / 2 * np.sqrt(2)
    found = labelled(tmp_path)
    assert (found != expected).mean() < 1e-3
    assert found.sum() == pytest.approx((2 * half / 2) ** 2, rel=0.02)


def polygon(y, x, side):
    """Return a square of a GeoJSON file, in the CRS of the raster."""
    corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]
    ring = [[EAST + 2 * a, NORTH - 2 * b] for a, b in corners]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.slow
def test_polygons_of_a_file_are_labelled_and_resumed(segment, tmp_path):
    shapes = [polygon(10, 20, 30), polygon(200, 300, 40)]
    path = tmp_path / "places.geojson"
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    features = [{"type": "Feature", "properties": {}, "geometry": s} for s in shapes]
    collection = {"type": "FeatureCollection", "crs": crs, "features": features}
    path.write_text(json.dumps(collection))
    result = segment(str(path))
    assert result.exit_code == 0, result.output
    expected = np.zeros((300, 420), bool)
    expected[10:40, 20:50] = expected[200:240, 300:340] = True
    np.testing.assert_array_equal(labelled(tmp_path), expected)
    again = segment(str(path), "--json")
    names = [json.loads(line)["event"] for line in again.stdout.splitlines()]
    assert names == ["planned", "finished"]


def test_missing_file_is_usage_error(segment):
    result = segment("places.geojson")
    assert result.exit_code == 2
    assert "no such file" in result.stderr


def test_map_rectangle_beside_the_image_is_reported(segment, tmp_path):
    result = segment("map:0,0,10,10")
    assert result.exit_code == 1
    assert "outside" in result.stderr
    assert not (tmp_path / "labels.zarr").exists()


def test_map_rectangle_needs_map_coordinates(files, tmp_path):
    command = ["segment", str(files / "picture.tif"), "--roi", "map:0,0,10,10"]
    command += ["--checkpoint", str(files / "net.safetensors"), "--output"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "a.zarr")])
    assert result.exit_code == 1
    assert "picture.tif has no map coordinates" in " ".join(result.stderr.split())
