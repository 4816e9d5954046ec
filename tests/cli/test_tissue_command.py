"""``napari-uhrseg tissue``, and ``segment --tissue``."""

import json

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_uhrseg.cli import app
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.tissue.stored_mask import read_tissue
from napari_uhrseg.types import AreaSize


@pytest.fixture
def slide(tmp_path):
    data = np.full((300, 420, 3), (240, 238, 242), np.uint8)
    data[100:200, 100:300] = (180, 90, 160)
    tifffile.imwrite(tmp_path / "slide.tif", data, photometric="rgb")
    return tmp_path / "slide.tif"


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_tissue_prints_share_pieces_and_thresholds(slide, tmp_path):
    output = tmp_path / "mask.geojson"
    result = invoke("tissue", slide, "--output", output, "--tissue-piece", 100)
    assert result.exit_code == 0, result.output
    assert "% of the image in 1 pieces" in result.stdout
    assert "Thresholds: saturation 0." in result.stdout
    assert len(json.loads(output.read_text())["features"]) == 1
    again = invoke("tissue", slide, "--output", output)
    assert again.exit_code == 1
    assert "exists already" in again.stderr


def test_tissue_json_is_one_object(slide):
    result = invoke("tissue", slide, "--json", "--tissue-smoothing", 0,
                    "--tissue-piece", "0 px")  # fmt: skip
    found = json.loads(result.stdout)
    assert found["event"] == "tissue"
    assert found["share"] == pytest.approx(100 * 200 / (300 * 420))
    assert (found["pieces"], found["pixel"]) == (1, 1)


def test_tissue_refuses_wrong_options(slide, tmp_path):
    assert invoke("tissue", slide, "--tissue-piece", "5 apples").exit_code == 2
    assert invoke("tissue", slide, "--output", tmp_path / "mask.tif").exit_code == 2


@pytest.mark.slow
def test_segment_labels_only_tissue(slide, files, tmp_path):
    store = tmp_path / "labels.zarr"
    command = ("segment", slide, "--checkpoint", files / "net.safetensors",
               "--output", store, "--device", "cpu", "--scale", 1,
               "--precision", "fp32")  # fmt: skip
    small = ("--tissue", "--tissue-piece", "500", "--tissue-smoothing", 0)
    refused = invoke(*command, "--tissue-piece", "500")
    assert refused.exit_code == 2
    assert "need --tissue" in refused.stderr
    planned = invoke(*command, *small, "--dry-run")
    assert "without tissue are left out" in planned.stdout
    assert invoke(*command, *small).exit_code == 0
    with LabelStore.open(store) as opened:
        mask = read_tissue(opened.path, opened.shape)
        labelled = opened.prediction[0][:] > 0
    assert mask.settings.smallest_piece == AreaSize(500)
    np.testing.assert_array_equal(labelled, mask.pixels)
    assert invoke(*command, "--tissue").exit_code == 0  # with the mask of the labels
    other = (*small, "--tissue-density", 0.9, "--tissue-saturation", 0.9)
    result = invoke(*command, *other)
    assert result.exit_code == 1
    assert "has another tissue mask (saturation 0.030" in result.stderr
    assert invoke(*command, *other, "--replace").exit_code == 0
    with LabelStore.open(store) as opened:
        assert not opened.prediction[0][:].any()


def test_mask_is_written_to_labels(slide, tmp_path):
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.types import LabelClass, Legend

    legend = Legend((LabelClass(1, "gland", "#ff0000"),))
    with LabelStore.create(tmp_path / "a.zarr", open_image(slide), legend) as store:
        pass
    result = invoke("tissue", slide, "--labels", store.path, "--tissue-piece", 100)
    assert result.exit_code == 0, result.output
    assert read_tissue(store.path, (300, 420)).pixels.any()
