"""Test ``napari-uhrseg correct`` through its command line."""

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.export import export
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels import pyramid
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Limits, Roi

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))
SHAPE = 300, 400


@pytest.fixture
def store(tmp_path):
    picture = image_from_array(np.zeros(SHAPE, np.uint8), name="slide")
    with LabelStore.create(tmp_path / "labels.zarr", picture, LEGEND) as made:
        made.prediction[0][:] = 2
    return tmp_path / "labels.zarr"


def correct(*arguments: object):
    return CliRunner().invoke(app, ["correct", *(str(a) for a in arguments)])


def shown(store):
    with LabelStore.open(store) as opened:
        return opened.read_labels(Roi(0, 0, *SHAPE))


def squares(path, *names):
    """Write squares of 50 pixels in a row, each of one class."""
    features = []
    for i, name in enumerate(names):
        x = 100 * i
        ring = [[x, 0], [x + 50, 0], [x + 50, 50], [x, 50], [x, 0]]
        about = {} if name is None else {"classification": {"name": name}}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": about})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_correct_imports_polygons(store, tmp_path):
    file = squares(tmp_path / "a.geojson", "road", "pond", None)
    result = correct(store, file)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "1 polygon of 'pond'" in said
    assert "1 polygon of '(none)'" in said
    assert "'road' +2,500 px" in result.stdout
    truth = np.full(SHAPE, 2)
    truth[:50, :50] = 1
    np.testing.assert_array_equal(shown(store), truth)
    result = correct(store, file, "--class", "road", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["skipped"] == {}
    truth[:50, 100:150] = truth[:50, 200:250] = 1
    np.testing.assert_array_equal(shown(store), truth)


def test_correct_imports_mask(store, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:10], mask[20:30] = 1, 7
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    result = correct(store, tmp_path / "mask.tif")
    assert result.exit_code == 0, result.output
    assert "4,000 px of value 7" in " ".join(result.stderr.split())
    assert "'road' +4,000 px" in result.stdout
    np.testing.assert_array_equal(shown(store), np.where(mask == 1, 1, 2))


TRAINED = Legend(
    (LabelClass(1, "road", "#ff8000", 0), LabelClass(2, "pond, deep", "#0000ff", 1))
)


@pytest.fixture
def trained(tmp_path):
    """A store whose classes have training values that differ from their ids."""
    picture = image_from_array(np.zeros(SHAPE, np.uint8), name="slide")
    path = tmp_path / "trained.zarr"
    with LabelStore.create(path, picture, TRAINED) as made:
        made.prediction[0][:] = 2
        made.prediction[0][:100] = 1
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("format_name", "name"),
    [("ome-tiff", "a.ome.tif"), ("ome-zarr", "a.zarr"), ("cog", "a.tif")],
)
def test_correct_with_own_export_gives_same_classes(
    trained, tmp_path, format_name, name
):
    with LabelStore.open(trained) as opened:
        list(export(opened, tmp_path / name, format_name))
        wanted = opened.prediction[0][:]
    result = correct(trained, tmp_path / name)
    assert result.exit_code == 0, result.output
    with LabelStore.open(trained) as opened:
        np.testing.assert_array_equal(opened.correction[0][:], wanted)


@pytest.mark.slow
def test_correct_asks_what_values_of_mask_mean(trained, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:10] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    result = correct(trained, tmp_path / "mask.tif")
    assert result.exit_code == 1
    assert "--values training" in " ".join(result.stderr.split())
    assert as_json(trained)["counts"] == {}
    found = as_json(trained, tmp_path / "mask.tif", "--values", "ids")
    assert found["changed"] == {"road": 4000}
    found = as_json(trained, tmp_path / "mask.tif", "--values", "training")
    assert found["changed"] == {"road": 112_000, "pond, deep": 4000}
    names = tmp_path / "classes.txt"
    names.write_text("0 sea\n1 road\n")
    found = as_json(trained, tmp_path / "mask.tif", "--classes", names)
    assert found["changed"] == {"road": 4000, "pond, deep": -4000}
    assert found["skipped"] == {"0": 116_000}


@pytest.mark.slow
def test_correct_that_changes_nothing_says_so(store, tmp_path):
    file = squares(tmp_path / "a.geojson", "road")
    assert correct(store, file).exit_code == 0
    for arguments in ((file,), ("--confirm", file), ("--revert", "200,200,9,9")):
        result = correct(store, *arguments)
        assert result.exit_code == 1
        assert "No pixel was changed" in result.stderr
    assert correct(store, "--redo").exit_code == 1
    assert as_json(store)["counts"] == {"road": 2500}


def test_correct_counts_polygons_beside_image_and_without_geometry(store, tmp_path):
    file = squares(tmp_path / "a.geojson", "road", None, "road", "road", "road")
    data = json.loads(file.read_text())
    data["features"][1] = {"type": "Feature", "properties": {}}
    file.write_text(json.dumps(data))
    result = correct(store, file)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "1 feature without a geometry" in said
    assert "1 of 4 features lies beside slide" in said
    assert "'road' +7,500 px" in result.stdout
    beside = [
        [[x + 900, y] for x, y in data["features"][0]["geometry"]["coordinates"][0]]
    ]
    data["features"] = data["features"][:1]
    data["features"][0]["geometry"]["coordinates"] = beside
    file.write_text(json.dumps(data))
    for arguments in ((file,), ("--revert", file)):
        result = correct(store, *arguments)
        assert result.exit_code == 1
        assert "lies beside slide" in " ".join(result.stderr.split())


def test_correct_names_classes_in_quotes(trained, tmp_path):
    result = correct(trained, squares(tmp_path / "a.geojson", "sea"))
    assert result.exit_code == 1
    said = " ".join(result.stderr.split())
    assert "The file has: 'sea'. Classes: 'road', 'pond, deep'." in said


def test_correct_invalid_file_changes_nothing(store, tmp_path):
    file = squares(tmp_path / "a.geojson", "pond")
    tifffile.imwrite(tmp_path / "small.tif", np.ones((3, 4), np.uint8))
    for arguments, said in (
        ((file,), "matches a class in the label store"),
        ((file, "--class", "sea"), "no class 'sea'"),
        ((tmp_path / "small.tif",), "3"),
        ((tmp_path / "nowhere.tif",), "does not exist"),
    ):
        result = correct(store, *arguments)
        assert result.exit_code == 1
        assert said in " ".join(result.stderr.split())
    assert (shown(store) == 2).all()


def as_json(*arguments: object):
    result = correct(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_correct_lists_corrections_by_class_and_region(store, tmp_path):
    assert "There are no corrections" in correct(store).stdout
    correct(store, squares(tmp_path / "a.geojson", "road", None, None, "lake"))
    said = correct(store).stdout
    assert "road" in said
    assert "2,500" in said
    found = as_json(store)
    assert found["counts"] == {"road": 2500, "lake": 2500}
    pixels = [p["pixels"] for p in found["regions"]]
    # 250 pixels apart; corrections within 32 pixels would be one region
    assert pixels == [{"road": 2500}, {"lake": 2500}]
    for at, region in zip((0, 300), found["regions"], strict=True):
        roi = Roi(**region["roi"])
        assert roi.contains(Roi(0, at, 50, 50))
        assert roi.area < 100**2


@pytest.mark.slow
def test_correct_confirms_rectangle_and_polygons(store, tmp_path):
    result = correct(store, "--confirm", "290,0,50,30")  # reaches outside the image
    assert result.exit_code == 0, result.output
    assert "Confirmed: 'lake' +300 px." in result.stdout
    file = squares(tmp_path / "a.geojson", None, "pond")
    found = as_json(store, "--confirm", file)
    assert (found["regions"], found["changed"]) == (2, {"lake": 5000})
    assert as_json(store)["counts"] == {"lake": 5300}
    with LabelStore.open(store) as opened:
        truth = np.zeros(SHAPE)
        truth[290:, :30] = truth[:50, :50] = truth[:50, 100:150] = 2
        np.testing.assert_array_equal(opened.correction[0][:], truth)


@pytest.mark.slow
def test_correct_reverts_rectangle_and_polygons(store, tmp_path):
    file = squares(tmp_path / "a.geojson", "road", "road")
    correct(store, file)
    result = correct(store, "--revert", "0,0,10,400")
    assert "Reverted: 'road' -1,000 px." in result.stdout
    truth = np.full(SHAPE, 2)
    truth[10:50, :50] = truth[10:50, 100:150] = 1
    np.testing.assert_array_equal(shown(store), truth)
    assert as_json(store, "--revert", file)["changed"] == {"road": -4000}
    assert (shown(store) == 2).all()
    assert "no pixel changed" in correct(store, "--revert", file).stdout


@pytest.mark.slow
def test_correct_undo_and_redo_single_changes(store, tmp_path):
    correct(store, squares(tmp_path / "a.geojson", "road", "road"))
    correct(store, "--confirm", "0,0,10,60")
    result = correct(store, "--undo")
    assert "Undone at 0,50,10,10: 'lake' -100 px." in result.stdout
    found = as_json(store, "--undo")
    assert found["roi"] == {"y": 0, "x": 100, "height": 50, "width": 50}
    assert found["changed"] == {"road": -2500}
    result = correct(store, "--undo")
    assert "Undone at 0,0,50,50: 'road' -2,500 px." in result.stdout
    assert "no more to undo" in result.stdout
    assert (shown(store) == 2).all()
    assert "nothing to undo" in correct(store, "--undo").stderr
    assert "Redone at 0,0,50,50" in correct(store, "--redo").stdout
    assert as_json(store)["counts"] == {"road": 2500}


@pytest.mark.slow
def test_correct_interrupted_undo_has_no_effect(store, monkeypatch):
    """Ctrl-C between its tiles restores the tiles that were undone."""
    import os
    import signal

    with (
        LabelStore.open(store) as opened,
        Corrections.open(opened, limits=Limits(correction_tile=64)) as corrections,
    ):
        list(corrections.confirm(Roi(0, 0, 300, 400)))
    write = pyramid.write_chunks
    written = []

    def interrupting(array, key, data):
        if str(array.store_path).endswith("correction/0"):
            written.append(key)
            if len(written) == 3:
                os.kill(os.getpid(), signal.SIGINT)
        write(array, key, data)

    monkeypatch.setattr(pyramid, "write_chunks", interrupting)
    result = correct(store, "--undo")
    assert result.exit_code == 130
    assert "is complete or had no effect" in " ".join(result.stderr.split())
    assert len(written) == 6
    assert written[3:] == written[:3]
    assert as_json(store)["counts"] == {"lake": 300 * 400}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--confirm", "1,2,3,4", "--undo"), "Give only one of"),
        (("--class", "road"), "needs a file of polygons"),
        (("a.geojson", "--values", "ids"), "need a mask"),
        (("a.tif", "--values", "colours"), "'colours' is not one of"),
        (("--revert", "1,2,3"), "is not a valid rectangle"),
        (("--confirm", "1,2,0,4"), "is not a valid rectangle"),
    ],
)
def test_correct_refuses_options_that_exclude_each_other(store, options, said):
    result = correct(store, *options)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert as_json(store)["counts"] == {}


def test_classes_come_from_a_field_and_its_values(store, tmp_path):
    file = squares(tmp_path / "a.geojson", "ignored", None, None)
    data = json.loads(file.read_text())
    for feature, code in zip(data["features"], (3, 4.0, "lake"), strict=True):
        feature["properties"]["Code"] = code
    file.write_text(json.dumps(data))
    command = (store, file, "--class-field", "code", "--class-value", "4=road")
    result = correct(*command)
    assert result.exit_code == 0, result.output
    assert "1 polygon of '3'" in " ".join(result.stderr.split())
    truth = np.full(SHAPE, 2)
    truth[:50, 100:150] = 1
    np.testing.assert_array_equal(shown(store), truth)
    wrong = correct(store, file, "--class-field", "kind")
    assert wrong.exit_code == 1
    assert "has no field 'kind'" in wrong.stderr
    assert "'Code'" in wrong.stderr
    assert correct(store, file, "--class-value", "road").exit_code == 2
    assert correct(store, "--class-field", "code").exit_code == 2
