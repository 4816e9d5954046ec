"""Label stores of a project: their states, and one set of classes for all."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.corrections import correct
from helpers.label_stores import LEGEND, RUN, FakeImage, chunk_block
from napari_uhrseg.errors import ProjectError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.project.class_edits import (
    ProjectClassEditor,
    with_classes_of,
    without_classes,
)
from napari_uhrseg.io.project.project import Project, ProjectImage
from napari_uhrseg.io.project.project_stores import (
    observed_state,
    sync_all,
    sync_classes,
)
from napari_uhrseg.types import Block, LabelClass, Legend, Roi

SHAPE = (100, 120)


def sync(project, paths):
    """Return the failures by file name."""
    spread = sync_all(project, {p.name: lambda p=p: p for p in paths})
    done = []
    while True:
        try:
            done.append(next(spread))
        except StopIteration as end:
            assert done == [p.name for p in paths]
            return end.value


def test_state_follows_the_contents_of_the_store(tmp_path):
    path = tmp_path / "labels.zarr"
    assert observed_state(path) == "new"
    with LabelStore.create(path, FakeImage(SHAPE), LEGEND) as store:
        assert observed_state(path) == "new"
        run = store.run_ledger.start_run(RUN)
        store.write(chunk_block(0, 0, 1, SHAPE), run.id, "done")
        assert observed_state(path) == "segmented"
        correct(store, Roi(0, 0, 8, 8), 1)
    assert observed_state(path) == "corrected"


def test_class_edits_reach_a_store_with_other_ids(tmp_path):
    own = Legend(
        (LabelClass(5, "lake", "#0000ff"), LabelClass(7, "barn", "#ffffff"),
         LabelClass(9, "pond", "#0000aa"))
    )  # fmt: skip
    legend = LEGEND.renamed(2, "water").recolored(2, "#0011ff")
    legend = legend.merged(Legend((LabelClass(1, "pond", "#0000aa"),)))
    project = Project(legend=legend, aliases={3: 2})
    with LabelStore.create(tmp_path / "l.zarr", FakeImage(SHAPE), own) as store:
        assert sync_classes(store, project)
        names = {c.id: c.name for c in store.legend}
        assert names == {5: "water", 7: "barn", 9: "pond", 10: "road"}
        assert store.aliases == {9: 5}
        assert not sync_classes(store, project)
        assert sync_classes(store, Project(legend=legend))
        assert store.aliases == {}
        assert sync_classes(store, Project(legend=legend, aliases={2: 3}))
        assert store.aliases == {5: 9}
        assert sync_classes(store, project)  # the merge is turned around
        assert store.aliases == {9: 5}


@pytest.mark.parametrize("stepwise", [True, False])
def test_class_can_get_the_former_name_of_another_one(tmp_path, stepwise):
    """The classes with the ids 1 and 2 are renamed one after the other."""
    first, second = (c.name for c in LEGEND)
    editor = ProjectClassEditor(Project(legend=LEGEND))
    with LabelStore.create(tmp_path / "l.zarr", FakeImage(SHAPE), LEGEND) as store:
        editor.rename_class(2, "sea")
        if stepwise:
            sync_classes(store, editor.project)
        editor.rename_class(1, second)
        sync_classes(store, editor.project)
        assert {c.id: c.name for c in store.legend} == {1: second, 2: "sea"}
        assert not sync_classes(store, editor.project)
        store.legend_editor.rename_class(1, first)
        store.legend_editor.rename_class(2, second)
        back = with_classes_of(editor.project, store.legend, {})
    assert {c.id: c.name for c in back.legend} == {1: first, 2: second}


def test_merges_of_a_store_include_what_the_project_displays_as_its_class():
    pond = LabelClass(3, "pond", "#0000aa")
    project = Project(legend=Legend((*LEGEND, pond)), aliases={3: 1})
    assert with_classes_of(project, LEGEND, {1: 2}).aliases == {1: 2, 3: 2}


def test_store_in_use_is_reported_and_the_others_are_changed(tmp_path):
    paths = [tmp_path / f"{n}.zarr" for n in range(3)]
    stores = [LabelStore.create(p, FakeImage(SHAPE), LEGEND) for p in paths[:2]]
    stores[1].close()
    project = Project(legend=LEGEND.renamed(1, "street"))
    failed = sync(project, paths)
    assert list(failed) == ["0.zarr"]
    assert "being written by another" in failed["0.zarr"]
    stores[0].close()
    assert sync(project, paths) == {}
    for path in paths[:2]:
        with LabelStore.open(path) as store:
            assert store.legend.named("street").id == 1


@pytest.mark.slow
def test_deleted_class_becomes_another_one_in_every_store(tmp_path):
    paths = [tmp_path / f"{n}.zarr" for n in range(2)]
    classes = LEGEND.merged(Legend((LabelClass(1, "pond", "#0000aa"),)))
    own = [classes, Legend(tuple(replace(c, id=c.id + 4) for c in classes))]
    for path, legend in zip(paths, own, strict=True):
        with LabelStore.create(path, FakeImage(SHAPE), legend) as store:
            run = store.run_ledger.start_run(
                replace(RUN, class_map=tuple(c.id for c in legend)[:2])
            )
            data = np.full(SHAPE, legend.classes[0].id, np.uint8)
            data[:50] = legend.classes[1].id
            store.write(Block(Roi(0, 0, *SHAPE), data, data), run.id, "done")
            correct(store, Roi(90, 0, 8, 8), legend.classes[0].id)
    first, second, third = classes
    editor = ProjectClassEditor(Project(legend=classes))
    editor.delete_class(first.id, second.id)
    editor.delete_class(second.id, third.id)
    project = Project.from_dict(editor.project.to_dict())
    assert [c.name for c in project.legend] == [third.name]
    assert sync(project, paths) == {}
    for path in paths:
        with LabelStore.open(path) as store:
            (left,) = store.legend
            assert left.name == third.name
            assert (store.read_labels(Roi(0, 0, *SHAPE)) == left.id).all()
            assert store.correction[0][90, 0] == left.id
    again = project.with_classes(Legend((first,)))
    assert sync(again, paths) == {}
    for path in paths:
        with LabelStore.open(path) as store:
            assert {c.name for c in store.legend} == {first.name, third.name}


def test_deletion_includes_the_classes_that_are_displayed_as_the_deleted_one(tmp_path):
    first, second = LEGEND
    classes = LEGEND.merged(Legend((LabelClass(1, "pond", "#0000aa"),)))
    editor = ProjectClassEditor(Project(legend=classes))
    editor.merge_class(3, into=second.id)
    path = tmp_path / "l.zarr"
    with LabelStore.create(path, FakeImage(SHAPE), classes) as store:
        sync_classes(store, editor.project)
        editor.delete_class(second.id, 0)
        assert sync_classes(store, editor.project)
        assert [c.name for c in store.legend] == [first.name]
        assert not sync_classes(store, editor.project)


def test_store_of_a_deletion_loses_the_class_in_the_project():
    first, second = LEGEND
    left = without_classes(Project(legend=LEGEND), [(first.name, second.name)])
    assert left.legend.named(first.name) is None
    assert left.deleted == {first.name: second.name}
    assert without_classes(left, [(first.name, "")]) == left
    assert with_classes_of(left, Legend((first,)), {}).deleted == {}


def test_deleted_class_is_deleted_under_its_former_names_too(tmp_path):
    editor = ProjectClassEditor(Project(legend=LEGEND))
    with LabelStore.create(tmp_path / "l.zarr", FakeImage(SHAPE), LEGEND) as store:
        editor.rename_class(2, "water")  # which the store has missed
        editor.delete_class(2, 1)
        assert sync_classes(store, editor.project)
        assert [c.id for c in store.legend] == [1]


def test_deleted_class_of_a_checkpoint_stays_deleted_in_the_project():
    road, lake = LEGEND
    pond = LabelClass(3, "pond", "#0000aa")
    editor = ProjectClassEditor(Project(legend=Legend((road, lake, pond))))
    editor.delete_class(3, 2)
    editor.delete_class(2, 1)
    network = Legend((lake, pond, LabelClass(4, "barn", "#ffffff")))
    left = editor.project.with_network(network, {})
    assert [c.name for c in left.legend] == ["road", "barn"]
    assert left.network_names(network) == {"lake": "road", "pond": "road"}
    again = editor.project.with_network(network, {"lake": "lake", "barn": ""})
    assert [c.name for c in again.legend] == ["road", "lake"]
    assert again.network_names(network) == {"pond": "lake"}


def test_project_takes_255_classes():
    many = Legend(tuple(LabelClass(i, f"c{i}", "#000000") for i in range(1, 256)))
    assert len(Project().with_classes(many).legend) == 255
    with pytest.raises(ProjectError, match="more than 255 classes"):
        Project(legend=LEGEND).with_classes(many)


def test_images_are_chosen_by_pattern_and_state():
    project = Project(
        tuple(
            ProjectImage(f"{n}.tif", f"{n}.zarr", state)
            for n, state in [("a1", "new"), ("a2", "corrected"), ("b1", "new")]
        )
    )
    assert [i.path for i in project.chosen(["a*"])] == ["a1.tif", "a2.tif"]
    assert [i.path for i in project.chosen(["a*"], ["new"])] == ["a1.tif"]
    assert len(project.chosen()) == 3
    with pytest.raises(ProjectError, match=r"matches c\*"):
        project.chosen(["a*", "c*"])


def test_label_stores_of_equal_file_names_differ():
    project = Project((ProjectImage("a/x.tif", "labels/x.tif.labels.zarr"),))
    assert project.unused_labels("b/x.tif") == "labels/x.tif_2.labels.zarr"
    assert project.unused_labels("b/y.tif") == "labels/y.tif.labels.zarr"
