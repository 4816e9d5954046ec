"""Tests of renaming, recolouring and merging classes."""

import json

import numpy as np
import pytest
import zarr
from ome_zarr_models import open_ome_zarr

from helpers.label_stores import LEGEND, RUN, FakeImage, chunk_block
from napari_uhrseg.engine.inference.segment import class_map
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.layer_levels import correction_levels, displayed_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi

IMAGE = FakeImage()
WHOLE = Roi(0, 0, *IMAGE.shape)


@pytest.fixture
def store(tmp_path):
    with LabelStore.create(tmp_path / "labels.zarr", IMAGE, LEGEND) as made:
        run = made.run_ledger.start_run(RUN)
        made.write(chunk_block(0, 0, 1, IMAGE.shape, 5, 3), run.id, "done")
        yield made


def said(store, what):
    """What OME-Zarr's metadata says of each value."""
    label = zarr.open_group(store.path / "labels/prediction", mode="r")
    return {p["label-value"]: p for p in label.attrs["ome"]["image-label"][what]}


def test_renamed_and_recoloured_class_survives_reopening(store):
    store.legend_editor.rename_class(1, "street")
    legend = store.legend_editor.recolor_class(1, "#010203")
    street = LabelClass(1, "street", "#010203", former_names=("road",))
    assert legend.classes == (street, LEGEND.classes[1])
    assert said(store, "properties")[1]["class"] == "street"
    assert said(store, "colors")[1]["rgba"] == [1, 2, 3, 255]
    assert LabelStore.open(store.path).legend == legend
    open_ome_zarr(store.path)


def test_renamed_class_matches_network_by_former_name(store):
    store.legend_editor.rename_class(1, "street")
    legend = store.legend_editor.add_classes(LEGEND)
    assert [c.name for c in legend] == ["street", "lake"]
    assert class_map(LEGEND, legend) == (1, 2)
    store.legend_editor.rename_class(1, "road")
    assert store.legend.classes[0].name == "road"
    assert store.legend.classes[0].former_names == ("street",)


def test_legend_editor_rejects_taken_names_and_unknown_classes(store):
    for change, message in (
        (lambda: store.legend_editor.rename_class(1, "lake"), "class name twice"),
        (lambda: store.legend_editor.rename_class(1, " "), "needs a name"),
        (lambda: store.legend_editor.rename_class(7, "sea"), "no class 7"),
        (lambda: store.legend_editor.recolor_class(1, "blue"), "not of the form"),
    ):
        with pytest.raises(StoreError, match=rf"stay as they were: .*{message}"):
            change()
    for one, other in ((1, 7), (7, 1)):
        with pytest.raises(ValueError, match="cannot be merged"):
            store.legend_editor.merge_class(one, other)
    with LabelStore.open(store.path) as reader, pytest.raises(StoreError):
        reader.legend_editor.merge_class(1, 2)
    assert (store.legend, store.aliases) == (LEGEND, {})


@pytest.mark.slow
def test_merged_class_is_displayed_as_other_without_rewriting_chunks(store):
    levels, alone = displayed_levels(store), correction_levels(store)
    with Corrections.open(store) as corrections:
        list(corrections.fill(Roi(0, 0, 100, 100), 1))
        list(corrections.fill(Roi(0, 100, 100, 100), 2))
        before = [level[:].copy() for level in levels]
        files = {f: f.stat().st_mtime_ns for f in store.path.rglob("c/*/*")}
        assert store.legend_editor.merge_class(2, 1) == LEGEND
        assert corrections.counts() == {1: 20_000}
        assert corrections.corrected_regions()[0].pixels == {1: 20_000}
    assert files == {f: f.stat().st_mtime_ns for f in store.path.rglob("c/*/*")}
    for level, wanted in zip(levels, before, strict=True):
        assert (level[:].max(), (level[:] != 0).sum()) == (1, (wanted != 0).sum())
    assert {int(v) for level in alone for v in np.unique(level[:])} == {0, 1}
    assert store.area_shares().get(2, 0) == 0
    assert said(store, "properties")[2]["class"] == "road"
    assert said(store, "colors")[2]["rgba"] == [255, 128, 0, 255]
    open_ome_zarr(store.path)
    with LabelStore.open(store.path) as again:
        assert again.aliases == {2: 1}
        assert set(np.unique(again.read_labels(WHOLE))) == {0, 1}
    store.write(chunk_block(0, 0, 5, IMAGE.shape), 1, "done")  # a run writes it still
    assert store.read_labels(Roi(0, 0, 1024, 1024)).max() == 1
    store.legend_editor.merge_class(2, 2)  # shown as itself again
    assert levels[0][:].max() == levels[-1][:].max() == 2


def test_class_merged_twice_is_displayed_as_last(store):
    store.legend_editor.add_classes(Legend((LabelClass(1, "tree", "#00ff00"),)))
    store.legend_editor.merge_class(2, 1)
    store.legend_editor.merge_class(1, 3)
    assert store.aliases == {2: 3, 1: 3}
    assert set(np.unique(store.read_labels(WHOLE))) == {0, 3}
    with pytest.raises(ValueError, match="cannot be merged"):
        store.legend_editor.merge_class(3, 2)


def test_store_without_merged_classes_opens(store):
    file = store.path / "zarr.json"
    own = json.loads(file.read_text())["attributes"]["napari-uhrseg"]
    assert "aliases" not in own
    assert all("former_names" not in c for c in own["legend"])
    store.legend_editor.merge_class(2, 1)
    store.close()
    data = json.loads(file.read_text())
    data["attributes"]["napari-uhrseg"]["aliases"] = {"2": 9}
    file.write_text(json.dumps(data))
    with pytest.raises(StoreError, match="a merged class is not in the legend"):
        LabelStore.open(store.path)
