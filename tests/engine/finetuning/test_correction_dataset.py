"""Data set of corrections: training and validation sites."""

import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from helpers.corrections import LEGEND, checkpoint, correct, squares, stroke_everywhere
from helpers.label_stores import RUN
from napari_uhrseg.engine.data.correction_sites import (
    MIN_SITES,
    Points,
    find_points,
    find_sites,
)
from napari_uhrseg.engine.finetuning.correction_dataset import min_separation
from napari_uhrseg.engine.finetuning.training_summary import build_dataset, summarize
from napari_uhrseg.engine.finetuning.validation_split import choose_held_out
from napari_uhrseg.engine.network.inputs import covered_region
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import HELD_OUT, IGNORED, LabelClass, Legend, Roi

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("net"))


strokes = st.lists(
    st.tuples(
        st.integers(0, 639),
        st.integers(0, 767),
        st.integers(1, 40),
        st.sampled_from([1, 2]),
    ),
    min_size=1,
    max_size=14,
)


@pytest.mark.slow
@settings(max_examples=8)
@given(strokes)
def test_what_is_held_out_is_never_taught(plain, drawn):
    _, image = squares()
    with LabelStore.create(None, image, LEGEND) as store:
        for y, x, side, class_id in drawn:
            roi = Roi(y, x, side, side).intersect(Roi(0, 0, 640, 768))
            correct(store, roi, class_id)
        source = build_dataset(image, plain, store)
        corrections = np.asarray(store.correction[0][:])
        whole = Roi(0, 0, 640, 768)
        taught, tested = (
            scene.target.read(whole) for scene in (source.scene, source.held_scene)
        )
        is_taught, is_tested = taught < HELD_OUT, tested < HELD_OUT
        # each corrected pixel is on one side, and says what was painted
        assert (is_taught ^ is_tested)[corrections > 0].all()
        assert not (is_taught | is_tested)[corrections == 0].any()
        assert (taught[is_taught] == corrections[is_taught] - 1).all()
        assert (tested[is_tested] == corrections[is_tested] - 1).all()
        assert source.has_validation == is_tested.any()
        for i in range(20):
            assert whole.contains(source.sample(RNG(i), 64).window)
            scene, window = source.sample_corrected(RNG(i), 64)
            assert whole.contains(window)
            assert (scene.labels(window) < HELD_OUT).any()
        # connected corrections are never torn apart
        assert set(np.unique(corrections[is_tested])) <= set(
            np.unique(corrections[is_taught])
        )


@pytest.mark.slow
def test_disjoint_sites_share_no_pixel(plain):
    truth, image = squares((1600, 1600))
    spec = plain.card.spec
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth, 24, 500)
        source = build_dataset(image, plain, store)
        assert source.has_validation
        assert source.sites.disjoint
        seen = np.zeros(truth.shape, bool)
        for i in range(300):
            _, window = source.sample_corrected(RNG(i), spec.window)
            seen[covered_region(window, spec.views["local"]).slices] = True
        for point in source.tested.at:
            y, x = np.maximum(0, point - spec.window + 1)
            reach = Roi(int(y), int(x), 2 * spec.window - 1, 2 * spec.window - 1)
            assert not seen[reach.slices].any()


@pytest.mark.slow
def test_classes_are_as_likely_as_each_other(plain):
    _truth, image = squares()
    with LabelStore.create(None, image, LEGEND) as store:
        correct(store, Roi(0, 0, 200, 200), 1)  # 40,000 pixels
        correct(store, Roi(400, 400, 4, 4), 2)  # 16 pixels
        source = build_dataset(image, plain, store)
        both = [source.sample_corrected(RNG(i), 64) for i in range(60)]
        rare = sum((s.labels(w) == 1).any() for s, w in both)
        assert 15 < rare < 45


@pytest.mark.slow
def test_a_third_of_the_windows_lie_anywhere_that_has_labels(plain):
    _truth, image = squares((1280, 1280))
    labelled = Roi(512, 512, 512, 768)
    with LabelStore.create(None, image, LEGEND) as store:
        stroke = Roi(0, 0, 100, 100)
        correct(store, stroke, 1)
        ids = np.ones((labelled.height, labelled.width), np.uint8)
        for _ in range(2):  # before there are labels, and after
            source = build_dataset(image, plain, store)
            drawn = [source.sample(RNG(i), 64).window for i in range(300)]
            elsewhere = [w for w in drawn if not w.intersect(stroke).area]
            assert 60 < len(elsewhere) < 140
            there = [labelled.grow(64).contains(w) for w in elsewhere]
            assert all(there) == (store.prediction[0][600, 600] != 0)
            write_levels(store.prediction, labelled, ids, coarser_labels)
        # the same ground decides whether a figure is of the same windows
        assert build_dataset(image, plain, store).fingerprint() == source.fingerprint()
        assert all(labelled.grow(64).contains(w) for w in source.replay_windows)


@pytest.mark.slow
def test_another_image_of_the_same_size_teaches_nothing(plain, tmp_path):
    truth, image = squares()
    paths = [tmp_path / "right.png", tmp_path / "wrong.png"]
    for path, data in zip(paths, (image, squares(seed=1)[1]), strict=True):
        PilImage.fromarray(data.read(Roi(0, 0, 640, 768)).data).save(path)
    right, wrong = map(open_image, paths)
    assert right.shape == wrong.shape
    with LabelStore.create(None, right, LEGEND) as store:
        stroke_everywhere(store, truth)
        with pytest.raises(TrainingError, match=r"wrong\.png differs from the image"):
            build_dataset(wrong, plain, store)
        assert len(build_dataset(right, plain, store).training)


@pytest.mark.slow
def test_summary_warns_of_too_few_regions(plain):
    truth, image = squares()
    with LabelStore.create(None, image, LEGEND) as store:
        with pytest.raises(TrainingError, match="Nothing was corrected"):
            build_dataset(image, plain, store)
        correct(store, Roi(10, 10, 20, 20), 1)
        found = summarize(build_dataset(image, plain, store))
        assert not found.has_validation
        assert (found.windows, found.held_out, found.regions) == (1, 0, 1)
        assert "accuracy cannot be estimated" in found.summary()
        assert "the only corrected class" in found.summary()
        stroke_everywhere(store, truth)
        found = summarize(build_dataset(image, plain, store))
        assert found.has_validation
        assert found.regions >= MIN_SITES
        assert found.held_out > 0
        assert set(found.per_class) == {"dark", "light"}


@pytest.mark.parametrize(("gap", "regions"), [(0, 5), (60, 5), (80, 6)])
def test_regions_are_counted_as_they_lie_apart(plain, gap, regions):
    """Strokes that touch or are within a window of each other are one region."""
    _, image = squares((640, 768))
    with LabelStore.create(None, image, LEGEND) as store:
        for y, x in ((0, 0), (0, 300), (300, 0), (300, 300), (600, 600)):
            correct(store, Roi(y, x, 10, 10), 1)
        correct(store, Roi(300, 310 + gap, 10, 10), 2)
        assert plain.card.spec.window == 64
        found = summarize(build_dataset(image, plain, store))
        assert found.regions == regions
        apart = not any("close to each other" in w for w in found.warnings)
        assert apart == (gap < 64)  # the windows of the two regions share pixels


@pytest.mark.slow
def test_eight_fields_apart_are_eight_regions(plain):
    """Six strokes in each field, and less than two windows between the fields."""
    _, image = squares((640, 1280))
    with LabelStore.create(None, image, LEGEND) as store:
        for field in range(8):
            y, x = 320 * (field // 4), 320 * (field % 4)
            for stroke in range(6):
                roi = Roi(y + 40 * (stroke // 2), x + 100 * (stroke % 2), 12, 100)
                correct(store, roi, 1 + stroke % 2)
        assert summarize(build_dataset(image, plain, store)).regions == 8


@pytest.mark.slow
def test_dataset_trains_on_chosen_regions_only(plain):
    truth, image = squares()
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth)
        chosen = (Roi(0, 0, 300, 300),)
        source = build_dataset(image, plain, store, chosen)
        seen = np.concatenate([source.training.at, source.tested.at])
        assert seen.max() < 300
        assert (source.scene.labels(Roi(300, 300, 340, 468)) == IGNORED).all()


def test_classes_are_matched_by_name_and_by_what_a_run_said(plain):
    _truth, image = squares()
    legend = Legend((LabelClass(4, "light", "#ffffff"), LabelClass(9, "new", "#ff0000"),
                     LabelClass(7, "dark", "#000000")))  # fmt: skip
    with LabelStore.create(None, image, legend) as store:
        correct(store, Roi(0, 0, 9, 9), 7)
        correct(store, Roi(0, 50, 9, 9), 4)
        assert [c.name for c in build_dataset(image, plain, store).legend] == [
            "dark",
            "light",
        ]
        correct(store, Roi(90, 50, 9, 9), 9)
        source = build_dataset(image, plain, store)
        assert [c.name for c in source.legend] == ["dark", "light", "new"]
        assert source.scene.labels(Roi(0, 0, 1, 1)) == 0
        assert source.scene.labels(Roi(0, 50, 1, 1)) == 1
        assert source.scene.labels(Roi(90, 50, 1, 1)) == 2


@dataclass
class Huge:
    """A picture that nobody could read whole."""

    shape = (100_000, 100_000)
    name = path = fingerprint = unit = ""
    pixel_size = crs = affine = None


@pytest.mark.slow
def test_a_few_strokes_in_a_huge_image_take_no_time_and_memory(tmp_path):
    with LabelStore.create(tmp_path / "huge.zarr", Huge(), LEGEND) as store:
        at = [(5, 5), (50_000, 50_000), (50_300, 50_000), (99_000, 3), (7, 99_000)]
        for n, (y, x) in enumerate(at):
            correct(store, Roi(y, x, 10, 12), 1 + n % 2)
        tracemalloc.start()
        sites = find_sites(store, 512, 1024)
        channels = np.full(256, IGNORED, np.uint8)
        channels[1:3] = 0, 1
        points = find_points(store, channels, sites)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert sites.count == 4  # two lie together
    assert len(points) == 5 * 120  # level 0 was looked at
    found = {tuple(p) for p in points.at.tolist()}
    assert {(50_309, 50_011), (99_000, 3)} <= found
    assert peak < 60e6
    held = choose_held_out(points, sites.count, 0)
    assert 1 <= held.sum() < 4


@pytest.mark.parametrize("seed", range(5))
def test_choose_held_out_trains_on_the_site_with_most_of_a_class(seed):
    # site 1 has nearly all of class 0, and as the only one both classes
    site = np.repeat([1, 1, 2, 3, 4, 5], [900, 90, 40, 30, 50, 60])
    channel = np.repeat([0, 1, 0, 0, 1, 1], [900, 90, 40, 30, 50, 60])
    points = Points(np.c_[site * 1000, site], channel, site)
    held = choose_held_out(points, 5, seed)
    assert held.sum() == 1
    assert not held[1]


def test_choose_held_out_picks_a_site_even_if_each_has_most_of_a_class():
    site = np.repeat([1, 1, 2, 2, 3, 3, 4, 4], [9, 1] * 4)
    channel = np.repeat([0, 3, 1, 0, 2, 1, 3, 2], [9, 1] * 4)
    held = choose_held_out(Points(np.c_[site, site], channel, site), 4, 0)
    assert held.sum() == 1


@pytest.mark.slow
def test_sight_reaches_as_far_as_two_windows(tmp_path):
    assert min_separation(checkpoint(tmp_path, "plain").card.spec) == 128
    assert min_separation(checkpoint(tmp_path, "scpseg").card.spec) == 128 + 64
    assert min_separation(checkpoint(tmp_path, "sgnet").card.spec) == 128 + 128
    assert min_separation(checkpoint(tmp_path, "glnet").card.spec) == 256


def test_renamed_and_merged_classes_are_still_the_network_s(plain):
    """Renamed: found by its former name. Merged: both teach the one they became."""
    _, image = squares()
    legend = LEGEND.merged(Legend((LabelClass(1, "mud", "#804000"),)))
    with LabelStore.create(None, image, legend) as store:
        store.legend_editor.rename_class(1, "shade")
        store.legend_editor.merge_class(3, 1)
        correct(store, Roi(0, 0, 9, 9), 3)
        correct(store, Roi(0, 50, 9, 9), 2)
        source = build_dataset(image, plain, store)
        assert [c.name for c in source.legend] == ["shade", "light"]
        assert source.scene.labels(Roi(0, 0, 1, 1)) == 0
        assert source.scene.labels(Roi(0, 50, 1, 1)) == 1


def test_channels_of_one_class_are_merged_into_the_channel_with_its_name(plain):
    _, image = squares((256, 320))
    with LabelStore.create(None, image, LEGEND) as store:
        run = replace(RUN, checkpoint_hash=plain.hash, image_fingerprint="")
        store.run_ledger.start_run(run)
        store.legend_editor.delete_class(1, 2)  # dark becomes light
        correct(store, Roi(0, 0, 9, 9), 2)
        source = build_dataset(image, plain, store)
    assert [c.name for c in source.legend] == ["dark", "light"]
    assert source.merged.tolist() == [1, 1]
    assert source.windows[:, 0].tolist() == [1]


def test_corrected_class_with_the_name_of_a_channel_without_labels_keeps_it(plain):
    _, image = squares((256, 320))
    with LabelStore.create(None, image, LEGEND) as store:
        run = replace(
            RUN, checkpoint_hash=plain.hash, image_fingerprint="", class_map=(0, 2)
        )
        store.run_ledger.start_run(run)
        correct(store, Roi(0, 0, 9, 9), 1)
        source = build_dataset(image, plain, store)
    assert [c.name for c in source.legend] == ["dark (2)", "light", "dark"]
    assert source.windows[:, 0].tolist() == [2]
