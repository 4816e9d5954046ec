"""``napari-uhrseg export`` and ``areas`` as people type them."""

import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import shapely
import tifffile
from typer.testing import CliRunner

from helpers.processes import GATED, child_environment
from napari_uhrseg.cli import app
from napari_uhrseg.io.corrections.annotations.regions_file import write_regions
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import (
    AnnotationRegion,
    LabelClass,
    Legend,
    MultiPolygon,
    Polygon,
)

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))
SQUARE = [[[0, 0], [100, 0], [100, 200], [0, 200], [0, 0]]]


@pytest.fixture
def store(tmp_path):
    """300 x 400 pixels of 0.5 µm: road left of column 100, then lake."""
    picture = image_from_array(
        np.zeros((300, 400), np.uint8), name="slide", pixel_size=(0.5, 0.5),
        unit="micrometer",
    )  # fmt: skip
    with LabelStore.create(tmp_path / "labels.zarr", picture, LEGEND) as made:
        made.prediction[0][:] = 2
        made.prediction[0][:, :100] = 1
    return tmp_path / "labels.zarr"


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_export_writes_geotiff(store, tmp_path):
    target = tmp_path / "out" / "labels.tif"
    result = invoke("export", store, "--format", "cog", "--output", target)
    assert result.exit_code == 0, result.output
    assert "Exported" in result.stdout
    assert "no coordinate system" in " ".join(result.stderr.split())
    with rasterio.open(target) as raster:
        assert np.count_nonzero(raster.read(1) == 1) == 300 * 100


def test_export_smooths_and_cleans_up_outlines(store, tmp_path):
    with LabelStore.open(store, write=True) as opened:
        opened.prediction[0][50:52, 50:52] = 2
        opened.prediction[0][100:150, 100:110] = 1
    target = tmp_path / "a.geojson"
    words = ("export", store, "--format", "qupath", "--output", target)
    result = invoke(*words, "--smooth", 2, "--min-object", 9)
    assert result.exit_code == 0, result.output
    features = json.loads(target.read_text())["features"]
    shapes = shapely.from_geojson([json.dumps(f["geometry"]) for f in features])
    assert len(shapes) == 2
    assert shapely.coverage_is_valid(shapes)
    assert shapely.area(shapes).sum() == pytest.approx(300 * 400)
    corners = shapely.get_coordinates(shapes)
    assert (corners != corners.round()).any()
    again = invoke(*words, "--min-object", 9)  # refused before the clean-up
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    refused = invoke("export", store, "--format", "cog", "--output", "a.tif",
                     "--smooth", 1)  # fmt: skip
    assert refused.exit_code == 2
    assert "is a raster" in " ".join(refused.stderr.split())


def test_objects_are_measured_after_a_clean_up(store, tmp_path):
    with LabelStore.open(store, write=True) as opened:
        opened.prediction[0][50:52, 50:52] = 2
    counts = []
    for name, options in (("a.csv", ()), ("b.csv", ("--min-object", "2 um2"))):
        target = tmp_path / name
        result = invoke("objects", store, "--output", target, *options)
        assert result.exit_code == 0, result.output
        with target.open() as file:
            counts.append([row["pixels"] for row in csv.DictReader(file)])
    assert sorted(counts[0]) == ["29996", "4", "90000"]
    assert sorted(counts[1]) == ["30000", "90000"]


def test_areas_writes_shares_into_file_of_regions(store, tmp_path):
    geometry = {
        "type": "Polygon",
        "coordinates": [[[0, 0], [200, 0], [200, 9], [0, 9]]],
    }
    feature = {"type": "Feature", "geometry": geometry, "properties": {"name": "a"}}
    regions, target = tmp_path / "regions.geojson", tmp_path / "out.geojson"
    regions.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    result = invoke("areas", store, "--regions", regions, "--output", target)
    assert result.exit_code == 0, result.output
    assert f"Regions: {target}" in result.stdout
    (found,) = json.loads(target.read_text())["features"]
    assert found["properties"]["share_road"] == 0.5
    alone = invoke("areas", store, "--output", target, "--overwrite")
    assert alone.exit_code == 2
    assert "Give --regions" in " ".join(alone.stderr.replace("│", " ").split())


def test_areas_measures_annotation_regions_of_the_store(store, tmp_path):
    none = invoke("areas", store, "--annotations")
    assert none.exit_code == 1
    assert "has no annotation regions" in none.stderr
    square = Polygon(((0, 0), (0, 200), (9, 200), (9, 0)))
    write_regions(store, [AnnotationRegion("a", MultiPolygon((square,)), locked=True)])
    target = tmp_path / "out.geojson"
    result = invoke("areas", store, "--annotations", "--output", target)
    assert result.exit_code == 0, result.output
    assert f"Regions: {target}" in result.stdout
    (found,) = json.loads(target.read_text())["features"]
    assert found["properties"]["share_road"] == 0.5
    assert found["properties"]["locked"] is True
    table = invoke("areas", store, "--annotations", "--output", tmp_path / "out.csv")
    assert table.exit_code == 0, table.output
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["region"], row["share"]) for row in rows][:1] == [("a", "0.500000")]
    both = invoke("areas", store, "--annotations", "--regions", target)
    assert both.exit_code == 2


def test_objects_writes_a_table(store, tmp_path):
    target = tmp_path / "objects.csv"
    result = invoke("objects", store, "--output", target)
    assert result.exit_code == 0, result.output
    assert f"Objects: {target}" in result.stdout
    rows = list(csv.DictReader(target.open(encoding="utf-8")))
    assert [(row["class"], row["pixels"]) for row in rows] == [
        ("road", "30000"), ("lake", "90000"),
    ]  # fmt: skip
    assert [float(row["area_um2"]) for row in rows] == [7500, 22_500]
    assert "mean_band 1" not in rows[0]
    again = invoke("objects", store, "--output", target)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    other = invoke("objects", store, "--output", tmp_path / "objects.txt")
    assert other.exit_code == 2
    assert "does not end in" in other.stderr


def test_objects_with_an_image_have_intensities(store, tmp_path):
    picture = np.full((300, 400), 7, np.uint8)
    picture[:, 100:] = 9
    tifffile.imwrite(tmp_path / "slide.tif", picture)
    target = tmp_path / "objects.csv"
    result = invoke(
        "objects",
        store,
        "--output",
        target,
        "--image",
        tmp_path / "slide.tif",
        "--json",
    )
    assert result.exit_code == 0, result.output
    event = json.loads(result.stdout.splitlines()[-1])
    assert event == {"event": "written", "path": str(target)}
    rows = list(csv.reader(target.open(encoding="utf-8")))
    assert [row[-1] for row in rows[1:]] == ["7", "9"]


def test_export_json_prints_progress_and_result(store, tmp_path):
    target = tmp_path / "a.geojson"
    result = invoke("export", store, "--format", "qupath", "--output", target, "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[-1] == {
        "event": "exported", "path": str(target), "format": "qupath", "warnings": [],
    }  # fmt: skip
    assert {e["event"] for e in events[:-1]} <= {"progress"}


def test_export_invalid_input_prints_message(store, tmp_path):
    target = tmp_path / "a.geojson"
    result = invoke("export", store, "--format", "geojson", "--output", target)
    assert result.exit_code == 1
    assert "no coordinate system" in result.stderr
    target.write_text("mine")
    result = invoke("export", store, "--format", "qupath", "--output", target)
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert target.read_text() == "mine"
    tif = tmp_path / "a.tif"
    result = invoke("export", tmp_path / "none", "--format", "cog", "--output", tif)
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("shp", "a.shp"), "There is no format 'shp'"),
        (("geojson", "b.gpkg"), "or the format geopackage"),
        (("cog", "a.geojson"), "Choose a name that ends in .tif"),
        (("qupath", "a.shp"), "Choose a name that ends in .geojson"),
        (("cog", "a.tif", "--simplify", "1"), "Only outlines can be simplified"),
    ],
)
def test_export_refuses_options_that_do_not_fit(store, tmp_path, options, said):
    name, target, *more = options
    target = tmp_path / target
    result = invoke("export", store, "--format", name, "--output", target, *more)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not target.exists()
    assert "Exporting" not in result.stderr


def test_export_overwrite_replaces_output(store, tmp_path):
    target = tmp_path / "a.geojson"
    target.write_text("mine")
    options = ("--format", "qupath", "--output", target, "--overwrite")
    assert invoke("export", store, *options).exit_code == 0
    assert len(json.loads(target.read_text())["features"]) == 2


def test_areas_prints_table(store):
    result = invoke("areas", store)
    assert result.exit_code == 0, result.output
    assert "road" in result.stdout
    assert "7,500 µm²" in result.stdout
    assert "25.0%" in result.stdout


def test_areas_of_regions_as_csv_and_json(store, tmp_path):
    geometry = {"type": "Polygon", "coordinates": SQUARE}
    moved = [[[x + 50, y] for x, y in SQUARE[0]]]
    features = [
        {"type": "Feature", "geometry": geometry, "properties": {}},
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": moved},
            "properties": {"classification": {"name": "plot"}},
        },
    ]
    regions = tmp_path / "regions.geojson"
    regions.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    target = tmp_path / "areas.csv"
    result = invoke("areas", store, "--regions", regions, "--output", target, "--json")
    assert result.exit_code == 0, result.output
    tables = [json.loads(line) for line in result.stdout.splitlines()]
    tables = [t for t in tables if t["event"] == "areas"]
    assert [t["region"] for t in tables] == ["1", "2 plot"]
    assert [r["pixels"] for r in tables[1]["rows"]] == [10_000, 10_000]
    lines = list(csv.DictReader(target.open()))
    assert [line["region"] for line in lines] == ["1", "1", "2 plot", "2 plot"]
    assert float(lines[0]["area_um2"]) == 5000
    assert lines[0]["objects"] == "1"
    result = invoke("areas", store, "--output", target, "--json")
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert not result.stdout  # nothing was counted


def test_areas_has_one_row_for_each_parcel(store, tmp_path):
    far = [[[x + 999, y] for x, y in SQUARE[0]]]
    half = [[[x + 350, y] for x, y in SQUARE[0]]]
    right = [[[x + 200, y] for x, y in SQUARE[0]]]
    kinds = {
        "two, parted": ("MultiPolygon", [SQUARE, right]),
        "half": ("Polygon", half),
        "far": ("Polygon", far),
    }
    features = [
        {
            "type": "Feature",
            "geometry": {"type": kind, "coordinates": coordinates},
            "properties": {"name": name},
        }
        for name, (kind, coordinates) in kinds.items()
    ]
    regions = tmp_path / "regions.geojson"
    regions.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    target = tmp_path / "areas.csv"
    result = invoke("areas", store, "--regions", regions, "--output", target)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "1 of 3 features lies beside slide" in said
    assert "Without a table: 'far'" in said
    assert "50.0% of 'half' lies beside the image" in said
    lines = list(csv.DictReader(target.open()))
    assert [line["region"] for line in lines] == ["two, parted"] * 2 + ["half"] * 2
    assert [int(line["pixels"]) for line in lines] == [20_000, 20_000, 0, 10_000]
    features = features[2:]
    regions.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    result = invoke("areas", store, "--regions", regions)
    assert result.exit_code == 1
    assert "beside slide" in " ".join(result.stderr.split())


@pytest.mark.slow
def test_export_interrupted_leaves_no_file(store, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    command = [
        sys.executable, "-c", GATED, "progress", "export", str(store),
        "--format", "cog", "--output", str(out / "a.tif"), "--json",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=child_environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert "progress" in process.stdout.readline()
    assert list(out.iterdir()) != []
    process.send_signal(signal.SIGINT)
    _, said = process.communicate("\n", timeout=600)
    assert process.returncode == 130
    assert "Nothing was written" in said
    assert list(out.iterdir()) == []
