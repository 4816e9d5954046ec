"""``napari-uhrseg correct``: what was drawn elsewhere becomes corrections."""

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.io.image import Image
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi

LEGEND = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))
SHAPE = 300, 400


@pytest.fixture
def store(tmp_path):
    picture = Image.from_array(np.zeros(SHAPE, np.uint8), name="slide")
    with LabelStore.create(tmp_path / "labels.zarr", picture, LEGEND) as made:
        made.prediction[0][:] = 2
    return tmp_path / "labels.zarr"


def correct(*arguments: object):
    return CliRunner().invoke(app, ["correct", *(str(a) for a in arguments)])


def shown(store):
    with LabelStore.open(store) as opened:
        return opened.shown(Roi(0, 0, *SHAPE))


def squares(path, *names):
    """Squares of 50 pixels beside each other, a class each."""
    features = []
    for i, name in enumerate(names):
        x = 100 * i
        ring = [[x, 0], [x + 50, 0], [x + 50, 50], [x, 50], [x, 0]]
        about = {} if name is None else {"classification": {"name": name}}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": about})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_polygons_become_corrections(store, tmp_path):
    file = squares(tmp_path / "a.geojson", "road", "pond", None)
    result = correct(store, file)
    assert result.exit_code == 0, result.output
    assert "pond (1)" in " ".join(result.stderr.split())
    truth = np.full(SHAPE, 2)
    truth[:50, :50] = 1
    np.testing.assert_array_equal(shown(store), truth)
    result = correct(store, file, "--class", "road", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["left_out"] == {}
    truth[:50, 100:150] = truth[:50, 200:250] = 1
    np.testing.assert_array_equal(shown(store), truth)


def test_a_mask_becomes_corrections(store, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:10], mask[20:30] = 1, 7
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    result = correct(store, tmp_path / "mask.tif")
    assert result.exit_code == 0, result.output
    assert "7 (4000)" in " ".join(result.stderr.split())
    np.testing.assert_array_equal(shown(store), np.where(mask == 1, 1, 2))


def test_what_cannot_be_is_said_and_nothing_changed(store, tmp_path):
    file = squares(tmp_path / "a.geojson", "pond")
    tifffile.imwrite(tmp_path / "small.tif", np.ones((3, 4), np.uint8))
    for arguments, said in (
        ((file,), "names a class of the store"),
        ((file, "--class", "sea"), "no class 'sea'"),
        ((tmp_path / "small.tif",), "3"),
        ((tmp_path / "nowhere.tif",), "does not exist"),
    ):
        result = correct(store, *arguments)
        assert result.exit_code == 1
        assert said in " ".join(result.stderr.split())
    assert (shown(store) == 2).all()
