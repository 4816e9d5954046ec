"""Tests of metadata with numbers and nesting that no store has."""

import json

import pytest

from helpers.canvas import make_image
from helpers.label_stores import LEGEND
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.ome_metadata import is_store
from napari_uhrseg.io.labels.store import LabelStore


def test_folder_with_deeply_nested_metadata_is_no_store(tmp_path):
    (tmp_path / "zarr.json").write_text("[" * 5000 + "]" * 5000)
    assert not is_store(tmp_path)


def test_fill_value_that_does_not_fit_is_reported(tmp_path):
    path = tmp_path / "labels.zarr"
    LabelStore.create(path, make_image(64, 64), LEGEND).close()
    for file in path.rglob("zarr.json"):
        metadata = json.loads(file.read_text())
        if metadata["node_type"] == "array":
            file.write_text(json.dumps({**metadata, "fill_value": 2**31}))
    with pytest.raises(StoreError):
        LabelStore.open(path)
