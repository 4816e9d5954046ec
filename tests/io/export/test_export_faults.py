"""Tests of exports on a full disk and after kills."""

import numpy as np
import pytest

from helpers.export_stores import UTM32, image
from helpers.forked import forked_code
from helpers.full_disk import file_size_limit
from helpers.label_stores import LEGEND, RUN, FakeImage
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import export
from napari_uhrseg.io.export.registry import format_named, formats
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, Roi

SUFFIXES = {
    "qupath": ".geojson",
    "geopackage": ".gpkg",
    "cog": ".tif",
    "ome-tiff": ".ome.tif",
    "ome-zarr": ".ome.zarr",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("exports") / "labels.zarr"
    with LabelStore.create(path, FakeImage((100, 100)), LEGEND) as made:
        run = made.run_ledger.start_run(RUN)
        labels = np.random.default_rng(0).integers(0, 3, (100, 100), np.uint8)
        made.write(Block(Roi(0, 0, 100, 100), labels, labels), run.id, "done")
        yield made


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def written(target, name):
    """The files of an export: a GeoTIFF of classes has an attribute table beside it."""
    beside = {"cog": [f"{target.name}.aux.xml"]}
    return sorted([target.name, *beside.get(name, [])])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("name", SUFFIXES)
def test_full_disk_is_the_reported_cause(store, tmp_path, name, share):
    target = tmp_path / f"a{SUFFIXES[name]}"
    list(export(store, target, name))
    files = [target] if target.is_file() else target.rglob("*")
    size = int(share * max(f.stat().st_size for f in files))
    other = tmp_path / f"b{SUFFIXES[name]}"
    with pytest.raises(ExportError, match="File too large"), file_size_limit(size):
        list(export(store, other, name))
    assert names_in(tmp_path) == written(target, name)


KILLED = """
import os, signal, sys
from napari_uhrseg.io.export import export
from napari_uhrseg.io.export.registry import format_named, formats
from napari_uhrseg.io.labels.store import LabelStore
for _ in export(LabelStore.open(sys.argv[1]), sys.argv[2], sys.argv[3]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", SUFFIXES)
def test_export_after_a_kill_leaves_no_other_file(store, tmp_path, name):
    target = tmp_path / f"a{SUFFIXES[name]}"
    with forked_code(KILLED, store.path, target, name) as process:
        process.wait(60)
    assert not target.exists()
    list(export(store, target, name))
    assert names_in(tmp_path) == written(target, name)


@pytest.mark.parametrize("name", [f.name for f in formats() if f.stores_crs])
def test_damaged_coordinate_system_is_refused(tmp_path, name):
    affine = (0.5, 0.0, 0.0, 0.0, -0.5, 0.0)
    shown = FakeImage((100, 100), pixel_size=(0.5, 0.5), unit="metre", affine=affine,
                      crs='PROJCS["cut')  # fmt: skip
    with LabelStore.create(tmp_path / "a.zarr", shown, LEGEND) as store:
        target = tmp_path / f"b{format_named(name).suffix}"
        with pytest.raises(ExportError, match="The coordinate system of"):
            list(export(store, target, name))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_coordinates_outside_the_projection_are_refused(tmp_path):
    """PROJ refuses such coordinates with an error that is no RasterioError."""
    shown = image(UTM32, affine=(1e300, 0.0, 1e300, 0.0, -1e300, 1e300))
    with LabelStore.create(tmp_path / "a.zarr", shown, LEGEND) as store:
        store.correction[0][:9, :9] = 1
        with pytest.raises(ExportError, match="to longitude and latitude"):
            list(export(store, tmp_path / "b.geojson", "geojson"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
