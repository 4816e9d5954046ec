"""Corrections of several images as scenes for a training."""

import numpy as np
import pytest

from helpers.corrections import LEGEND, correct, two_tone
from napari_uhrseg.engine.data.class_coverage import check_classes
from napari_uhrseg.engine.data.corrected_images import corrected_images
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import IGNORED, LabelClass, Legend, Roi

DARK, LIGHT = Roi(40, 20, 30, 50), Roi(200, 250, 30, 50)
SWAPPED = Legend((LabelClass(1, "light", "#ffffff"), LabelClass(7, "dark", "#000000")))


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a named image and its label store."""

    def one(name, legend=LEGEND, *, corrected=True):
        data = two_tone()[1].read(Roi(0, 0, 320, 320)).data
        image = image_from_array(data, name=name, rgb=True)
        store = LabelStore.create(tmp_path / f"{len(made)}.zarr", image, legend)
        made.append(store)
        if corrected:
            for roi, label in ((DARK, "dark"), (LIGHT, "light")):
                correct(store, roi, legend.named(label).id)
        return image, store

    made = []
    yield one
    for store in made:
        store.close()


def test_classes_of_several_stores_agree_by_name(make):
    pairs = [make("a"), make("b", SWAPPED), make("a")]
    source = corrected_images(*zip(*pairs, strict=True), held_out=["b"])
    assert [c.name for c in source.legend] == ["dark", "light"]
    assert [s.name for s in source.training] == ["a", "a (2)"]
    assert [s.name for s in source.held_out] == ["b"]
    area = DARK.area
    assert source.pixel_counts == dict.fromkeys(("a", "b", "a (2)"), (area, area))
    for scene in (*source.training, *source.held_out):
        for k, roi in enumerate((DARK, LIGHT)):
            assert (scene.labels(roi) == k).all()
        assert (scene.labels(Roi(100, 100, 9, 9)) == IGNORED).all()


def test_each_window_contains_corrections_of_evenly_drawn_classes(make):
    pairs = [make("a"), make("b", SWAPPED)]
    source = corrected_images(*zip(*pairs, strict=True), held_out=0)
    rng = np.random.default_rng(0)
    drawn = [source.sample(rng, 32) for _ in range(200)]
    seen = [scene.labels(window) for scene, window in drawn]
    assert all((labels != IGNORED).any() for labels in seen)
    share = np.mean([(labels == 0).any() for labels in seen])
    assert 0.3 < share < 0.7
    assert {scene.name for scene, _ in drawn} == {"a", "b"}


def test_a_fifth_of_the_images_is_held_out(make):
    pairs = [make(name) for name in "abcde"]
    source = corrected_images(*zip(*pairs, strict=True))
    assert len(source.held_out) == 1
    assert len(source.training) == 4


def test_merged_and_unused_classes_and_images_without_corrections(make):
    unused = LabelClass(3, "unused", "#ff0000")
    image, store = make("a", Legend((*LEGEND, unused)))
    store.legend_editor.merge_class(1, 2)
    second, whole = make("b")
    source = corrected_images([image, second], [store, whole], 0)
    assert [c.name for c in source.legend] == ["light", "dark"]
    assert source.pixel_counts["a"] == (2 * DARK.area, 0)
    empty, no_labels = make("d", corrected=False)
    source = corrected_images([image, empty], [store, no_labels], 0)
    assert "(d)" in source.warnings[0]
    with pytest.raises(TrainingError, match="fewer than two classes"):
        check_classes(source)
    with pytest.raises(TrainingError, match="Nothing was corrected"):
        corrected_images(empty, no_labels)


def test_labels_of_another_image_are_refused(make):
    _, store = make("a")
    other = image_from_array(np.zeros((8, 8, 3), np.uint8), name="other", rgb=True)
    with pytest.raises(TrainingError, match="8 rows"):
        corrected_images(other, store)
    with pytest.raises(TrainingError, match="1 image and 2 label stores"):
        corrected_images(other, [store, store])
