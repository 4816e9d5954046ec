"""Tests of the label store on real folders."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer
from ome_zarr_models import open_ome_zarr
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

from helpers.full_disk import file_size_limit
from helpers.label_stores import (
    LEGEND,
    OTHER,
    RUN,
    FakeImage,
    assert_levels_consistent,
    chunk_block,
)
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.layer_levels import confidence_levels, displayed_levels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, LabelClass, Legend, Polygon, Roi

IMAGE = FakeImage()
SHAPE = IMAGE.shape
WKT = 'LOCAL_CS["somewhere"]'


@pytest.fixture
def store(tmp_path):
    with LabelStore.create(tmp_path / "labels.zarr", IMAGE, LEGEND) as made:
        yield made


def correct(store, roi, class_id):
    """Write corrections without a journal."""
    data = np.full((roi.height, roi.width), class_id, np.uint8)
    write_levels(store.correction, roi, data, coarser_labels)


# -- what is written is found again -------------------------------------------


@pytest.mark.slow
def test_store_keeps_everything_after_reopening(tmp_path):
    image = FakeImage(
        unit="metre", crs=WKT, affine=(0.5, 0, 3e6, 0, -0.25, 5e6), path=tmp_path
    )
    path = tmp_path / "new" / "folder" / "labels.zarr"
    region = Polygon(((0.5, 1.5), (0, 900), (700, 0)))
    with LabelStore.create(path, image, LEGEND) as store:
        first = store.run_ledger.start_run(replace(RUN, plane={"z": 3}))
        second = store.run_ledger.start_run(replace(RUN, region=region))
        block = chunk_block(0, 1, 1, SHAPE, 2, 2)
        store.write(block, first.id, "done")
        legend = store.legend_editor.add_classes(
            Legend((LabelClass(1, "tree", "#00ff00", 7),))
        )
    assert [c.name for c in legend] == ["road", "lake", "tree"]
    with LabelStore.open(path) as again:
        assert again.runs == (first, second)
        assert (first.id, second.id) == (1, 2)
        assert first.created.startswith("20")
        assert again.legend == legend
        assert (again.shape, again.unit, again.crs) == (SHAPE, "metre", WKT)
        assert (again.pixel_size, again.affine) == (image.pixel_size, image.affine)
        np.testing.assert_array_equal(
            again.prediction[0][block.roi.slices], block.labels
        )
        np.testing.assert_array_equal(
            again.confidence[0][block.roi.slices], block.confidence
        )
        done = np.zeros((5, 3), np.uint32)
        done[0:2, 1:3] = 1 << 2 | 1
        np.testing.assert_array_equal(again.chunk_status(), done)
        np.testing.assert_array_equal(again.pending(first), done == 0)
        assert_levels_consistent(again)


@pytest.mark.slow
def test_levels_stay_consistent_after_random_writes(store):
    rng = np.random.default_rng(0)
    run = store.run_ledger.start_run(RUN)
    shown = displayed_levels(store)
    confidence = confidence_levels(store)
    for i in range(12):
        row, column = int(rng.integers(5)), int(rng.integers(3))
        height, width = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        block = chunk_block(row, column, i, SHAPE, height, width)
        if rng.random() < 0.3:  # erased again
            zeros = np.zeros_like(block.labels)
            block = Block(block.roi, zeros, zeros)
        store.write(block, run.id, "done" if block.labels.any() else "empty")
        if rng.random() < 0.3:
            y, x = int(rng.integers(4900)), int(rng.integers(2000))
            correct(store, Roi(y, x, 100, 77), int(rng.integers(1, 3)))
            store.write(block, run.id, "done")  # brings the top in step
            store.coarsest_displayed()[...] = np.where(
                store.correction[-1][:],
                store.correction[-1][:],
                store.prediction[-1][:],
            )
    assert_levels_consistent(store)
    assert shown[-1] is store.coarsest_displayed()
    assert confidence[-1] is store.coarsest_confidence()
    for level, prediction, correction in zip(
        shown, store.prediction, store.correction, strict=True
    ):
        np.testing.assert_array_equal(
            level[:], np.where(correction[:], correction[:], prediction[:])
        )


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_write_levels_updates_all_levels_for_any_rectangle(data):
    shape = (37, 22)
    levels = []
    while True:
        memory = zarr.storage.MemoryStore()
        levels.append(zarr.create_array(memory, shape=shape, chunks=(8, 8), dtype="u1"))
        if max(shape) <= 5:
            break
        shape = (-(-shape[0] // 2), -(-shape[1] // 2))
    for _ in range(data.draw(st.integers(1, 4))):
        y, x = data.draw(st.integers(0, 36)), data.draw(st.integers(0, 21))
        roi = Roi(y, x, data.draw(st.integers(1, 37 - y)),
                  data.draw(st.integers(1, 22 - x)))  # fmt: skip
        seed = data.draw(st.integers(0, 99))
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 3, (roi.height, roi.width), np.uint8)
        top = write_levels(levels, roi, pixels, coarser_labels)
        np.testing.assert_array_equal(levels[0][roi.slices], pixels)
    wanted = levels[0][:]
    for level in levels[1:]:
        wanted = coarser_labels(wanted)
        np.testing.assert_array_equal(level[:], wanted)
    assert Roi(0, 0, *levels[-1].shape).contains(top)


def test_empty_block_writes_no_chunk_and_erases_existing(store):
    run = store.run_ledger.start_run(RUN)
    zeros = np.zeros((1024, 1024), np.uint8)
    empty = Block(Roi(1024, 0, 1024, 1024), zeros, zeros)

    def files():
        return sorted(
            str(f.relative_to(store.path))
            for f in store.path.rglob("c/*/*")
            if "states" not in f.parts
        )

    store.write(empty, run.id, "empty")
    assert files() == []
    store.write(chunk_block(1, 0, 1, SHAPE), run.id, "done")
    assert len(files()) == 2 * len(store.prediction)
    store.write(empty, run.id, "empty")
    assert files() == []
    assert store.chunk_status()[1, 0] == run.id << 2 | 2


# -- what is shown --------------------------------------------------------------


def test_displayed_level_overlays_correction_on_prediction(store):
    run = store.run_ledger.start_run(RUN)
    store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
    correct(store, Roi(10, 20, 30, 40), 2)
    level = displayed_levels(store)[0]
    wanted = store.prediction[0][:]
    wanted[10:40, 20:60] = 2
    assert (level.shape, level.dtype, level.ndim) == (SHAPE, np.uint8, 2)
    assert (level.size, len(level), level.chunks) == (5000 * 2100, 5000, (1024, 1024))
    for key in (
        np.s_[0:50, 0:80], np.s_[5], np.s_[..., 30], np.s_[12, 25], np.s_[:100:3],
        np.s_[20:], np.s_[-4900:, 3:9], (np.int64(11), slice(None)), np.s_[...],
    ):  # fmt: skip
        np.testing.assert_array_equal(level[key], wanted[key])
    with pytest.raises(IndexError):
        level[5000, 0]


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(
    roi=st.builds(
        Roi, st.integers(-99, 5100), st.integers(-99, 2200),
        st.integers(0, 300), st.integers(0, 300),
    ),
    level=st.integers(0, 2),
)  # fmt: skip
def test_read_labels_covers_roi_at_any_level(filled, roi, level):
    part = filled.read_labels(roi, level)
    step = 2**level
    y, x = roi.y // step, roi.x // step
    bottom, right = -(-roi.bottom // step), -(-roi.right // step)
    assert part.shape == (bottom - y, right - x)
    whole = np.zeros((bottom + 100, right + 100), np.uint8)
    padded = np.pad(filled.prediction[level][:], ((100, 400), (100, 400)))
    whole = padded[100 + y : 100 + bottom, 100 + x : 100 + right]
    np.testing.assert_array_equal(part, whole)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    path = tmp_path_factory.mktemp("filled") / "labels.zarr"
    with LabelStore.create(path, IMAGE, LEGEND) as store:
        run = store.run_ledger.start_run(RUN)
        store.write(chunk_block(0, 0, 3, SHAPE, 5, 3), run.id, "done")
        yield store


def test_area_shares_of_labelled_pixels(store):
    assert store.area_shares() == {}
    run = store.run_ledger.start_run(RUN)
    labels = np.ones((2048, 2048), np.uint8)
    labels[:512] = 2
    labels[1024:] = 0
    block = Block(Roi(0, 0, 2048, 2048), labels, labels)
    store.write(block, run.id, "done")
    assert store.area_shares() == {1: 0.5, 2: 0.5}
    correct(store, Roi(0, 0, 256, 2048), 1)
    store.close()
    assert LabelStore.open(store.path).area_shares() == {1: 0.75, 2: 0.25}


@pytest.mark.slow
def test_napari_layers_display_writes(store):
    labels = LabelsLayer(displayed_levels(store), multiscale=True, cache=False)
    confidence = ImageLayer(
        confidence_levels(store), multiscale=True, contrast_limits=(0, 255), cache=False
    )
    run = store.run_ledger.start_run(RUN)
    block = chunk_block(0, 0, 1, SHAPE, 5, 3)
    store.write(block, run.id, "done")
    for level in range(3):
        np.testing.assert_array_equal(labels.data[level][:], store.prediction[level][:])
        np.testing.assert_array_equal(
            confidence.data[level][:], store.confidence[level][:]
        )
    labels.refresh()
    assert labels._slice.image.raw.max() == 2  # the coarsest, cached by napari


# -- OME-Zarr -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "unit", "named"),
    [
        ((0.5, 0.25), "micrometer", "micrometer"),
        ((0.5, 0.5), "metre", "meter"),
        ((1e-5, 1e-5), "degree", "degree"),
        (None, "pixel", None),
    ],
)
def test_store_is_valid_ome_zarr(tmp_path, size, unit, named):
    image = FakeImage(pixel_size=size, unit=unit)
    path = tmp_path / "labels.zarr"
    with LabelStore.create(path, image, LEGEND) as store:
        run = store.run_ledger.start_run(RUN)
        store.write(chunk_block(0, 0, 1, SHAPE, 2, 2), run.id, "done")
        store.legend_editor.add_classes(Legend((LabelClass(1, "tree", "#00ff00"),)))
    assert isinstance(open_ome_zarr(path, version="0.5"), Image)
    model = Image.from_zarr(zarr.open_group(path, mode="r"))
    (scales,) = model.ome_attributes.multiscales
    assert [a.unit for a in scales.axes] == [named, named]
    y, x = size or (1.0, 1.0)
    transforms = [d.coordinateTransformations for d in scales.datasets]
    assert [t[0].scale for t in transforms] == [[y * f, x * f] for f in (1, 2, 4)]
    assert [t[1].translation for t in transforms] == [
        [y * f, x * f] for f in (0, 0.5, 1.5)
    ]
    assert model.labels.label_paths == ["prediction", "correction"]
    for name in model.labels.label_paths:
        group = zarr.open_group(path / "labels" / name, mode="r")
        label = ImageLabel.from_zarr(group).ome_attributes.image_label
        assert label.source.image == "../../"
        assert [(c.label_value, c.rgba) for c in label.colors] == [
            (1, (255, 128, 0, 255)), (2, (0, 0, 255, 255)), (3, (0, 255, 0, 255))
        ]  # fmt: skip
        assert [p.model_dump()["class"] for p in label.properties] == [
            "road", "lake", "tree"
        ]  # fmt: skip


# -- runs -------------------------------------------------------------------------


def test_run_continues_itself_and_rejects_replacing_another(store):
    mine = store.run_ledger.start_run(RUN)
    assert (
        store.run_ledger.start_run(replace(RUN, batch_size=1, created="later")) == mine
    )
    store.write(chunk_block(0, 0, 1, SHAPE, 2, 3), mine.id, "done")
    below = replace(OTHER, region=Roi(2048, 0, 3000, 3000))
    assert store.run_ledger.start_run(below).id == 2  # nothing there to replace
    assert store.run_ledger.conflicts(OTHER) == (mine,)
    with pytest.raises(StoreError, match=r"plain \(plain.safetensors, run 1 of 20"):
        store.run_ledger.start_run(OTHER)
    assert len(store.runs) == 2
    theirs = store.run_ledger.start_run(OTHER, replace=True)
    assert theirs.id == 3
    assert store.pending(theirs).all()
    store.write(chunk_block(0, 0, 2, SHAPE), theirs.id, "done")
    # leave to replace was given: going on needs none, going back does
    assert store.run_ledger.conflicts(OTHER) == ()
    assert store.run_ledger.start_run(OTHER) == theirs
    assert store.run_ledger.conflicts(RUN) == (theirs,)
    with pytest.raises(StoreError, match="scpseg"):
        store.run_ledger.start_run(RUN)
    again = store.run_ledger.start_run(RUN, replace=True)
    assert again.id == 4
    assert np.argwhere(~store.pending(again)).tolist() == [
        [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]
    ]  # fmt: skip


def test_failed_chunks_are_pending(store):
    run = store.run_ledger.start_run(RUN)
    block = chunk_block(4, 0, 1, SHAPE, 1, 3)
    zeros = np.zeros_like(block.labels)
    store.write(Block(block.roi, zeros, zeros), run.id, "failed")
    assert store.pending(run).all()
    store.write(block, run.id, "done")
    assert np.argwhere(~store.pending(run)).tolist() == [[4, 0], [4, 1], [4, 2]]


def test_run_of_another_image_is_rejected(store):
    with pytest.raises(StoreError, match="scene, and the image to segment has other"):
        store.run_ledger.start_run(replace(RUN, image_fingerprint="else"))


def test_more_than_255_classes_are_rejected(store):
    many = Legend(tuple(LabelClass(i, f"c{i}", "#000000") for i in range(1, 255)))
    with pytest.raises(StoreError, match="at most 255 classes"):
        store.legend_editor.add_classes(many)
    assert store.legend == LEGEND


# -- size and memory ----------------------------------------------------------------


def test_store_of_ten_gigapixels_uses_little_memory_and_disk(tmp_path):
    image = FakeImage(shape=(100_000, 100_000))
    process = psutil.Process()
    before = process.memory_info().rss
    with LabelStore.create(tmp_path / "big.zarr", image, LEGEND) as store:
        run = store.run_ledger.start_run(RUN)
        levels = displayed_levels(store)
        assert store.pending(run).sum() == 98 * 98
        store.write(chunk_block(97, 97, 1, image.shape), run.id, "done")
        assert levels[0][99_000:, 99_500:].shape == (1000, 500)
        assert store.read_labels(Roi(0, 0, 100_000, 100_000), 6).any()
    assert process.memory_info().rss - before < 100e6
    assert [x.shape for x in levels][-1] == (1563, 1563)
    files = [f for f in store.path.rglob("*") if f.is_file()]
    assert len(files) < 60  # of the 9,604 chunks one was written
    assert sum(f.stat().st_size for f in files) < 1e6


def test_temporary_store_is_removed_on_closing():
    store = LabelStore.create(None, FakeImage(fingerprint=""), LEGEND)
    assert store.temporary
    folder = store.path
    run = store.run_ledger.start_run(RUN)
    store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
    assert folder.exists()
    store.close()
    store.close()
    assert not folder.exists()
    assert not folder.parent.exists()


# -- one writer ----------------------------------------------------------------------


def test_store_rejects_second_writer_and_allows_readers(store):
    with pytest.raises(StoreError, match="being written by another"):
        LabelStore.open(store.path, write=True)
    run = store.run_ledger.start_run(RUN)
    with LabelStore.open(store.path) as reader:
        assert not reader.chunk_status().any()
        store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
        assert reader.chunk_status()[0, 0] == 5
        assert reader.read_labels(Roi(0, 0, 500, 500)).any()
        for change in (
            lambda: reader.write(chunk_block(0, 0, 1, SHAPE), 1, "done"),
            lambda: reader.run_ledger.start_run(RUN),
            lambda: reader.legend_editor.add_classes(LEGEND),
        ):
            with pytest.raises(StoreError, match="open for reading only"):
                change()
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.run_ledger.start_run(RUN)
    LabelStore.open(store.path, write=True).close()


@pytest.mark.slow
def test_threads_read_and_write_concurrently(store):
    """Readers see a chunk as it was or as it is, never a mixture."""
    run = store.run_ledger.start_run(RUN)
    blocks = []
    for value in (1, 2):
        data = np.full((1024, 1024), value, np.uint8)
        blocks.append(Block(Roi(0, 0, 1024, 1024), data, data))
    seen, stop, errors = set(), threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                seen.add(tuple(np.unique(store.read_labels(Roi(0, 0, 1024, 1024)))))
            except Exception as error:  # noqa: BLE001
                errors.append(error)

    def write(block):
        for _ in range(8):
            store.write(block, run.id, "done")

    threads = [threading.Thread(target=write, args=(b,)) for b in blocks]
    reader = threading.Thread(target=read)
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reader.join()
    assert errors == []
    assert seen <= {(0,), (1,), (2,)}
    assert_levels_consistent(store)


# -- what can go wrong -----------------------------------------------------------------


def test_create_never_overwrites_existing_path(tmp_path):
    folder, file, link = tmp_path / "folder", tmp_path / "file", tmp_path / "link"
    folder.mkdir()
    file.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    for path in (folder, file, link):
        with pytest.raises(StoreError, match=r"exists already.*Open it to continue"):
            LabelStore.create(path, IMAGE, LEGEND)
    assert file.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "link"]


def test_create_reports_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be made at .*: (Not a dir|File ex)"):
        LabelStore.create(tmp_path / "file" / "labels.zarr", IMAGE, LEGEND)
    with pytest.raises(StoreError, match="cannot be made"), file_size_limit(100):
        LabelStore.create(tmp_path / "full.zarr", IMAGE, LEGEND)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_full_disk_leaves_chunk_pending(store):
    run = store.run_ledger.start_run(RUN)
    noise = np.random.default_rng(0).integers(1, 3, (1024, 1024), np.uint8)
    block = Block(Roi(0, 0, 1024, 1024), noise, noise)
    store.write(block, run.id, "done")
    other = store.run_ledger.start_run(OTHER, replace=True)
    message = r"cannot be written: File too large.*Finished blocks are kept"
    with pytest.raises(StoreError, match=message), file_size_limit(20_000):
        store.write(block, other.id, "done")
    assert not store.chunk_status().any()
    assert not list(store.path.rglob("*.partial"))
    store.write(block, other.id, "done")
    assert store.chunk_status()[0, 0] == other.id << 2 | 1
    assert_levels_consistent(store)


def truncate(path, name, keep=40):
    file = path / name
    file.write_bytes(file.read_bytes()[:keep])


def edit(path, change, key="napari-uhrseg"):
    file = path / "zarr.json"
    data = json.loads(file.read_text())
    change(data["attributes"][key])
    file.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: truncate(p, "zarr.json"), "is damaged"),
        (lambda p: truncate(p, "1/zarr.json"), "is damaged"),
        (lambda p: truncate(p, "labels/prediction/0/zarr.json"), "is damaged"),
        (lambda p: shutil.rmtree(p / "labels/correction/2"),
         "damaged: the array labels/correction/2 is missing"),
        (lambda p: shutil.rmtree(p / "labels"), "is missing"),
        (lambda p: shutil.rmtree(p / "states"), "the array states is missing"),
        (lambda p: shutil.rmtree(p), "does not exist"),
        (lambda p: (p / "zarr.json").unlink(), "is not a label store"),
        (lambda p: edit(p, lambda own: own.update(format_version=3)),
         r"has format version 3; this program reads versions 1 to 2. Update"),
        (lambda p: edit(p, lambda own: own.pop("image")), "is damaged"),
        (lambda p: edit(p, lambda own: own["image"].update(shape=[9000, 10])),
         "is damaged"),
        (lambda p: edit(p, lambda own: own.update(runs=[])), "a run that is not rec"),
        (lambda p: edit(p, lambda own: own["runs"][0].pop("model")), "is damaged"),
        (lambda p: edit(p, lambda own: own["legend"][0].update(id=0)), "is damaged"),
        (lambda p: truncate(p, "states/c/0/0", 3), "is damaged"),
        (lambda p: edit(p, lambda own: own.clear(), "ome"), "list no levels"),
        (lambda p: edit(p, lambda ome: ome.update(multiscales=[]), "ome"),
         "list no levels"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("write", [False, True])
def test_damaged_store_is_reported(store, harm, message, write):
    run = store.run_ledger.start_run(RUN)
    store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
    store.close()
    harm(store.path)
    with pytest.raises(StoreError, match=message):
        LabelStore.open(store.path, write=write)


def version_of(path):
    data = json.loads((path / "zarr.json").read_text())
    return data["attributes"]["napari-uhrseg"]["format_version"]


def as_version_1(own):
    own["format_version"] = 1
    for run in own["runs"]:
        run["skip_glass"] = run.pop("skip_background")
    own["legend"][0]["former"] = ["path"]


def test_store_of_version_1_is_read_and_converted_for_writing(store, caplog):
    run = store.run_ledger.start_run(replace(RUN, skip_background=True))
    store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
    whole = Roi(0, 0, *SHAPE)
    labels, path = store.read_labels(whole), store.path
    store.close()
    edit(path, as_version_1)
    before = (path / "zarr.json").read_bytes()
    with LabelStore.open(path) as reader:
        assert reader.runs == (run,)
        assert reader.legend.classes[0].former_names == ("path",)
        np.testing.assert_array_equal(reader.read_labels(whole), labels)
    assert (path / "zarr.json").read_bytes() == before
    assert not caplog.records
    with LabelStore.open(path, write=True) as writer:
        assert writer.run_ledger.start_run(replace(RUN, skip_background=True)) == run
        np.testing.assert_array_equal(writer.read_labels(whole), labels)
    assert "was converted from format version 1 to 2" in caplog.text
    assert version_of(path) == 2
    assert LabelStore.open(path).runs == (run,)


@contextmanager
def unprivileged_user():
    """Drop the permissions of root; without effect for other users."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_store_without_permission_is_reported():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "labels.zarr"
        LabelStore.create(path, IMAGE, LEGEND).close()
        (path / ".lock").chmod(0o400)
        path.chmod(0)
        with unprivileged_user(), pytest.raises(StoreError, match="opened: Permission"):
            LabelStore.open(path)
        path.chmod(0o555)
        with unprivileged_user():
            assert LabelStore.open(path).legend == LEGEND
            message = "cannot be opened for writing: Permission denied"
            with pytest.raises(StoreError, match=message):
                LabelStore.open(path, write=True)
            with pytest.raises(StoreError, match=r"made at .*: Permission"):
                LabelStore.create(path / "inside.zarr", IMAGE, LEGEND)
        path.chmod(0o755)


def test_other_zarr_is_not_a_label_store(tmp_path):
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    zarr.create_array(tmp_path / "array.zarr", shape=(3, 3), dtype="u1")
    for name in ("other.zarr", "array.zarr"):
        with pytest.raises(StoreError):
            LabelStore.open(tmp_path / name)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread")], ids=str
)
def test_too_little_memory_is_not_reported_as_damage(store, monkeypatch, error):
    def fails(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "__getitem__", fails)
        with pytest.raises(type(error)):
            store.read_labels(Roi(0, 0, 10, 10))
    monkeypatch.setattr(zarr, "open_group", fails)
    with pytest.raises(type(error)):
        LabelStore.open(store.path)


def test_damaged_chunk_is_reported_when_read(store):
    run = store.run_ledger.start_run(RUN)
    store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
    truncate(store.path, "labels/prediction/0/c/0/0")
    with pytest.raises(StoreError, match="cannot be read from"):
        store.read_labels(Roi(0, 0, 10, 10))
    assert not store.read_labels(Roi(2000, 0, 10, 10)).any()


def test_open_for_writing_recovers_from_killed_writer(store):
    store.close()
    (store.path / "0" / "c.0123.partial").write_text("half a chunk")
    legend = [{"id": 9, "name": "new", "color": "#123456", "source_value": None}]
    edit(store.path, lambda own: own["legend"].extend(legend))
    with LabelStore.open(store.path, write=True) as again:
        assert again.legend.classes[-1].name == "new"
    assert not list(store.path.rglob("*.partial"))
    label = zarr.open_group(store.path / "labels/correction", mode="r")
    assert label.attrs["ome"]["image-label"]["colors"][-1]["label-value"] == 9


def test_write_rejects_unknown_runs_and_wrong_blocks(store):
    run = store.run_ledger.start_run(RUN)
    block = chunk_block(0, 0, 1, SHAPE)
    with pytest.raises(ValueError, match="run 2 is not recorded"):
        store.write(block, 2, "done")
    wrong = Block(block.roi, block.labels.astype(np.int32), block.confidence)
    with pytest.raises(ValueError, match="comes with int32"):
        store.write(wrong, run.id, "done")
    with pytest.raises(ValueError, match="whole chunks"):
        store.write(Block(block.roi.shift(1, 0), block.labels, block.labels), 1, "done")
    assert not store.chunk_status().any()


@pytest.mark.slow
def test_store_module_imports_neither_torch_nor_napari():
    code = (
        "import sys, napari_uhrseg.io.labels.store\n"
        "print([m for m in ('torch', 'napari', 'qtpy') if m in sys.modules])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=environment,
    )  # fmt: skip
    assert out.stdout.strip() == "[]"
