"""Tests of metadata with numbers and nesting that no store has."""

import json

import numpy as np
import pytest

from helpers.label_stores import LEGEND, RUN, FakeImage
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.ome_metadata import is_store
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, Roi


def test_folder_with_deeply_nested_metadata_is_no_store(tmp_path):
    (tmp_path / "zarr.json").write_text("[" * 5000 + "]" * 5000)
    assert not is_store(tmp_path)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "labels.zarr"
    LabelStore.create(path, FakeImage((64, 64)), LEGEND).close()
    return path


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_fill_value_that_does_not_fit_is_reported(path):
    for file in path.rglob("zarr.json"):
        if json.loads(file.read_text())["node_type"] == "array":
            change(file, fill_value=2**31)
    with pytest.raises(StoreError):
        LabelStore.open(path)


BYTES = {"name": "bytes"}
BLOSC = {
    "typesize": 1, "cname": "zstd", "clevel": 1, "shuffle": "noshuffle", "blocksize": 0,
}  # fmt: skip


def with_codec(name, **options):
    return {"codecs": [BYTES, {"name": name, "configuration": options}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_codec("blosc", **{**BLOSC, "blocksize": 2**31}), "unusual codecs"),
        (with_codec("blosc", **{**BLOSC, "blocksize": -1}), "unusual codecs"),
        (with_codec("blosc", **{**BLOSC, "typesize": 2**63}), "unusual codecs"),
        (with_codec("zstd", level=-(2**40), checksum=False), "unusual codecs"),
        ({"codecs": [{"name": "transpose", "configuration": {"order": [1, 0]}}, BYTES]},
         "unusual codecs"),
        ({"fill_value": 1}, "the fill value 1, not 0"),
        ({"chunk_grid": {"name": "regular",
                         "configuration": {"chunk_shape": [2**31, 1024]}}},
         r"chunks of \(2147483648, 1024\), not \(1024, 1024\)"),
        ({"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
         "chunks with names such as 1.2"),
    ],
)  # fmt: skip
def test_arrays_stored_in_another_way_are_reported(path, changes, message):
    change(path / "labels/correction/0/zarr.json", **changes)
    for write in (False, True):
        with pytest.raises(StoreError, match=message):
            LabelStore.open(path, write=write)


def test_status_with_other_chunks_is_reported(path):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, 2**40]}}
    change(path / "states" / "zarr.json", chunk_grid=grid)
    with pytest.raises(StoreError, match="states has chunks"):
        LabelStore.open(path)


def test_store_compressed_by_another_codec_is_written(path):
    for name in ("0", "labels/prediction/0"):
        change(path / name / "zarr.json", **with_codec("gzip", level=5))
    ids = np.full((64, 64), 2, np.uint8)
    with LabelStore.open(path, write=True) as store:
        run = store.run_ledger.start_run(RUN)
        store.write(Block(Roi(0, 0, 64, 64), ids, ids), run.id, "done")
    with LabelStore.open(path) as store:
        np.testing.assert_array_equal(store.prediction[0][:], ids)
