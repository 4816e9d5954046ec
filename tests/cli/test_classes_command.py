"""``napari-uhrseg classes``: what the panel's Classes menu does, without a window."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))
SHAPE = 300, 400


@pytest.fixture
def store(tmp_path):
    """A quarter road and the rest lake; 500 pixels corrected to road."""
    picture = image_from_array(np.zeros(SHAPE, np.uint8), name="slide")
    with LabelStore.create(tmp_path / "labels.zarr", picture, LEGEND) as made:
        for level in made.prediction:
            level[:] = 2
            level[:, : level.shape[1] // 4] = 1
        with Corrections.open(made) as corrections:
            list(corrections.fill(Roi(0, 0, 10, 50), 1))
    return tmp_path / "labels.zarr"


def classes(*arguments: object):
    return CliRunner().invoke(app, ["classes", *(str(a) for a in arguments)])


def listed(store):
    result = classes(store, "--json")
    assert result.exit_code == 0, result.output
    return {c["name"]: c for c in json.loads(result.stdout)["classes"]}


def test_classes_lists_shares_and_corrections(store):
    road, lake = listed(store).values()
    assert road == {
        "id": 1, "name": "road", "color": "#ff8000", "merged_into": None,
        "share": 0.25, "corrected": 500,
    }  # fmt: skip
    assert (lake["share"], lake["corrected"]) == (0.75, 0)
    said = classes(store).stdout
    for word in ("road", "lake", "#ff8000", "25.0%", "75.0%", "500"):
        assert word in said


@pytest.mark.slow
def test_classes_adds_renames_recolours_and_merges(store):
    result = classes(
        store, "--add", "bridge=#808080", "--add", "path", "--rename", "lake=water",
        "--color", "water=#00FFFF", "--merge", "path=road", "--merge", "water=road",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "water (displayed as road)" in result.stdout
    found = listed(store)
    assert [c["id"] for c in found.values()] == [1, 2, 3, 4]
    assert found["bridge"]["color"] == "#808080"
    assert found["water"]["color"] == "#00ffff"
    assert found["path"]["color"] not in ("#ff8000", "#0000ff", "#808080")
    assert found["path"]["merged_into"] == found["water"]["merged_into"] == "road"
    assert found["road"]["share"] == 1
    with LabelStore.open(store) as opened:
        assert (opened.read_labels(Roi(0, 0, *SHAPE)) == 1).all()
    assert classes(store, "--merge", "water=water").exit_code == 0
    assert listed(store)["water"]["merged_into"] is None
    assert listed(store)["road"]["share"] == 0.25


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--add", "road"), 1, "The class 'road' exists"),
        (
            ("--rename", "sea=water"),
            1,
            "no class 'sea'. Classes: 'road', 'lake'",
        ),
        (("--rename", "road=lake"), 1, "are not changed"),
        (("--color", "road=red"), 2, "'red' is not a colour"),
        (("--merge", "road"), 2, "with = between"),
        (("--merge", "road=sea"), 1, "no class 'sea'"),
    ],
)
def test_classes_invalid_change_changes_nothing(store, options, code, said):
    result = classes(store, "--add", "new", *options)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert list(listed(store)) == ["road", "lake"]


def test_classes_refuses_merge_into_each_other(store):
    assert classes(store, "--merge", "lake=road").exit_code == 0
    result = classes(store, "--merge", "road=lake")
    assert result.exit_code == 1
    assert "Undo the other merge first" in " ".join(result.stderr.split())


def test_classes_of_locked_store_are_read_only(store):
    with LabelStore.open(store, write=True):
        assert list(listed(store)) == ["road", "lake"]
        result = classes(store, "--add", "new")
    assert result.exit_code == 1
    assert "another window or process" in " ".join(result.stderr.split())


@pytest.mark.slow
def test_classes_deletes_with_and_without_another_class(store):
    result = classes(store, "--add", "path", "--delete", "road=lake")
    assert result.exit_code == 0, result.output
    found = listed(store)
    assert set(found) == {"lake", "path"}
    assert (found["lake"]["share"], found["lake"]["corrected"]) == (1, 500)
    result = classes(store, "--delete", "lake")
    assert result.exit_code == 0, result.output
    (path,) = listed(store).values()
    assert (path["id"], path["share"], path["corrected"]) == (3, 0, 0)
    with LabelStore.open(store) as opened:
        assert not opened.read_labels(Roi(0, 0, *SHAPE)).any()


@pytest.mark.parametrize("text", ["sea", "road=sea", "road=road", "road= "])
def test_classes_refuses_to_delete_wrong_names(store, text):
    before = listed(store)
    assert classes(store, "--delete", text).exit_code != 0
    assert listed(store) == before
