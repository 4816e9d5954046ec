"""Whole or not at all, whatever happens, for every format."""

import resource
import shutil
from contextlib import contextmanager

import pytest

from helpers.export_stores import image as fake_image
from helpers.export_stores import make_store
from napari_uhrseg.errors import ExportError, StoreError
from napari_uhrseg.io.export import export, warnings
from napari_uhrseg.io.export.registry import format_named, formats
from napari_uhrseg.io.labels.store import LabelStore

NAMES = [f.name for f in formats()]


def named(folder, name):
    return folder / f"out{format_named(name).suffix}"


every_format = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "labels.zarr"
    with make_store(path, fake_image(32632), missing=[(2, 1)]) as made:
        yield made


@contextmanager
def largest_file(size):
    """A disk that takes files up to a size: the system's own error, not a mock."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_the_formats_that_there_are():
    assert sorted(NAMES) == NAMES
    assert {
        "cog", "confidence", "geojson", "geojson-projected", "geopackage", "ome-tiff",
        "ome-zarr", "qupath",
    } <= set(NAMES)  # fmt: skip


@every_format
def test_stopping_leaves_nothing_behind(store, tmp_path, name):
    parts = export(store, named(tmp_path, name), name)
    next(parts)
    assert len(list(tmp_path.iterdir())) <= 1
    assert not named(tmp_path, name).exists()
    parts.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@every_format
def test_what_is_there_stays_unless_one_says_otherwise(store, tmp_path, name):
    target = named(tmp_path, name)
    list(export(store, target, name))
    before = target.stat()
    with pytest.raises(ExportError, match="exists already"):
        list(export(store, target, name))
    assert target.stat() == before
    parts = export(store, target, name, overwrite=True)
    next(parts)
    parts.close()
    assert target.stat().st_ino == before.st_ino
    list(export(store, target, name, overwrite=True))
    assert target.stat().st_ino != before.st_ino
    beside = {
        "cog": "out.tif.aux.xml", "geojson": "out.qml", "geojson-projected": "out.qml",
    }  # fmt: skip
    written = [target.name, *(beside[n] for n in beside if n == name)]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(written)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n != "geopackage"])
def test_a_full_disk_is_told_and_leaves_nothing(store, tmp_path, name):
    with (
        largest_file(2000),
        pytest.raises(ExportError, match="cannot be written") as caught,
    ):
        list(export(store, tmp_path / "out", name))
    assert "free space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_while_a_geopackage_is_written(store, tmp_path):
    with largest_file(150_000), pytest.raises(ExportError, match="cannot be written"):
        list(export(store, tmp_path / "out.gpkg", "geopackage"))
    assert list(tmp_path.iterdir()) == []


def test_a_url_is_no_target(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match="written to files"):
        list(export(store, "s3://bucket/labels.tif", "cog"))
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@every_format
def test_a_damaged_store_is_told_and_nothing_written(store, tmp_path, name):
    path = shutil.copytree(store.path, tmp_path / "s.zarr")
    for array in ("0", "labels/prediction/0"):
        (path / array / "c" / "1" / "0").write_bytes(b"nonsense")
    with (
        LabelStore.open(path) as damaged,
        pytest.raises(StoreError, match="cannot be read"),
    ):
        list(export(damaged, named(tmp_path, name), name))
    assert [p.name for p in tmp_path.iterdir()] == ["s.zarr"]


def test_a_store_half_written_says_so(store):
    (said,) = warnings(store, "cog")
    assert said.startswith("1 of 6 blocks are not segmented yet")


@pytest.mark.slow
def test_what_lacks_is_said_beforehand(tmp_path):
    about = fake_image(pixel_size=None, unit="pixel")
    with make_store(tmp_path / "s.zarr", about) as store:
        assert "no coordinate system" in warnings(store, "cog")[0]
        assert "no pixel size" in warnings(store, "ome-tiff")[0]
        assert warnings(store, "qupath") == ()
        for name in ("cog", "ome-tiff", "ome-zarr", "geopackage"):
            list(export(store, named(tmp_path, name), name, overwrite=True))
            assert named(tmp_path, name).exists()


def test_an_unknown_format_names_those_there_are(store, tmp_path):
    with pytest.raises(ExportError, match="no format 'shapefile'") as caught:
        list(export(store, tmp_path / "out", "shapefile"))
    assert "geojson" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("geojson", "b.gpkg"),
        ("cog", "b.zarr"),
        ("ome-zarr", "b.tif"),
        ("qupath", "b.x"),
    ],
)
def test_a_suffix_of_another_format_is_refused(store, tmp_path, name, target):
    with pytest.raises(ExportError, match="does not have a suffix of"):
        list(export(store, tmp_path / target, name))
    assert not any(tmp_path.iterdir())


def test_rasters_have_no_outlines_to_simplify(store, tmp_path):
    with pytest.raises(ExportError, match="Only outlines"):
        list(export(store, tmp_path / "out", "cog", simplify=1.0))


def test_the_store_itself_is_never_replaced(store):
    for target in (store.path, store.path.parent, store.path / "labels" / "mine"):
        with pytest.raises(ExportError, match="the label store itself"):
            list(export(store, target, "ome-zarr", overwrite=True))


def test_a_folder_of_something_else_is_never_replaced(store, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    for name in ("ome-zarr", "cog"):
        with pytest.raises(ExportError, match="is a folder"):
            list(export(store, tmp_path / "photos", name, overwrite=True))
    assert (tmp_path / "photos" / "me.jpg").exists()


def test_labels_of_another_image_do_not_go_into_it(store, tmp_path):
    import zarr

    group = zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=3)
    group.create_array("0", shape=(10, 10), chunks=(10, 10), dtype="uint8")
    multiscale = {"axes": [], "datasets": [{"path": "0"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    with pytest.raises(ExportError, match="not an image of 1100 x 2500"):
        list(export(store, tmp_path / "other.zarr/labels/a", "ome-zarr"))
    assert not (tmp_path / "other.zarr/labels/a").exists()


def test_a_store_open_elsewhere_can_be_exported(store, tmp_path):
    """Another process may write meanwhile: reading takes no lock."""
    with LabelStore.open(store.path) as reader:
        list(export(reader, tmp_path / "out.tif", "cog"))
    assert (tmp_path / "out.tif").exists()
