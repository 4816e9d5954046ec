"""Training from scenes: events, checkpoints, resuming."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.forked import forked_process
from helpers.training import (
    GLNET,
    ISDNET,
    PLAIN,
    SCPSEG,
    SGNET,
    SMALL,
    make_source,
)
from napari_uhrseg.engine.events import (
    MemoryPlanned,
    Progress,
    Saved,
    StepLogged,
    TrainingPlanned,
    Validated,
)
from napari_uhrseg.engine.training.losses import LOSSES, model_loss
from napari_uhrseg.engine.training.step_memory import LossWeights
from napari_uhrseg.engine.training.train import (
    CardMetadata,
    TrainSettings,
    plan_training,
    train,
)
from napari_uhrseg.errors import CheckpointError, DeviceError, TrainingError
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.types import Limits


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [PLAIN, SCPSEG], ids=lambda s: s.model)
def test_train_yields_events_and_leaves_the_best_checkpoint(settings, tmp_path):
    output = tmp_path / "new" / "c.safetensors"
    text = CardMetadata(name="Test", licence="CC0", command="make")
    events = list(train(make_source(), output, replace(settings, card=text)))
    progress = [e for e in events if isinstance(e, Progress)]
    assert progress[-1].done == progress[-1].total == 6
    trained = [e for e in events if isinstance(e, StepLogged)]
    assert [e.step for e in trained] == [2, 4, 6]
    assert trained[0].learning_rate > trained[-1].learning_rate
    validated = [e for e in events if isinstance(e, Validated)]
    assert [e.step for e in validated] == [4, 6]
    assert validated[0].best
    saved = [e for e in events if isinstance(e, Saved)]
    assert [e.step for e in saved] == [e.step for e in validated if e.best]
    card = load_checkpoint(output).card
    best = max(validated, key=lambda e: e.metrics["miou"])
    assert card.metrics == {**best.metrics, "step": best.step}
    assert (card.name, card.licence, card.command) == ("Test", "CC0", "make")
    assert list(output.parent.iterdir()) == [output]


def run(settings: TrainSettings, output: Path, stop_after: int = 1000) -> None:
    """Train until that many steps are done, and close the generator there."""
    events = train(make_source(), output, settings)
    for event in events:
        if isinstance(event, Progress) and event.done == stop_after:
            break
    events.close()  # type: ignore[attr-defined]


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "stops"),
    [(PLAIN, (1, 4, 5)), (SCPSEG, (4,)), (SGNET, (4,)), (GLNET, (4,))],
    ids=lambda v: v.model if isinstance(v, TrainSettings) else len(v),
)
def test_train_resumes_bit_for_bit(settings, stops, tmp_path):
    """Dropout, momentum, samples and the best score continue. Step 4 is validated."""
    settings = replace(settings, optimizer=None, clip=None)
    run(settings, tmp_path / "whole.safetensors")
    for stop in stops:
        run(settings, tmp_path / "parts.safetensors", stop)
    assert (tmp_path / "parts.safetensors.state").exists()
    run(settings, tmp_path / "parts.safetensors")
    whole, parts = (
        load_file(tmp_path / f"{n}.safetensors") for n in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    cards = [
        load_checkpoint(tmp_path / f"{n}.safetensors").card for n in ("whole", "parts")
    ]
    assert cards[0].metrics == cards[1].metrics


@pytest.mark.slow
@pytest.mark.parametrize("settings", [ISDNET, GLNET], ids=lambda s: s.model)
def test_train_frame_methods_through_all_stages(settings, tmp_path):
    output = tmp_path / "c.safetensors"
    events = list(train(make_source(), output, settings))
    assert next(e for e in reversed(events) if isinstance(e, Progress)).done == 6
    seen = {name for e in events if isinstance(e, StepLogged) for name in e.losses}
    if settings is GLNET:
        assert seen == {"loss", "global", "local", "ensemble", "regularisation"}
    assert [e.step for e in events if isinstance(e, Validated)] == [4, 6]
    assert load_checkpoint(output).card.metrics["miou"] > 0


def train_until_killed(sender: Connection, output: Path) -> None:
    """Train with a state after each step, and end by SIGKILL after the third."""
    torch.set_num_threads(1)
    settings = replace(PLAIN, limits=Limits(state_interval_s=0.0))
    for event in train(make_source(), output, settings):
        if isinstance(event, Progress) and event.done == 3:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_train_resumes_after_a_kill(tmp_path):
    run(PLAIN, tmp_path / "whole.safetensors")
    output = tmp_path / "killed.safetensors"
    with forked_process(train_until_killed, output) as (child, _):
        child.join()
        assert child.exitcode == -9
    assert not output.exists()
    state = torch.load(f"{output}.state", weights_only=True)
    assert state["step"] == 2
    run(PLAIN, output)
    whole, killed = load_file(tmp_path / "whole.safetensors"), load_file(output)
    assert all(torch.equal(whole[k], killed[k]) for k in whole)


@pytest.mark.slow
def test_train_without_validation_keeps_the_last_weights(tmp_path):
    output = tmp_path / "c.safetensors"
    events = list(train(make_source(0), output, PLAIN))
    assert not [e for e in events if isinstance(e, Validated)]
    assert load_checkpoint(output).card.metrics == {"step": 6}


@pytest.mark.slow
def test_train_in_bf16(tmp_path):
    settings = replace(PLAIN, precision="bf16", steps=3)
    events = list(train(make_source(0), tmp_path / "c.safetensors", settings))
    assert any(isinstance(e, Saved) for e in events)


@pytest.mark.slow
def test_train_leaves_the_callers_random_state(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    list(train(make_source(0), tmp_path / "c.safetensors", replace(PLAIN, steps=2)))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.slow
def test_train_does_not_overwrite_a_checkpoint(tmp_path):
    output = tmp_path / "c.safetensors"
    run(replace(PLAIN, steps=1), output)
    with pytest.raises(TrainingError, match="exists") as error:
        run(PLAIN, output)
    assert error.value.hint
    list(train(make_source(), output, replace(PLAIN, steps=1), overwrite=True))
    run(PLAIN, tmp_path / "d.safetensors", 1)
    with pytest.raises(TrainingError, match="other settings"):
        run(replace(PLAIN, seed=5), tmp_path / "d.safetensors")
    (tmp_path / "d.safetensors.state").write_bytes(b"no state")
    with pytest.raises(TrainingError, match="cannot be read"):
        run(PLAIN, tmp_path / "d.safetensors")
    again = train(make_source(), tmp_path / "d.safetensors", PLAIN, resume=False)
    assert isinstance(next(again), TrainingPlanned)
    again.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_train_stops_at_a_loss_that_is_not_finite(tmp_path):
    settings = replace(PLAIN, optimizer="sgd", learning_rate=1e30, clip=None)
    with pytest.raises(TrainingError, match=r"The loss became (nan|inf)") as error:
        run(settings, tmp_path / "c.safetensors")
    assert "learning rate" in error.value.hint


@pytest.mark.slow
def test_train_reports_memory_that_runs_out(tmp_path, monkeypatch):
    def fail(model: Segmenter, batch: Batch, weights: LossWeights) -> dict:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setitem(LOSSES, "fails", fail)
    with pytest.raises(DeviceError, match="2 samples at a time"):
        run(replace(PLAIN, loss="fails"), tmp_path / "c.safetensors")


def test_train_refuses_unusable_settings(tmp_path):
    output = tmp_path / "c.safetensors"
    for settings, kind in [
        (replace(PLAIN, model="nonsense"), CheckpointError),
        (replace(PLAIN, steps=0), TrainingError),
        (replace(PLAIN, device="abacus"), DeviceError),
        (replace(PLAIN, precision="fp16"), DeviceError),
    ]:
        with pytest.raises(kind):
            run(settings, output)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def input_sizes(monkeypatch):
    """Return the sizes of the local views that the loss ``"watched"`` has seen."""
    found = set()

    def watched(model: Segmenter, batch: Batch, weights: LossWeights) -> dict:
        found.add(tuple(batch.views["local"].shape[-2:]))
        return model_loss(model, batch, weights)

    monkeypatch.setitem(LOSSES, "watched", watched)
    return found


@pytest.mark.slow
def test_train_crops_frames_larger_than_the_images(tmp_path, input_sizes):
    """GLNet's overview of a padded frame would be at another scale than at work."""
    frame = {**GLNET.arguments, "frame": 256}
    settings = replace(GLNET, steps=3, loss="watched", arguments=frame)
    list(train(make_source(), tmp_path / "c.safetensors", settings))
    assert input_sizes == {(160, 160)}  # of scenes of 160 x 192
    assert load_checkpoint(tmp_path / "c.safetensors").card.spec.frame == 256


@pytest.mark.slow
def test_train_keeps_windows_larger_than_the_images(tmp_path, input_sizes):
    window = {**SMALL, "window": 256}
    settings = replace(PLAIN, steps=1, loss="watched", arguments=window)
    list(train(make_source(), tmp_path / "c.safetensors", settings))
    assert input_sizes == {(256, 256)}


@pytest.mark.slow
def test_plan_training_measures_two_steps_and_writes_nothing(tmp_path):
    source = replace(make_source(), warnings=("a warning",))
    events = list(plan_training(source, tmp_path / "c.safetensors", PLAIN))
    plan, memory, progress = events
    assert isinstance(memory, MemoryPlanned)
    assert (plan.training, plan.validation) == (("s0", "s1"), ("s9",))
    assert plan.classes == ("dark", "light")
    assert (plan.steps, plan.device, plan.precision) == (6, "cpu", "fp32")
    assert plan.warnings == ("a warning",)
    assert (progress.done, progress.total) == (0, 6)
    assert progress.seconds_left > 0
    assert not list(tmp_path.iterdir())
