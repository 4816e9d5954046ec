"""Test the deletion of a class from predictions, corrections, runs and legend."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.forked import forked_code
from helpers.label_stores import (
    LEGEND,
    RUN,
    FakeImage,
    assert_levels_consistent,
    chunk_block,
)
from napari_uhrseg.engine.planning.run_questions import class_ids
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.corrections.delete_class import delete_class, finish_deletions
from napari_uhrseg.io.labels.layer_levels import displayed_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Roi, SegmentSettings

IMAGE = FakeImage((2100, 1100))  # 3 by 2 chunks
WHOLE = Roi(0, 0, *IMAGE.shape)
PAINTED = Roi(1000, 100, 60, 900)  # in two rows of chunks
MORE = Legend((LabelClass(1, "sea", "#00ff00"),))


@pytest.fixture
def store(tmp_path):
    """Return labels 1 and 2 in 5 of 6 chunks, and corrections of the classes 1, 3."""
    with LabelStore.create(tmp_path / "labels.zarr", IMAGE, LEGEND) as made:
        run = made.run_ledger.start_run(RUN)
        made.write(chunk_block(0, 0, 1, IMAGE.shape, 2, 2), run.id, "done")
        made.write(chunk_block(2, 0, 1, IMAGE.shape), run.id, "done")
        made.legend_editor.add_classes(MORE)
        with Corrections.open(made) as corrections:
            list(corrections.fill(PAINTED, 3))
            list(corrections.fill(Roi(1010, 110, 20, 20), 1))
        yield made


def expected(store: LabelStore, gone: int, into: int) -> tuple:
    """Return level 0 of predictions and corrections after a deletion."""
    levels = store.prediction[0][:], store.correction[0][:]
    return tuple(np.where(level == gone, into, level) for level in levels)


@pytest.mark.slow
@pytest.mark.parametrize(("gone", "into"), [(1, 2), (1, 0), (3, 2), (3, 0)])
def test_labels_of_a_deleted_class_become_another_or_none(store, gone, into):
    prediction, correction = expected(store, gone, into)
    shares = list(delete_class(store, gone, into))
    assert shares[-1] == 1
    assert shares == sorted(shares)
    np.testing.assert_array_equal(store.prediction[0][:], prediction)
    np.testing.assert_array_equal(store.correction[0][:], correction)
    assert_levels_consistent(store)
    assert gone not in [c.id for c in store.legend]
    assert store.runs[0].class_map == ((into, 2) if gone == 1 else (1, 2))
    again = LabelStore.open(store.path)
    assert again.legend == store.legend
    shown = np.where(correction, correction, prediction)
    np.testing.assert_array_equal(again.read_labels(WHOLE), shown)


def test_deleted_id_is_not_used_again_and_undo_does_not_show_it(store):
    list(delete_class(store, 3))
    legend = store.legend_editor.add_classes(MORE)
    assert [c.id for c in legend] == [1, 2, 4]
    with Corrections.open(store) as corrections:
        corrections.undo()  # the deletion, in the corrections
        assert (store.correction[0][:] == 3).any()
        assert set(corrections.counts()) == {1}
    assert 3 not in store.read_labels(WHOLE)
    prediction = store.prediction[0][:]
    corner = store.read_labels(Roi(1050, 900, 5, 50))
    np.testing.assert_array_equal(corner, prediction[1050:1055, 900:950])


def test_classes_merged_into_a_deleted_class_are_deleted_with_it(store):
    store.legend_editor.merge_class(3, 1)
    list(delete_class(store, 1, 2))
    assert [c.name for c in store.legend] == ["lake"]
    assert set(np.unique(store.read_labels(WHOLE))) == {0, 2}
    assert set(np.unique(store.correction[0][:])) == {0, 2}


@pytest.mark.parametrize(("gone", "into"), [(9, 0), (1, 1), (1, 9)])
def test_unknown_classes_are_refused(store, gone, into):
    before = store.legend
    with pytest.raises(StoreError, match=f"Class {gone} of .* class {into}"):
        list(delete_class(store, gone, into))
    assert store.legend == before


def test_nothing_changes_while_another_process_corrects(store):
    before = store.legend
    other = LabelStore.open(store.path)
    with Corrections.open(other), pytest.raises(StoreError, match="Corrections of"):
        list(delete_class(store, 1))
    assert store.legend == before


def test_a_run_that_continues_after_a_deletion_gives_the_other_class(store):
    list(delete_class(store, 1, 2))
    classes = class_ids(LEGEND, store, SegmentSettings(), RUN.checkpoint_hash)
    assert classes.ids == (2, 2)
    assert not classes.unanswered
    run = store.run_ledger.start_run(replace(RUN, class_map=classes.ids))
    assert run.id == 1
    assert store.pending(run).sum() == 1


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2, 4, 6])
def test_interrupted_deletion_is_displayed_and_completed_by_the_next(store, parts):
    prediction, correction = expected(store, 1, 2)
    deletion = delete_class(store, 1, 2)
    for _ in range(parts):
        next(deletion)
    deletion.close()
    shown = np.where(correction, correction, prediction)
    np.testing.assert_array_equal(store.read_labels(WHOLE), shown)
    list(delete_class(store, 3))
    np.testing.assert_array_equal(store.prediction[0][:], prediction)
    correction = np.where(correction == 3, 0, correction)
    np.testing.assert_array_equal(store.correction[0][:], correction)
    assert_levels_consistent(store)


def test_coarser_levels_of_an_interrupted_deletion_are_completed(store):
    prediction, _ = expected(store, 1, 2)
    deletion = delete_class(store, 1, 2)
    while next(deletion) <= 0.5:
        pass
    deletion.close()
    store.prediction[0][:] = prediction  # a kill leaves the coarser levels
    with Corrections.open(store) as corrections:
        list(finish_deletions(store, corrections))
    assert not store.legend_editor.deleting
    assert_levels_consistent(store)


KILLED = """
import os, sys
from napari_uhrseg.io.corrections.delete_class import delete_class
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels import pyramid
store = LabelStore.open(sys.argv[1], write=True)
writes = iter(range(int(sys.argv[2])))
original = pyramid.write_chunks
def count(*args):
    if next(writes, None) is None:
        os._exit(9)
    original(*args)
pyramid.write_chunks = count
list(delete_class(store, 1, 2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 1, 3, 6, 8])
def test_killed_deletion_is_displayed_and_completed_by_the_next(store, writes):
    prediction, correction = expected(store, 1, 2)
    path = store.path
    store.close()
    with forked_code(KILLED, str(path), str(writes)) as process:
        assert process.wait() == 9
    shown = np.where(correction, correction, prediction)
    with LabelStore.open(path, write=True) as again:
        assert [c.name for c in again.legend] == ["lake", "sea"]
        np.testing.assert_array_equal(again.read_labels(WHOLE), shown)
        np.testing.assert_array_equal(displayed_levels(again)[0][:], shown)
        list(delete_class(again, 3))
        np.testing.assert_array_equal(again.prediction[0][:], prediction)
        correction = np.where(correction == 3, 0, correction)
        np.testing.assert_array_equal(again.correction[0][:], correction)
        assert_levels_consistent(again)
