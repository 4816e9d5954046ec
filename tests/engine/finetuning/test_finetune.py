"""Fine-tuning from corrections: results, validation, interruption."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from helpers.corrections import (
    LEGEND,
    METHODS,
    checkpoint,
    correct,
    linear_checkpoint,
    linear_labels,
    squares,
    stroke_everywhere,
    two_tone,
)
from helpers.full_disk import file_size_limit
from napari_uhrseg.cli import app
from napari_uhrseg.engine.data.augmentation import find_augmentations
from napari_uhrseg.engine.events import (
    DatasetReady,
    FineTuneFinished,
    Progress,
    Saved,
    StepLogged,
    Validated,
)
from napari_uhrseg.engine.finetuning.finetune import (
    FineTuneSettings,
    TrainingSummary,
    fine_tune,
    plan_fine_tuning,
    summarize_corrections,
)
from napari_uhrseg.engine.finetuning.model_selection import (
    CHANGED_ELSEWHERE,
    comparison_text,
)
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.settings_to_job import make_job
from napari_uhrseg.engine.finetuning.training_summary import build_dataset
from napari_uhrseg.engine.training.trainer import Trainer
from napari_uhrseg.errors import TrainingError, UhrSegError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, load_checkpoint
from napari_uhrseg.types import LabelClass, Legend, Roi

FEW = FineTuneSettings(steps=5, batch_size=2, learning_rate=0.002, device="cpu")
MORE = FineTuneSettings(steps=30, batch_size=2, learning_rate=0.004, device="cpu")
CONVEX = FineTuneSettings(steps=20, batch_size=4, learning_rate=0.5, device="cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def corrected(tmp_path):
    """Truth, image and a store with right strokes in many places."""
    truth, image = squares((384, 448))
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as store:
        stroke_everywhere(store, truth)
        yield truth, image, store


def last(events) -> FineTuneFinished:
    found = list(events)[-1]
    assert isinstance(found, FineTuneFinished)
    return found


@pytest.mark.slow
def test_fine_tune_yields_events_and_writes_the_card(corrected, tmp_path):
    _, image, store = corrected
    net, output = checkpoint(tmp_path), tmp_path / "better.safetensors"
    events = list(fine_tune(image, net, store, output, FEW))
    assert isinstance(events[0], DatasetReady)
    summary = events[0].summary
    assert summary == summarize_corrections(image, net, store)
    validated = {e.step: e.metrics for e in events if isinstance(e, Validated)}
    assert min(validated) == 0
    compared, new = events[-1], load_checkpoint(output)
    assert isinstance(compared, FineTuneFinished)
    assert compared.before == validated[0]
    assert compared.after == validated[new.card.metrics["step"]]
    assert {"iou/dark", "iou/light"} <= compared.after.keys()
    text = comparison_text(summary, compared.before, compared.after)
    assert compared.comparison == text
    assert compared.path == output
    assert new.card.parent == net.hash
    assert new.card.metrics["miou"] == compared.after["miou"]
    assert new.card.trained_on.startswith("nothing; then ")
    assert new.card.trained_on.endswith("regions corrected in squares")


@pytest.mark.slow
def test_fine_tune_corrects_uncorrected_pixels_too(tmp_path):
    """A convex problem: a net that says dark everywhere, and two brightnesses."""
    truth, image = two_tone()
    net, output = linear_checkpoint((0.0, 0.0), (1.0, -1.0)), tmp_path / "n.safetensors"
    settings = replace(CONVEX, distillation_weight=0.0)
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth, 16, 64)
        compared = last(fine_tune(image, net, store, output, settings))
    assert (linear_labels(output, image) == truth).all()
    assert compared.before["miou"] < compared.after["miou"] == 1
    assert compared.comparison.startswith("better by")


@pytest.mark.slow
def test_fine_tune_does_not_modify_the_original_checkpoint(corrected, tmp_path):
    _, image, store = corrected
    net = checkpoint(tmp_path)
    before = {k: v.clone() for k, v in net.model.state_dict().items()}
    one_step = replace(FEW, steps=1)
    for _ in fine_tune(image, net, store, tmp_path / "new.safetensors", one_step):
        pass
    assert all(torch.equal(before[k], v) for k, v in net.model.state_dict().items())
    assert not net.model.training


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_fine_tune_trains_every_method_and_freezes_the_encoder(method, tmp_path):
    truth, image = squares((320, 320))
    net = checkpoint(tmp_path, method)
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth, 16, 100)
        settings = FineTuneSettings(
            steps=1, batch_size=2, trainable="decoder", device="cpu"
        )
        output = tmp_path / "new.safetensors"
        compared = last(fine_tune(image, net, store, output, settings))
    assert compared.after
    old, new = net.model.state_dict(), load_checkpoint(output).model.state_dict()
    kept = {
        k for k, v in old.items() if torch.allclose(v, new[k], rtol=1e-3, atol=1e-3)
    }
    names = {n for n, _ in net.model.named_parameters()}
    frozen = {n for n in names if n.startswith(net.model.encoder_prefixes)}
    assert frozen <= kept
    changed = {k for k, v in old.items() if not torch.equal(v.half(), new[k].half())}
    assert changed & names - frozen


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_fine_tune_resumes_bit_for_bit(corrected, tmp_path):
    _, image, store = corrected
    net = checkpoint(tmp_path)
    whole = tmp_path / "whole.safetensors"
    one = last(fine_tune(image, net, store, whole, FEW))
    first = load_file(whole)
    for stops in ((1, 3), (2, 5)):
        parts = tmp_path / f"parts{stops[0]}.safetensors"
        state = parts.with_name(f"{parts.name}.state")
        for stop in stops:
            events = fine_tune(image, net, store, parts, FEW, resume=True)
            for event in events:
                if isinstance(event, Progress) and event.done == stop:
                    break
            events.close()  # type: ignore[attr-defined]
            assert state.exists()
        two = last(fine_tune(image, net, store, parts, FEW, resume=True))
        assert (one.before, one.after) == (two.before, two.after)
        second = load_file(parts)
        assert all(torch.equal(first[k], second[k]) for k in first)
        assert not state.exists()


@pytest.mark.slow
def test_fine_tune_closed_early_leaves_the_best_checkpoint_only(tmp_path):
    """The net is wrong on every correction, so no weights are worse than it."""
    _, image = two_tone()
    net, output = linear_checkpoint((0.0, 0.0), (1.0, -1.0)), tmp_path / "n.safetensors"
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, np.full(image.shape, 2, np.uint8), 16, 64)
        events = fine_tune(image, net, store, output, CONVEX)
        for event in events:
            if isinstance(event, StepLogged | Saved):  # a slow machine makes a draft
                break
        events.close()  # type: ignore[attr-defined]
        assert output.exists() == isinstance(event, Saved)
        output.unlink(missing_ok=True)
        events = fine_tune(image, net, store, output, CONVEX)
        saved = next(e for e in events if isinstance(e, Saved))
        events.close()  # type: ignore[attr-defined]
        assert read_card(output).metrics["step"] == saved.step
        assert list(tmp_path.iterdir()) == [output]
        with pytest.raises(TrainingError, match="exists"):
            last(fine_tune(image, net, store, output, CONVEX))


@pytest.mark.slow
def test_fine_tune_stops_at_once(corrected, tmp_path):
    _, image, store = corrected
    net, asked = checkpoint(tmp_path), Event()
    output = tmp_path / "new.safetensors"
    events = []
    for event in fine_tune(image, net, store, output, MORE, stop=asked.is_set):
        events.append(event)
        if isinstance(event, Progress) and event.done == 2:
            asked.set()
    assert max(e.done for e in events if isinstance(e, Progress)) == 2
    assert not any(isinstance(e, FineTuneFinished) for e in events)
    assert not output.exists()


@pytest.mark.parametrize(("held_out", "few"), [(1, True), (4, True), (40, False)])
def test_comparison_warns_of_few_validation_windows(held_out, few):
    found = TrainingSummary(200, held_out, 9, {"dark": 200}, (), has_validation=True)
    said = comparison_text(found, {"miou": 0.2}, {"miou": 0.9})
    assert said.startswith("better by 70.0 points on")
    assert ("too few to be reliable" in said) == few


@pytest.mark.slow
@pytest.mark.parametrize("selects", [False, True])
def test_few_validation_windows_do_not_select_the_best_weights(selects, tmp_path):
    """The best of several validations on few windows would be chance."""
    truth, image = two_tone((1920, 1920) if selects else (320, 320))
    net = linear_checkpoint((0.0, 0.0), (1.0, -1.0))
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth, 16, 100)
        source = build_dataset(image, net, store)
        assert source.has_validation
        assert (len(source.held_out_windows) >= 50) == selects
        job = make_job(source, net, tmp_path / "n.safetensors", FEW, None, None)
    assert job.policy.keep_best == selects


@pytest.mark.slow
@pytest.mark.parametrize("weight", [None, 0.0])
def test_distillation_preserves_uncorrected_classes(weight, tmp_path):
    """Strokes of a third class over dark ground; light ground has no correction."""
    legend = LEGEND.merged(Legend((LabelClass(1, "shade", "#00ff00"),)))
    truth, image = two_tone()
    net = linear_checkpoint((-8.0, 8.0, 0.0), (4.0, -4.0, -4.0), legend)
    output = tmp_path / "new.safetensors"
    with LabelStore.create(None, image, legend) as store:
        for y in range(20, 300, 50):
            correct(store, Roi(y, 40, 24, 60), 3)
        settings = replace(CONVEX, distillation_weight=weight)
        compared = last(fine_tune(image, net, store, output, settings))
    labels = linear_labels(output, image)
    assert (labels[truth == 1] == 3).all()
    assert (labels[truth == 2] == (3 if weight == 0 else 2)).all()
    # the dark half has another class now, and the text says how much changed
    changed = compared.after[CHANGED_ELSEWHERE]
    assert (changed == 1) if weight == 0 else (0 < changed < 1)
    assert f"elsewhere {changed:.0%} of the labels" in compared.comparison


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (0.2, 0.9, "better by 70.0 points on 40 validation windows"),
        (0.9, 0.2, "worse by 70.0 points on 40 validation windows"),
        (0.9, 0.902, "about as good as before on 40 validation windows"),
        (0.9, 0.898, "worse by 0.2 points on 40 validation windows"),
    ],
)
def test_comparison_text_compares_the_miou(before, after, text):
    summary = TrainingSummary(200, 40, 9, {"dark": 200}, (), has_validation=True)
    found = comparison_text(summary, {"miou": before}, {"miou": after})
    assert found.startswith(text)


@pytest.mark.slow
def test_comparison_of_a_worse_model_says_so(tmp_path):
    """A perfect net; the training regions are wrong, the validation regions right."""
    truth, image = two_tone()
    net = linear_checkpoint((-1.0, 1.0), (0.5, -0.5))
    output = tmp_path / "bad.safetensors"
    places = [Roi(y, 144, 16, 32) for y in range(8, 300, 64)]  # both classes in each
    with LabelStore.create(None, image, LEGEND) as store:
        for roi in places:
            correct(store, roi, truth[roi.slices])
        tested = build_dataset(image, net, store).held_out_windows
        for roi in places:
            if not any(roi.intersect(window).area for window in tested):
                correct(store, roi, 3 - truth[roi.slices])
        settings = replace(CONVEX, distillation_weight=0.0)
        compared = last(fine_tune(image, net, store, output, settings))
    assert not compared.saved
    assert not output.exists()
    assert (compared.before["miou"], compared.after["miou"]) == (1, 0)
    assert compared.comparison.startswith("worse by 100.0 points")
    assert "the original checkpoint is better" in compared.comparison


@pytest.mark.slow
def test_fine_tune_with_too_few_regions_has_no_validation(tmp_path):
    truth, image = squares()
    net = checkpoint(tmp_path)
    with LabelStore.create(None, image, LEGEND) as store:
        correct(store, Roi(0, 0, 40, 40), truth[:40, :40])
        events = list(fine_tune(image, net, store, tmp_path / "n.safetensors", FEW))
    assert all(
        set(e.metrics) == {CHANGED_ELSEWHERE}
        for e in events
        if isinstance(e, Validated)
    )
    assert "accuracy cannot be estimated" in events[-1].comparison
    assert "of the labels change" in events[-1].comparison
    assert load_checkpoint(events[-1].path).card.parent == net.hash


@pytest.mark.slow
def test_fine_tune_adds_a_new_class(tmp_path):
    truth, image = squares()
    truth[:, 384:] = np.where(truth[:, 384:] == 2, 3, truth[:, 384:])
    net, output = checkpoint(tmp_path), tmp_path / "new.safetensors"
    legend = LEGEND.merged(Legend((LabelClass(1, "right light", "#00ff00"),)))
    with LabelStore.create(None, image, legend) as store:
        stroke_everywhere(store, truth, 30, 128)
        last(fine_tune(image, net, store, output, FEW))
    card = load_checkpoint(output).card
    assert [c.name for c in card.legend] == ["dark", "light", "right light"]
    assert "iou/right light" in card.metrics


@pytest.mark.slow
def test_finetune_command_gives_the_same_weights(corrected, tmp_path):
    import tifffile

    from napari_uhrseg.io.open import open_image

    truth, image, _ = corrected
    path = tmp_path / "squares.tif"
    data = image.read(Roi(0, 0, *image.shape)).data
    tifffile.imwrite(path, data, photometric="rgb")
    opened = open_image(path)
    with LabelStore.create(tmp_path / "other.zarr", opened, LEGEND) as store:
        stroke_everywhere(store, truth)
        net = checkpoint(tmp_path)
        here = tmp_path / "here.safetensors"
        settings = FineTuneSettings.quick(steps=3, batch_size=2, device="cpu")
        compared = last(fine_tune(opened, net, store, here, settings))
        there = tmp_path / "there.safetensors"
        done = CliRunner().invoke(
            app,
            ["finetune", str(store.path), "--checkpoint", str(net.path), "--output",
             str(there), "--steps", "3", "--batch-size", "2", "--device", "cpu",
             "--json"],
        )  # fmt: skip
    assert done.exit_code == 0, done.output
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said[0]["event"] == "dataset_ready"
    assert said[-1]["event"] == "fine_tune_finished"
    assert said[-1]["after"] == compared.after
    first, second = load_checkpoint(here), load_checkpoint(there)
    assert first.card.command == second.card.command
    mine, theirs = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.slow
def test_fine_tune_refuses_unusable_input(corrected, tmp_path):
    _, image, store = corrected
    net = checkpoint(tmp_path)
    _, other = squares((320, 320))
    with pytest.raises(TrainingError, match="rows"):
        summarize_corrections(other, net, store)
    for bad in (
        FineTuneSettings(steps=0),
        FineTuneSettings(learning_rate=0.0),
        FineTuneSettings(batch_size=1),
        FineTuneSettings(distillation_weight=-1.0),
        FineTuneSettings(precision="fp16"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UhrSegError):
            last(fine_tune(image, net, store, tmp_path / "x.safetensors", bad))
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.slow
def test_fine_tune_trains_a_new_model_from_scratch(tmp_path):
    truth, image = squares((320, 320))
    new = new_checkpoint("plain", METHODS["plain"], LEGEND, image, pretrained=False)
    assert new.hash == ""
    settings = FineTuneSettings(steps=2, batch_size=2, device="cpu")
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth, 20, 64)
        summary = summarize_corrections(image, new, store)
        assert not summary.has_validation
        assert "from scratch" in summary.summary()
        events = list(
            fine_tune(image, new, store, tmp_path / "first.safetensors", settings)
        )
    assert not any(isinstance(e, Validated) for e in events)
    made = load_checkpoint(tmp_path / "first.safetensors")
    assert made.card.parent is None
    assert "from random weights" in made.card.trained_on


def new_job(source, image, folder, **card):
    """Return the job of a new network for the corrections of a data set."""
    new = new_checkpoint("plain", METHODS["plain"], LEGEND, image, pretrained=False)
    new = replace(new, card=replace(new.card, **card))
    settings = FineTuneSettings(steps=20, batch_size=2, device="cpu")
    return make_job(source, new, folder / "n.safetensors", settings, None, None)


@pytest.mark.slow
def test_new_network_with_a_pretrained_encoder_is_thawed_gradually(corrected, tmp_path):
    _, image, store = corrected
    source = build_dataset(image, checkpoint(tmp_path), store)
    job = new_job(source, image, tmp_path, encoder_weights="ImageNet weights")
    frozen, thawed = job.schedule.recipe.stages
    assert (frozen.steps, frozen.frozen_encoder) == (6, True)
    assert (thawed.steps, thawed.frozen_encoder, thawed.encoder_rate) == (
        14,
        False,
        0.3,
    )
    assert job.compute.memory.features > 0
    random = new_job(source, image, tmp_path)  # its encoder must be trained
    assert [(s.steps, s.frozen_encoder, s.encoder_rate)
            for s in random.schedule.recipe.stages] == [(20, False, 1.0)]  # fmt: skip
    assert job.identity != random.identity


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m != "pixel_classifier"])
def test_cached_features_change_no_bit_of_any_method(method, corrected, tmp_path):
    _, image, store = corrected
    new = new_checkpoint(method, METHODS[method], LEGEND, image, pretrained=False)
    new = replace(new, card=replace(new.card, encoder_weights="ImageNet weights"))
    source = build_dataset(image, new, store)
    settings = FineTuneSettings(steps=14, batch_size=2, device="cpu")
    job = make_job(source, new, tmp_path / "n.safetensors", settings, None, None)
    policy = replace(job.policy, validate_every=settings.steps, keep_state=False)
    weights, hits = [], []
    for features in (0, 1 << 30):
        output = tmp_path / f"{features}.safetensors"
        memory = replace(job.compute.memory, features=features)
        compute = replace(job.compute, memory=memory)
        model = copy.deepcopy(job.model)  # a training changes it
        trainer = Trainer(
            replace(job, model=model, policy=policy, compute=compute), output
        )
        list(trainer.run())
        weights.append(load_file(output))
        hits.append(trainer.features.hits)
    assert hits[0] == 0 < hits[1]
    first, second = weights
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "names"), [("plain", "rotation, color_jitter"), ("glnet", "rotation")]
)
def test_fine_tune_uses_the_augmentations_of_the_method(
    method, names, corrected, tmp_path
):
    _, image, store = corrected
    net = checkpoint(tmp_path, method)
    source = build_dataset(image, net, store)
    settings = replace(FEW, distillation_weight=1.0)
    job = make_job(source, net, tmp_path / "n.safetensors", settings, None, None)
    assert job.policy.augmentations == find_augmentations(names.split(", "))
    assert job.card({}).augmentations == names


@pytest.mark.slow
def test_plan_of_a_fine_tuning_gives_its_time_and_writes_nothing(corrected, tmp_path):
    _, image, store = corrected
    net = checkpoint(tmp_path)
    before = sorted(tmp_path.rglob("*")), net.path.read_bytes()
    ready, memory, progress = plan_fine_tuning(image, net, store, FEW)
    assert ready.summary == summarize_corrections(image, net, store)
    assert memory.description == "2 samples a step"
    assert (progress.done, progress.total) == (0, 5)
    assert progress.seconds_left > 0
    assert (sorted(tmp_path.rglob("*")), net.path.read_bytes()) == before


@pytest.mark.slow
def test_plan_of_a_fine_tuning_ends_when_it_is_stopped(corrected, tmp_path):
    _, image, store = corrected
    settings = replace(FEW, distillation_weight=1.0)
    plan = plan_fine_tuning(
        image, checkpoint(tmp_path), store, settings, stop=lambda: True
    )
    assert not [event for event in plan if isinstance(event, Progress)]


@pytest.mark.slow
def test_training_from_scratch_solves_a_convex_problem(tmp_path):
    truth, image = two_tone()
    new = linear_checkpoint((0.0, 0.0), (0.0, 0.0), file_hash=UNSAVED_HASH)
    output = tmp_path / "first.safetensors"
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth, 16, 64)
        last(fine_tune(image, new, store, output, CONVEX))
    assert (linear_labels(output, image) == truth).all()


def test_fine_tune_refuses_to_replace_the_original_checkpoint(corrected, tmp_path):
    _, image, store = corrected
    net = checkpoint(tmp_path)
    before, link = net.path.read_bytes(), tmp_path / "link.safetensors"
    link.symlink_to(net.path)
    for output in (net.path, link):
        with pytest.raises(TrainingError, match="must not be replaced"):
            last(fine_tune(image, net, store, output, FEW, overwrite=True))
    assert net.path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(("resume", "size"), [(True, 0), (True, 500), (False, 50)])
def test_full_disk_during_fine_tuning_keeps_what_is_there(resume, size, tmp_path):
    truth, image = two_tone()
    net = linear_checkpoint((0.0, 0.0), (1.0, -1.0))
    output = tmp_path / "n.safetensors"
    output.write_bytes(b"an earlier checkpoint")
    with LabelStore.create(None, image, LEGEND) as store:
        for y in range(20, 300, 50):
            roi = Roi(y, 136, 24, 48)
            correct(store, roi, truth[roi.slices])
        events = fine_tune(
            image, net, store, output, FEW, resume=resume, overwrite=True
        )
        written = pytest.raises(UhrSegError, match="cannot be written")
        with written as error, file_size_limit(size):
            list(events)
        assert re.search("free space|room left", error.value.hint)
        assert output.read_bytes() == b"an earlier checkpoint"
        assert [file.name for file in tmp_path.iterdir()] == [output.name]
        again = fine_tune(image, net, store, output, FEW, resume=True, overwrite=True)
        assert last(again).saved == (output.read_bytes() != b"an earlier checkpoint")
