"""Changes between two label stores, read back by rasterio, pyogrio and csv."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pyogrio
import pytest
import rasterio
from typer.testing import CliRunner

from helpers.label_stores import FakeImage
from napari_uhrseg.cli import app
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.measure.changes import (
    check_comparable,
    compare_labels,
    write_changes,
)
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.types import LabelClass, Legend

FOREST, CITY, LAKE = ("forest", "#00ff00"), ("city", "#ff0000"), ("lake", "#0000ff")
SHAPE = (90, 70)
ABOUT = FakeImage(
    SHAPE, pixel_size=(10.0, 10.0), unit="metre",
    affine=(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_300_000.0),
    crs=rasterio.CRS.from_epsg(32632).to_wkt(),
)  # fmt: skip


def store_of(path, labels, classes, about=ABOUT):
    legend = Legend(tuple(LabelClass(i, *c) for i, c in enumerate(classes, 1)))
    store = LabelStore.create(path, about, legend)
    store.prediction[0][:] = labels
    return store


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two dates of random labels: 1 forest, 2 city, 3 lake, 0 unlabelled.

    The second store numbers its classes in another order.
    """
    rng = np.random.default_rng(2)
    before = rng.integers(0, 4, SHAPE, np.uint8)
    after = np.where(rng.random(SHAPE) < 0.7, before, rng.integers(0, 4, SHAPE))
    folder = tmp_path_factory.mktemp("s")
    renumbered = np.array([0, 2, 3, 1], np.uint8)[after]
    with (
        store_of(folder / "a.zarr", before, (FOREST, CITY, LAKE)) as first,
        store_of(folder / "b.zarr", renumbered, (LAKE, FOREST, CITY)) as second,
    ):
        yield first, second, before, after


def compared(first, second, *limits):
    *done, found = compare_labels(first, second, *limits)
    assert done == sorted(done)
    return found


@pytest.mark.parametrize("limits", [(), (VectorLimits(band_bytes=1, strip_pixels=1),)])
def test_matrix_counts_each_pair_of_classes(both, limits):
    first, second, before, after = both
    found = compared(first, second, *limits)
    assert found.names == ("unlabelled", "forest", "city", "lake")
    for i, j in np.ndindex(4, 4):
        pixels = np.count_nonzero((before == i) & (after == j))
        assert found.pixels[i, j] == pixels
        assert found.areas[i, j] == 100 * pixels
    labelled = (before > 0) & (after > 0)
    assert found.compared == 100 * np.count_nonzero(labelled)
    assert found.changed == 100 * np.count_nonzero(labelled & (before != after))
    header, *rows = csv.reader(io.StringIO(found.to_csv()))
    assert header == ["from_to_ha", "unlabelled", "forest", "city", "lake"]
    values = np.array([[float(v) for v in row[1:]] for row in rows])
    np.testing.assert_allclose(values, found.pixels / 100)


def test_raster_map_has_a_class_for_each_change(both, tmp_path):
    first, second, before, after = both
    found = compared(first, second)
    list(write_changes((first, second), found, tmp_path / "c.tif"))
    with rasterio.open(tmp_path / "c.tif") as raster:
        codes, tags, colors = raster.read(1), raster.tags(1), raster.colormap(1)
        assert raster.crs.to_epsg() == 32632
    names = {int(k.removeprefix("CLASS_")): v for k, v in tags.items() if "CLASS" in k}
    assert names[1] == "unchanged"
    shown = np.vectorize({0: "", **names}.get)(codes)
    classes = np.array(["", "forest", "city", "lake"])
    wanted = np.char.add(np.char.add(classes[before], " → "), classes[after])
    wanted = np.where(before == after, "unchanged", wanted)
    wanted = np.where((before == 0) | (after == 0), "", wanted)
    np.testing.assert_array_equal(shown, wanted)
    (code,) = (k for k, v in names.items() if v == "forest → city")
    assert colors[code] == (191, 64, 0, 255)  # more of the red of the city


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_polygons_are_those_of_the_changes(both, tmp_path, suffix):
    first, second, before, after = both
    found, path = compared(first, second), tmp_path / f"c{suffix}"
    list(write_changes((first, second), found, path))
    meta, _, _, fields = pyogrio.raw.read(path, layer=0)
    data = dict(zip(meta["fields"], fields, strict=True))
    assert "unchanged" not in set(data["class"])
    here = data["class"] == "city → lake"
    pixels = np.count_nonzero((before == 2) & (after == 3))
    assert data["area_m2"][here].sum() == 100 * pixels
    assert data["area_m2"].sum() == found.changed


def test_slides_are_compared_in_square_millimetres(tmp_path):
    about = FakeImage((20, 30), pixel_size=(0.5, 0.5))
    labels = np.ones((20, 30), np.uint8)
    with (
        store_of(tmp_path / "a.zarr", labels, (FOREST, CITY), about) as first,
        store_of(tmp_path / "b.zarr", 2 * labels, (FOREST, CITY), about) as second,
    ):
        found = compared(first, second)
        list(write_changes((first, second), found, tmp_path / "c.geojson"))
    assert found.to_csv().splitlines()[0].startswith("from_to_mm2")
    assert found.changed == 150
    (feature,) = json.loads((tmp_path / "c.geojson").read_text())["features"]
    assert feature["properties"]["classification"]["name"] == "forest → city"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": (90, 71)}, "a.zarr has 70 x 90 pixels, and b.zarr has 71 x 90"),
        ({"crs": rasterio.CRS.from_epsg(32633).to_wkt()}, "different coordinate"),
        ({"affine": (10.0, 0.0, 500_005.0, 0.0, -10.0, 5_300_000.0)}, "0.5 pixels"),
        ({"affine": None, "crs": None}, "different coordinate systems"),
    ],
)
def test_other_grids_are_refused(tmp_path, change, said):
    labels = np.zeros(SHAPE, np.uint8)
    other = replace(ABOUT, **change)
    with (
        store_of(tmp_path / "a.zarr", labels, (FOREST,)) as first,
        store_of(
            tmp_path / "b.zarr", np.zeros(other.shape), (FOREST,), other
        ) as second,
        pytest.raises(ExportError, match="not of one grid") as caught,
    ):
        check_comparable(first, second)
    assert said in caught.value.message


def test_other_classes_are_refused(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    with (
        store_of(tmp_path / "a.zarr", labels, (FOREST, CITY)) as first,
        store_of(tmp_path / "b.zarr", labels, (FOREST, LAKE)) as second,
        pytest.raises(ExportError) as caught,
    ):
        check_comparable(first, second)
    assert caught.value.message == (
        "The label stores have different classes: only a.zarr has 'city'; only b.zarr "
        "has 'lake'."
    )


def test_more_changes_than_classes_share_one(tmp_path):
    """17 classes have 272 changes."""
    classes = [(f"c{i}", f"#0000{i:02x}") for i in range(17)]
    pairs = np.array([(i, j) for i in range(1, 18) for j in range(1, 18)], np.uint8)
    about = replace(ABOUT, shape=(1, len(pairs)))
    with (
        store_of(tmp_path / "a.zarr", pairs[None, :, 0], classes, about) as first,
        store_of(tmp_path / "b.zarr", pairs[None, :, 1], classes, about) as second,
    ):
        found = compared(first, second)
        list(write_changes((first, second), found, tmp_path / "c.tif"))
    with rasterio.open(tmp_path / "c.tif") as raster:
        codes, tags = raster.read(1), raster.tags(1)
    assert tags["CLASS_255"] == "other changes"
    assert np.count_nonzero(codes == 255) == 272 - 253
    assert np.count_nonzero(codes == 1) == 17


def test_command_writes_matrix_and_map(both, tmp_path):
    first, second, *_ = both
    matrix, changes = tmp_path / "m.csv", tmp_path / "m.tif"
    arguments = ["compare", str(first.path), str(second.path), "--output", str(matrix)]
    result = CliRunner().invoke(app, [*arguments, "--map", str(changes)])
    assert result.exit_code == 0, result.output
    assert "Changed:" in result.stdout
    assert matrix.read_text().startswith("from_to_ha,unlabelled,forest")
    assert changes.exists()
    again = CliRunner().invoke(app, [*arguments, "--overwrite", "--json"])
    event = json.loads(again.stdout.splitlines()[-1])
    assert event["event"] == "compared"
    assert event["classes"] == ["unlabelled", "forest", "city", "lake"]
    other = CliRunner().invoke(app, [*arguments, "--map", str(tmp_path / "m.png")])
    assert other.exit_code == 2
