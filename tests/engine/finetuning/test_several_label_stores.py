"""One model from the corrections of several images."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.corrections import (
    LEGEND,
    checkpoint,
    correct,
    linear_checkpoint,
    squares,
    stroke_everywhere,
    two_tone,
)
from napari_uhrseg.engine.evaluation.evaluate import evaluate
from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.engine.finetuning.correction_truth import correction_truth
from napari_uhrseg.engine.finetuning.finetune import fine_tune, plan_fine_tuning
from napari_uhrseg.engine.finetuning.training_summary import build_dataset, summarize
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.types import (
    IGNORED,
    FineTuneSettings,
    LabelClass,
    Legend,
    Roi,
    SegmentSettings,
)

RNG = np.random.default_rng
CONVEX = FineTuneSettings(
    steps=20, batch_size=4, learning_rate=0.5, distillation_weight=0.0, device="cpu"
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("net"))


@pytest.fixture
def made():
    """Function that returns corrected images with their stores."""
    stores = []

    def make(count: int, *, tones: bool = False, step: int = 128):
        images = []
        for seed in range(count):
            truth, image = two_tone() if tones else squares((256, 320), seed)
            image.name = f"image {seed}"
            image.fingerprint = str(seed)
            stores.append(LabelStore.create(None, image, LEGEND))
            stroke_everywhere(stores[-1], truth, 16, step)
            images.append(image)
        return images, stores[-count:]

    yield make
    for store in stores:
        store.close()


@pytest.mark.slow
def test_whole_images_are_held_out_of_three_or_more(plain, made):
    images, stores = made(6)
    source = build_dataset(images, plain, stores)
    held = [p for p in source.parts if p.has_validation]
    assert len(held) == 1
    assert not len(held[0].training)
    assert all(not len(p.tested) for p in source.parts if p is not held[0])
    names = {source.sample(RNG(i), 64).scene.name for i in range(200)}
    assert names == {p.names[0] for p in source.parts} - {held[0].names[0]}
    assert {s.scene.name for s in source.held_out_samples} == set(held[0].names)
    assert {s.scene.name for s in source.replay_samples} == names
    for i in range(20):
        scene, window = source.sample_corrected(RNG(i), 64)
        assert (scene.labels(window) != IGNORED).any()
    found = summarize(source)
    assert found.has_validation
    assert found.held_out == len(source.held_out_samples)
    assert found.regions == sum(summarize(p).regions for p in source.parts)


@pytest.mark.slow
def test_the_same_image_is_held_out_when_more_is_corrected(plain, made):
    images, stores = made(4)
    held = [p.has_validation for p in build_dataset(images, plain, stores).parts]
    correct(stores[0], Roi(100, 100, 20, 20), 1)
    again = [p.has_validation for p in build_dataset(images, plain, stores).parts]
    assert held == again


@pytest.mark.slow
def test_image_with_a_class_of_its_own_is_not_held_out(plain, made):
    images, stores = made(3)
    for store in stores[1:]:
        correct(store, Roi(0, 0, 256, 320), 1)
    source = build_dataset(images, plain, stores)
    assert not source.parts[0].has_validation
    assert any(p.has_validation for p in source.parts)


def test_summary_gives_the_reason_if_no_image_can_be_held_out(plain):
    image = squares((256, 320))[1]
    legend = LEGEND.merged(Legend((LabelClass(1, "mud", "#804000"),)))
    stores = [LabelStore.create(None, image, legend) for _ in range(3)]
    for class_id, store in enumerate(stores, 1):
        for x in range(0, 256, 64):
            correct(store, Roi(0, x, 9, 9), class_id)
    found = summarize(build_dataset([image] * 3, plain, stores))
    assert not found.has_validation
    assert "no validation data (each image has a class" in found.summary()
    for store in stores:
        store.close()


def test_regions_are_held_out_of_two_images(plain, made):
    images, stores = made(2, step=200)
    source = build_dataset(images, plain, stores)
    assert source.has_validation
    assert all(len(p.training) for p in source.parts)
    both = [s for p in source.parts for s in (p.training, p.tested)]
    assert sum(map(len, both)) == sum(len(p.points) for p in source.parts)


@pytest.mark.slow
def test_images_without_corrections_are_left_out(plain, made):
    images, stores = made(3)
    correct(stores[1], Roi(0, 0, 256, 320), 0)
    source = build_dataset(images, plain, stores)
    assert source.names == ("image 0", "image 2")
    correct(stores[2], Roi(0, 0, 256, 320), 0)
    alone = build_dataset(images, plain, stores)
    assert (
        alone.fingerprint() == build_dataset(images[0], plain, stores[0]).fingerprint()
    )


def test_classes_of_stores_with_other_ids_agree_by_name(plain):
    legends = [
        Legend((LabelClass(3, "light", "#ffffff"), LabelClass(8, "mud", "#804000"))),
        Legend((LabelClass(1, "tar", "#000000"), LabelClass(2, "mud", "#804000"),
                LabelClass(5, "dark", "#000000"))),
    ]  # fmt: skip
    pairs = [(squares((256, 320), n)[1], legend) for n, legend in enumerate(legends)]
    stores = [LabelStore.create(None, image, legend) for image, legend in pairs]
    for store, ids in zip(stores, [(3, 8), (1, 2, 5)], strict=True):
        for n, i in enumerate(ids):
            correct(store, Roi(100 * n, 0, 9, 9), i)
    source = build_dataset([i for i, _ in pairs], plain, stores)
    assert [c.name for c in source.legend] == ["dark", "light", "mud", "tar"]
    pixels = [Roi(100 * n, 0, 1, 1) for n in range(3)]
    channels = [  # a region is for training or for validation
        [
            min(int(scene.labels(roi)[0, 0]) for scene in (p.scene, p.held_scene))
            for roi in pixels
        ]
        for p in source.parts
    ]
    assert channels == [[1, 2, IGNORED], [3, 2, 0]]
    for store in stores:
        store.close()


def test_stores_that_merge_a_class_differently_are_refused(plain):
    legend = LEGEND.merged(
        Legend((LabelClass(1, "mud", "#804000"), LabelClass(2, "tar", "#111111")))
    )
    image = squares((256, 320))[1]
    stores = [LabelStore.create(None, image, legend) for _ in range(2)]
    for store, into in zip(stores, (3, 4), strict=True):
        store.legend_editor.merge_class(1, into)
        for n, i in enumerate((1, 3, 4)):
            correct(store, Roi(60 * n, 0, 9, 9), i)
    with pytest.raises(TrainingError, match="merge dark into different classes"):
        build_dataset([image, image], plain, stores)
    stores[1].legend_editor.merge_class(1, 1)  # one merge is enough
    source = build_dataset([image, image], plain, stores)
    part = source.parts[1]
    found = [s.labels(Roi(0, 0, 1, 1)) for s in (part.scene, part.held_scene)]
    assert min(found) == 2  # mud
    for store in stores:
        store.close()


def test_stores_that_merge_two_classes_in_opposite_directions_are_refused(plain):
    image = squares((256, 320))[1]
    stores = [LabelStore.create(None, image, LEGEND) for _ in range(2)]
    for store, (gone, into) in zip(stores, ((1, 2), (2, 1)), strict=True):
        store.legend_editor.merge_class(gone, into)
        correct(store, Roi(0, 0, 9, 9), into)
    with pytest.raises(TrainingError, match="merges dark into light, and another one"):
        build_dataset([image, image], plain, stores)
    for store in stores:
        store.close()


def test_wrong_numbers_of_images_and_regions_are_refused(plain, made):
    images, stores = made(2)
    with pytest.raises(TrainingError, match="2 images and 1 label store are given"):
        build_dataset(images, plain, stores[:1])
    with pytest.raises(TrainingError, match="Regions are given for 2 images"):
        build_dataset(images, plain, stores, (Roi(0, 0, 9, 9),))


def test_evaluation_compares_merged_classes_as_they_are_displayed():
    truth, image = two_tone((64, 64))
    net = linear_checkpoint((0.0, 1.0), (0.5, 0.0))  # as the ground truth
    with LabelStore.create(None, image, LEGEND) as store:
        store.legend_editor.merge_class(1, 2)
        correct(store, Roi(0, 0, 64, 64), 2)
        known = correction_truth(store, net)
        settings = SegmentSettings(device="cpu", precision="fp32")
        assert evaluate(image, known, net, settings).accuracy == (truth == 2).mean()
        scores = evaluate(image, known, net, settings, merged=known.merged)
    assert scores.accuracy == 1


@pytest.mark.slow
def test_identity_of_a_training_covers_all_stores(plain, made):
    images, stores = made(3)
    before = build_dataset(images, plain, stores).fingerprint()
    assert build_dataset(images, plain, stores).fingerprint() == before
    correct(stores[2], Roi(100, 100, 8, 8), 1)
    assert build_dataset(images, plain, stores).fingerprint() != before


@pytest.mark.slow
def test_fine_tune_reports_classes_and_images(made, tmp_path):
    images, stores = made(3, tones=True, step=64)
    net, output = linear_checkpoint((0.0, 0.0), (1.0, -1.0)), tmp_path / "n.safetensors"
    *_, end = fine_tune(images, net, stores, output, CONVEX)
    assert isinstance(end, FineTuneFinished)
    image = next(k for k in end.after if k.startswith("miou/"))
    assert end.before[image] < end.after[image] == 1
    assert {"miou", "iou/dark", "iou/light", image} < end.before.keys()
    trained = read_card(output).trained_on
    assert trained.endswith("regions corrected in image 0, image 1, image 2")


@pytest.mark.slow
def test_training_resumes_only_with_the_same_stores(made, tmp_path):
    images, stores = made(3, tones=True, step=100)
    net, output = linear_checkpoint((0.0, 0.0), (1.0, -1.0)), tmp_path / "n.safetensors"
    ten = replace(CONVEX, steps=10)
    list(fine_tune(images, net, stores, output, ten))
    whole = output.read_bytes()
    events = fine_tune(images, net, stores, output, ten, resume=True, overwrite=True)
    for event in events:
        if type(event).__name__ == "Progress" and event.done >= 5:
            break
    events.close()
    again = fine_tune(images, net, stores, output, ten, resume=True, overwrite=True)
    list(again)
    assert output.read_bytes() == whole


@pytest.mark.slow
def test_plan_of_several_images_has_their_summary(made):
    images, stores = made(3, tones=True)
    net = linear_checkpoint((0.0, 0.0), (1.0, -1.0))
    settings = replace(CONVEX, steps=3)
    first, *_ = plan_fine_tuning(images, net, stores, settings)
    assert first.summary.has_validation
