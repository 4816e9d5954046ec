"""Fine-tuning from corrections: results, validation, interruption."""

import json
from collections.abc import Iterator
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
    squares,
    stroke_everywhere,
)
from napari_uhrseg.cli import app
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
    summarize_corrections,
)
from napari_uhrseg.engine.finetuning.model_selection import (
    CHANGED_ELSEWHERE,
    comparison_text,
)
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.inference.preview import segment_region
from napari_uhrseg.errors import TrainingError, UhrSegError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.types import LabelClass, Legend, Roi

FEW = FineTuneSettings(steps=5, batch_size=2, learning_rate=0.002, device="cpu")
MORE = FineTuneSettings(steps=30, batch_size=4, learning_rate=0.004, device="cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def corrected(tmp_path):
    """Truth, image and a store with right strokes in many places."""
    truth, image = squares()
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as store:
        stroke_everywhere(store, truth)
        yield truth, image, store


def last(events) -> FineTuneFinished:
    found = list(events)[-1]
    assert isinstance(found, FineTuneFinished)
    return found


@pytest.mark.slow
def test_fine_tune_improves_uncorrected_pixels_too(corrected, tmp_path):
    truth, image, store = corrected
    net, output = checkpoint(tmp_path), tmp_path / "better.safetensors"
    events = list(fine_tune(image, net, store, output, MORE))
    assert isinstance(events[0], DatasetReady)
    assert events[0].summary == summarize_corrections(image, net, store)
    validated = [e for e in events if isinstance(e, Validated)]
    assert validated[0].step == 0
    assert isinstance(events[-1], FineTuneFinished)
    compared = events[-1]
    assert compared.before == validated[0].metrics
    assert compared.after == validated[-1].metrics
    assert {"iou/dark", "iou/light"} <= compared.after.keys()
    assert compared.comparison.startswith("better by")
    assert compared.path == output
    new = load_checkpoint(output)
    assert new.card.parent == net.hash
    assert new.card.metrics["miou"] == compared.after["miou"]
    assert new.card.trained_on.startswith("nothing; then ")
    assert new.card.trained_on.endswith("regions corrected in squares")
    region = Roi(100, 100, 400, 500)
    before, after = (
        float((segment_region(image, c, region) == truth[region.slices]).mean())
        for c in (net, new)
    )
    assert after > max(0.75, before + 0.1)


@pytest.mark.slow
def test_fine_tune_does_not_modify_the_original_checkpoint(corrected, tmp_path):
    _, image, store = corrected
    net = checkpoint(tmp_path)
    before = {k: v.clone() for k, v in net.model.state_dict().items()}
    for _ in fine_tune(image, net, store, tmp_path / "new.safetensors", FEW):
        pass
    assert all(torch.equal(before[k], v) for k, v in net.model.state_dict().items())
    assert not net.model.training


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_fine_tune_trains_every_method_and_freezes_the_encoder(method, tmp_path):
    truth, image = squares((320, 320))
    net = checkpoint(tmp_path, method)
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth, 16, 64)
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


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(1, 3), (2, 5)])
def test_fine_tune_resumes_bit_for_bit(stops, corrected, tmp_path):
    _, image, store = corrected
    net = checkpoint(tmp_path)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    one = last(fine_tune(image, net, store, whole, FEW))
    for stop in stops:
        events = fine_tune(image, net, store, parts, FEW, resume=True)
        for event in events:
            if isinstance(event, Progress) and event.done == stop:
                break
        events.close()  # type: ignore[attr-defined]
        assert parts.with_name("parts.safetensors.state").exists()
    two = last(fine_tune(image, net, store, parts, FEW, resume=True))
    assert (one.before, one.after) == (two.before, two.after)
    first, second = load_file(whole), load_file(parts)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not parts.with_name("parts.safetensors.state").exists()


@pytest.mark.slow
def test_fine_tune_closed_early_leaves_the_best_checkpoint_only(corrected, tmp_path):
    _, image, store = corrected
    net, output = checkpoint(tmp_path), tmp_path / "new.safetensors"
    events = fine_tune(image, net, store, output, MORE)
    for event in events:
        if isinstance(event, StepLogged):
            break
    events.close()  # type: ignore[attr-defined]
    assert not output.exists()
    events = fine_tune(image, net, store, output, MORE)
    saved = next(e for e in events if isinstance(e, Saved))
    events.close()  # type: ignore[attr-defined]
    assert load_checkpoint(output).card.metrics["step"] == saved.step
    assert {p.suffix for p in tmp_path.iterdir()} == {".safetensors", ".zarr"}
    with pytest.raises(TrainingError, match="exists"):
        last(fine_tune(image, net, store, output, FEW))


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
def test_fine_tune_keeps_the_last_weights_with_few_validation_windows(tmp_path):
    """The best of several validations on few windows would be chance."""
    truth, image = squares()
    net, output = checkpoint(tmp_path), tmp_path / "new.safetensors"
    with LabelStore.create(None, image, LEGEND) as store:
        for y, x in ((40, 40), (40, 700), (600, 40), (600, 700)):
            roi = Roi(y, x, 16, 16)
            correct(store, roi, truth[roi.slices])
        events = list(fine_tune(image, net, store, output, FEW))
    assert events[0].summary.has_validation
    assert 0 < events[0].summary.held_out < 5
    assert load_checkpoint(output).card.metrics["step"] == FEW.steps


@pytest.mark.slow
def test_fine_tune_does_not_forget_uncorrected_classes(tmp_path):
    """Strokes of one class over dark ground; the light ground far away stays light."""
    truth, image = squares()
    good, output = tmp_path / "good.safetensors", tmp_path / "new.safetensors"
    with LabelStore.create(None, image, LEGEND) as store:
        stroke_everywhere(store, truth)
        last(fine_tune(image, checkpoint(tmp_path), store, good, MORE))
    net = load_checkpoint(good)
    rng = np.random.default_rng(1)
    data = rng.integers(30, 90, (640, 768, 3)).astype(np.uint8)
    data[:, 384:] += 90
    image = image_from_array(data, name="dark and light", rgb=True)
    legend = LEGEND.merged(Legend((LabelClass(1, "shade", "#00ff00"),)))
    with LabelStore.create(None, image, legend) as store:
        for y in range(20, 620, 100):
            correct(store, Roi(y, 40, 40, 200), 3)
        compared = last(fine_tune(image, net, store, output, MORE))
    light = Roi(0, 448, 640, 320)
    before, after = (
        (segment_region(image, c, light) == 2).mean()
        for c in (net, load_checkpoint(output))
    )
    assert before > 0.95
    assert after > 0.75
    # the dark half is another class now, and it is said that so much changed
    assert 0.35 < compared.after[CHANGED_ELSEWHERE] < 0.65
    assert (
        f"elsewhere {compared.after[CHANGED_ELSEWHERE]:.0%} of the labels"
        in compared.comparison
    )


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (0.2, 0.9, "better by 70.0 points on 40 validation windows"),
        (0.9, 0.2, "worse by 70.0 points on 40 validation windows"),
        (0.9, 0.902, "about as good as before on 40 validation windows"),
    ],
)
def test_comparison_text_compares_the_miou(before, after, text):
    summary = TrainingSummary(200, 40, 9, {"dark": 200}, (), has_validation=True)
    found = comparison_text(summary, {"miou": before}, {"miou": after})
    assert found.startswith(text)


@pytest.mark.slow
def test_comparison_of_a_worse_model_says_so(corrected, tmp_path):
    """A good network, trained with a far too large learning rate."""
    _, image, store = corrected
    good = tmp_path / "good.safetensors"
    last(fine_tune(image, checkpoint(tmp_path), store, good, MORE))
    net = load_checkpoint(good)
    wild = FineTuneSettings(
        steps=3, learning_rate=3.0, distillation_weight=0, device="cpu"
    )
    compared = last(fine_tune(image, net, store, tmp_path / "bad.safetensors", wild))
    assert compared.after["miou"] < compared.before["miou"]
    assert compared.comparison.startswith("worse by")


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
        last(fine_tune(image, net, store, output, MORE))
    card = load_checkpoint(output).card
    assert [c.name for c in card.legend] == ["dark", "light", "right light"]
    assert "iou/right light" in card.metrics


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


def test_fine_tune_trains_a_new_model_from_scratch(tmp_path):
    truth, image = squares((320, 320))
    new = new_checkpoint("plain", METHODS["plain"], LEGEND, image, pretrained=False)
    assert new.hash == ""
    settings = FineTuneSettings(steps=40, batch_size=4, device="cpu")
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
    found = segment_region(image, made, Roi(0, 0, 320, 320))
    assert (found == truth).mean() > 0.8
