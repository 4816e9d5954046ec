"""The weights that the training loop saves, for given validation scores."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from helpers.networks import EncoderNet, LinearNet
from helpers.training import LEGEND, make_scene, make_source
from napari_uhrseg.engine.data.scenes import SceneDataset
from napari_uhrseg.engine.events import Progress, Saved, StepLogged
from napari_uhrseg.engine.training.job import (
    Compute,
    Metrics,
    TrainingJob,
    TrainingPolicy,
)
from napari_uhrseg.engine.training.schedule import Schedule
from napari_uhrseg.engine.training.step_memory import StepMemoryPlan
from napari_uhrseg.engine.training.trainer import Trainer
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.types import Card, Recipe, Stage


def make_trainer(
    output, stages, policy: TrainingPolicy, source=None, *, model=None, features=0
) -> Trainer:
    """Return a trainer, by default of a linear classifier."""
    model = model or LinearNet((0.0, 1.0), (0.0, 0.0))
    card = Card("linear", {}, LEGEND, model.spec)
    return Trainer(
        TrainingJob(
            model=model,
            source=(source or make_source(0)).fitted(model.spec),
            schedule=Schedule(Recipe(stages, batch_size=2)),
            compute=Compute(
                torch.device("cpu"), "fp32", StepMemoryPlan(2, features=features)
            ),
            policy=policy,
            seed=0,
            card=lambda metrics: replace(card, metrics=metrics),
            identity=[],
        ),
        output,
    )


def scored(scores, *, keep_best: bool) -> TrainingPolicy:
    """Return a policy that validates each step, with these scores."""
    left = iter(scores)

    def validate(model: Segmenter) -> Iterator[Metrics | None]:
        yield {"miou": next(left)}

    return TrainingPolicy.from_checkpoint(
        validate_fn=validate,
        validate_every=1,
        keep_best=keep_best,
        draft_interval_s=math.inf,
    )


@pytest.mark.parametrize(
    ("scores", "keep_best", "step"),
    [
        ((0.5, 0.6, 0.9, 0.55), False, 3),  # the latest
        ((0.5, 0.6, 0.9, 0.4), False, 2),  # the latest that is no worse than the start
        ((0.5, 0.6, 0.4, 0.3), False, 1),
        ((0.5, 0.5, 0.4, 0.3), False, 1),
        ((0.5, 0.6, 0.9, 0.55), True, 2),  # the best
        ((0.5, 0.6, 0.4, 0.55), True, 1),
    ],
)
def test_saved_weights_are_no_worse_than_the_start(scores, keep_best, step, tmp_path):
    output = tmp_path / "n.safetensors"
    stages = (Stage(len(scores) - 1, 0.1),)
    trainer = make_trainer(output, stages, scored(scores, keep_best=keep_best))
    events = list(trainer.run())
    assert read_card(output).metrics == {"miou": scores[step], "step": step}
    assert (trainer.before, trainer.after) == (
        {"miou": scores[0]},
        {"miou": scores[step]},
    )
    saved = [e.step for e in events if isinstance(e, Saved)]
    assert not saved or saved[-1] == step


@pytest.mark.parametrize("keep_best", [False, True])
def test_nothing_is_saved_if_all_weights_are_worse_than_the_start(keep_best, tmp_path):
    output = tmp_path / "n.safetensors"
    output.write_bytes(b"an earlier file")
    policy = scored((0.5, 0.4, 0.3, 0.2), keep_best=keep_best)
    trainer = make_trainer(output, (Stage(3, 0.1),), policy)
    events = list(trainer.run())
    trainer.close()
    assert not any(isinstance(event, Saved) for event in events)
    assert not trainer.saved
    assert trainer.after == {"miou": 0.2}
    assert output.read_bytes() == b"an earlier file"
    assert list(tmp_path.iterdir()) == [output]


def test_steps_on_the_same_batch_lower_the_loss(tmp_path):
    """Each sample is the whole scene, and the problem is convex."""
    policy = TrainingPolicy.from_scratch(
        validate_fn=None, validate_every=6, log_every=1, augmentations=()
    )
    source = SceneDataset(LEGEND, (make_scene(0, (64, 64)),))
    stages = (Stage(6, 0.1),)
    trainer = make_trainer(tmp_path / "n.safetensors", stages, policy, source)
    losses = [e.losses["loss"] for e in trainer.run() if isinstance(e, StepLogged)]
    assert len(losses) == 6
    assert all(after < before for before, after in pairwise(losses))


def test_each_stage_starts_with_a_new_optimizer(tmp_path):
    """Frozen parameters stay. Stopping between the stages changes nothing."""
    stages = (Stage(2, 0.1, trainable=("offsets",)), Stage(2, 0.01))
    policy = TrainingPolicy.from_scratch(validate_fn=None, validate_every=4)
    whole = make_trainer(tmp_path / "whole.safetensors", stages, policy)
    list(whole.run())
    parts = make_trainer(tmp_path / "parts.safetensors", stages, policy)
    with closing(parts.run()) as events:
        next(e for e in events if isinstance(e, Progress) and e.done == 2)
    parts.close()
    state = torch.load(parts.state_path, weights_only=True)
    assert state["step"] == 2
    assert state["model"]["slopes"].tolist() == [0, 1]
    assert state["model"]["offsets"].abs().min() > 0
    assert [len(g["params"]) for g in state["optimizer"]["param_groups"]] == [1]
    parts = make_trainer(tmp_path / "parts.safetensors", stages, policy)
    parts.prepare(resume=True, overwrite=False)
    list(parts.run())
    first, second = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert (first["slopes"] != torch.tensor([0.0, 1.0])).all()


FROZEN = (Stage(8, 0.1, frozen_encoder=True), Stage(2, 0.1, encoder_rate=0.5))
LATEST = TrainingPolicy.from_scratch(validate_fn=None, validate_every=10)


def encoder_trainer(output, features=1 << 30) -> Trainer:
    return make_trainer(output, FROZEN, LATEST, model=EncoderNet(), features=features)


def trained_until(output, step: int, features=1 << 30) -> dict[str, torch.Tensor]:
    """Train until a step and stop; return the weights."""
    trainer = encoder_trainer(output, features)
    trainer.prepare(resume=True, overwrite=False)
    with closing(trainer.run()) as events:
        next(e for e in events if isinstance(e, Progress) and e.done == step)
    trainer.close()
    state = torch.load(trainer.state_path, weights_only=True)["model"]
    assert isinstance(state, dict)
    return state


def test_frozen_encoder_stays_bit_for_bit_until_it_is_thawed(tmp_path):
    initial = EncoderNet().state_dict()
    frozen = trained_until(tmp_path / "a.safetensors", 8)
    assert not torch.equal(frozen["head.weight"], initial["head.weight"])
    encoder = [name for name in initial if name.startswith("encoder.")]
    assert "encoder.0.1.running_mean" in encoder
    assert all(torch.equal(frozen[name], initial[name]) for name in encoder)
    thawed = trained_until(tmp_path / "a.safetensors", 9)
    assert not any(torch.equal(thawed[name], initial[name]) for name in encoder)


def test_cached_features_change_no_bit(tmp_path):
    cached = encoder_trainer(tmp_path / "a.safetensors")
    list(cached.run())
    computed = encoder_trainer(tmp_path / "b.safetensors", features=0)
    list(computed.run())
    assert cached.features.hits == 6  # of eight steps on two batches
    assert cached.features.bytes == 0  # the features of the thawed encoder differ
    assert computed.features.hits == 0
    first, second = (load_file(t.output) for t in (cached, computed))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(3,), (8,), (5, 9)])
def test_training_with_a_frozen_encoder_resumes_bit_for_bit(stops, tmp_path):
    list(encoder_trainer(tmp_path / "whole.safetensors").run())
    parts = tmp_path / "parts.safetensors"
    for stop in stops:
        trained_until(parts, stop)
    rest = encoder_trainer(parts)
    rest.prepare(resume=True, overwrite=False)
    list(rest.run())
    first, second = load_file(tmp_path / "whole.safetensors"), load_file(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)


def drafting(scores) -> TrainingPolicy:
    """Return a policy that makes a draft after each step, and validates the last."""
    policy = scored(scores, keep_best=False)
    return replace(policy, validate_every=4, draft_interval_s=0.0)


@pytest.mark.parametrize(("score", "drafted"), [(0.5, True), (0.4, False)])
def test_draft_that_is_no_worse_than_the_start_is_there_early(score, drafted, tmp_path):
    output = tmp_path / "n.safetensors"
    trainer = make_trainer(output, (Stage(4, 0.1),), drafting((0.5, score, 0.4)))
    with closing(trainer.run()) as events:
        seen = [next(e for e in events if isinstance(e, Progress) and e.done == 2)]
    trainer.close()
    assert seen[0].total == 4
    assert output.exists() == drafted
    if drafted:
        assert read_card(output).metrics == {"miou": score, "step": 1}


def test_draft_takes_no_part_in_the_selection(tmp_path):
    """When a draft is made depends on the machine, and must not change the result."""
    output = tmp_path / "n.safetensors"
    worse = drafting((0.5, 0.9, 0.9, 0.9, 0.4))
    trainer = make_trainer(output, (Stage(4, 0.1),), worse)
    assert sum(isinstance(event, Saved) for event in trainer.run()) == 3
    trainer.close()
    assert not trainer.saved
    assert not list(tmp_path.iterdir())
    equal = drafting((0.5, 0.9, 0.9, 0.9, 0.5))
    trainer = make_trainer(output, (Stage(4, 0.1),), equal)
    list(trainer.run())
    trainer.close()
    assert read_card(output).metrics == {"miou": 0.5, "step": 4}


def test_resumed_training_knows_its_draft(tmp_path):
    output = tmp_path / "n.safetensors"
    trainer = make_trainer(output, (Stage(4, 0.1),), drafting((0.5, 0.6)))
    with closing(trainer.run()) as events:
        next(event for event in events if isinstance(event, Saved))
    trainer.close()
    trainer = make_trainer(output, (Stage(4, 0.1),), drafting((0.6, 0.6, 0.4)))
    trainer.prepare(resume=True, overwrite=False)
    list(trainer.run())
    trainer.close()
    assert not list(tmp_path.iterdir())


def test_draft_replaces_no_earlier_file(tmp_path):
    output = tmp_path / "n.safetensors"
    output.write_bytes(b"an earlier file")
    trainer = make_trainer(output, (Stage(4, 0.1),), drafting((0.5, 0.4)))
    trainer.prepare(resume=False, overwrite=True)
    assert not any(isinstance(event, Saved) for event in trainer.run())
    assert output.read_bytes() == b"an earlier file"
