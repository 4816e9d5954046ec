"""Files of the table of objects, read back by other libraries."""

import csv
import sys

import numpy as np
import pandas
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from skimage.measure import label, regionprops

from helpers.export_stores import LEGEND, UTM32, image, make_store, truth
from helpers.label_stores import FakeImage
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.measure.object_files import write_objects

COLUMNS = [
    "object", "class_id", "class", "pixels", "area_m2", "perimeter_m", "x", "y",
    "column", "row", "circularity", "mean_confidence",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with make_store(tmp_path_factory.mktemp("s") / "labels.zarr", image(UTM32)) as made:
        yield made


@pytest.fixture(scope="module")
def pixels(store):
    labels = truth(store)
    return sorted(
        int(r.area)
        for class_id in (1, 2)
        for r in regionprops(label(labels == class_id, connectivity=1))
    )


def test_csv_is_read_back(store, pixels, tmp_path):
    assert list(write_objects(store, tmp_path / "o.csv"))[-1] == 1.0
    with (tmp_path / "o.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert sorted(int(row["pixels"]) for row in rows) == pixels
    assert [int(row["object"]) for row in rows] == list(range(1, len(pixels) + 1))
    for row in rows[:50]:
        assert float(row["area_m2"]) == int(row["pixels"]) * 0.25
        assert row["class"] == {"1": "road", "2": "lake"}[row["class_id"]]


def test_geopackage_and_parquet_contain_the_same_table(store, pixels, tmp_path):
    for name in ("o.gpkg", "o.parquet"):
        list(write_objects(store, tmp_path / name))
    meta, _, geometry, fields = pyogrio.raw.read(tmp_path / "o.gpkg")
    assert meta["crs"] == "EPSG:32632"
    points = dict(zip(meta["fields"], fields, strict=True))
    assert list(points) == COLUMNS
    assert sorted(points["pixels"].tolist()) == pixels
    at = shapely.get_coordinates(shapely.from_wkb(geometry))
    np.testing.assert_allclose(at, np.stack([points["x"], points["y"]], 1))
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.column_names == COLUMNS
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    for name in COLUMNS:
        np.testing.assert_array_equal(frame[name].to_numpy(), points[name])


def test_intensities_have_a_column_for_each_band(tmp_path):
    labels = np.zeros((6, 8), np.uint8)
    labels[:, :3] = 1
    labels[:, 5:] = 2
    with LabelStore.create(
        tmp_path / "s.zarr", FakeImage(labels.shape), LEGEND
    ) as made:
        made.prediction[0][:] = labels
        picture = np.stack([labels * 10, labels * 20], -1)
        opened = image_from_array(picture, name="two bands", axes="yxc")
        list(write_objects(made, tmp_path / "o.csv", opened))
    first, second = csv.DictReader((tmp_path / "o.csv").open(encoding="utf-8"))
    names = list(first)[-2:]
    assert [float(first[n]) for n in names] == [10, 20]
    assert [float(second[n]) for n in names] == [20, 40]
    assert first["mean_confidence"] == ""


@pytest.mark.parametrize("suffix", ["csv", "gpkg", "parquet"])
def test_a_store_without_labels_gives_an_empty_table(tmp_path, suffix):
    with LabelStore.create(tmp_path / "s.zarr", FakeImage((6, 8)), LEGEND) as made:
        list(write_objects(made, tmp_path / f"o.{suffix}"))
    read = {
        "csv": lambda p: len(list(csv.DictReader(p.open(encoding="utf-8")))),
        "gpkg": lambda p: pyogrio.read_info(p)["features"],
        "parquet": lambda p: pq.read_table(p).num_rows,
    }
    assert read[suffix](tmp_path / f"o.{suffix}") == 0


def test_other_targets_are_refused(store, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="does not end in"):
        list(write_objects(store, tmp_path / "o.xlsx"))
    (tmp_path / "o.csv").write_text("mine")
    with pytest.raises(ExportError, match="exists already"):
        list(write_objects(store, tmp_path / "o.csv"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError, match="pyarrow, which is not installed") as caught:
        list(write_objects(store, tmp_path / "o.parquet"))
    assert "napari-uhrseg[parquet]" in caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["o.csv"]


def test_stopping_leaves_nothing_behind(store, tmp_path):
    for suffix in ("csv", "gpkg", "parquet"):
        steps = write_objects(store, tmp_path / f"o.{suffix}")
        next(steps)
        steps.close()
    assert list(tmp_path.iterdir()) == []
