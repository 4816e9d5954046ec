"""Estimate of the time of a training, from measured steps, before it starts."""

import io
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from napari_uhrseg.engine.events import Progress
from napari_uhrseg.engine.network.activation_memory import zero_batch
from napari_uhrseg.engine.network.device import inference_mode
from napari_uhrseg.engine.training.job import TrainingJob
from napari_uhrseg.engine.training.remaining_time import validation_count
from napari_uhrseg.engine.training.schedule import Schedule
from napari_uhrseg.engine.training.step_memory import MIN_SAMPLES
from napari_uhrseg.engine.training.trainer import Trainer
from napari_uhrseg.types import InputSpec, Stage

SIZES = ((4, False), (2, False), (1, False), (1, True))
"""Divisors of the sides of the measured samples, and whether all samples of a step are
measured; from the fastest to the most exact."""
MIN_MEASURED_SIDE = 128  # px
MEASURED_STEPS = 2  # the first one takes longer
MAX_STEP_S = 4.0  # expected seconds of a larger step, from which it is not measured


def estimate_seconds(job: TrainingJob, output: Path) -> float:
    """Return the estimated seconds of a training, with validation and saving.

    A step of each stage, the labelling of a window and the saving of a state are
    measured. Steps that take long are extrapolated from smaller samples, since the time
    of a network is proportional to their area. The network is changed; nothing is
    written.

    Parameters
    ----------
    job
        The training.
    output
        Path of the checkpoint.
    """
    policy, total = job.policy, job.schedule.total
    quiet = job.with_policy(
        validate_fn=None,
        validate_every=total + 1,
        keep_state=False,
        draft_interval_s=float("inf"),
    )
    seconds = sum(
        stage.steps * _step_seconds(quiet, stage, output)
        for stage in job.schedule.recipe.stages
    )
    validations = validation_count(total, policy.validate_every)
    states = validations + seconds / policy.save_interval_s if policy.keep_state else 0
    seconds += (states + validations) * _saving_seconds(job)
    if policy.validate_fn is not None and policy.validation_windows:
        window = _window_seconds(job)
        validations += policy.score_initial
        seconds += validations * policy.validation_windows * window
    return seconds


def _step_seconds(job: TrainingJob, stage: Stage, output: Path) -> float:
    """Return the estimated seconds of a step of a stage."""
    whole, batch = job.model.spec, job.schedule.recipe.batch_size
    found = before = 0.0
    try:
        for by, all_samples in SIZES:
            spec = _small_spec(whole, by)
            size = batch if all_samples else min(MIN_SAMPLES, batch)
            cost = size * spec.window**2
            if cost <= before or (found and found * cost > MAX_STEP_S):
                continue
            job.model.spec = spec
            try:
                seconds = _measured_seconds(job, stage, size, output)
            except (RuntimeError, ValueError):  # the network has a fixed margin
                if spec == whole:
                    raise
                continue
            found, before = seconds / cost, cost
    finally:
        job.model.spec = whole
    return found * batch * whole.window**2


def _measured_seconds(job: TrainingJob, stage: Stage, size: int, output: Path) -> float:
    """Return the seconds of the last of a few steps of ``size`` samples."""
    recipe = replace(
        job.schedule.recipe,
        batch_size=size,
        stages=(replace(stage, steps=MEASURED_STEPS),),
    )
    trainer = Trainer(replace(job, schedule=Schedule(recipe)), output)
    seconds, started = 0.0, time.monotonic()
    with closing(trainer.run()) as events:  # type: ignore[type-var] # a generator
        for event in events:
            if isinstance(event, Progress):
                seconds, started = time.monotonic() - started, time.monotonic()
                if event.done == MEASURED_STEPS or seconds > MAX_STEP_S:
                    break  # before the weights are saved
    return seconds


def _window_seconds(job: TrainingJob) -> float:
    """Return the seconds in which the network labels a window, without its image."""
    spec, device = job.model.spec, job.compute.device
    frame = None if spec.frame is None else (spec.window, spec.window)
    batch = zero_batch(spec, MIN_SAMPLES, frame, device)
    job.model.eval()
    seconds = 0.0
    with inference_mode(device, job.compute.precision):
        for _ in range(MEASURED_STEPS):
            started = time.monotonic()
            job.model(batch)["logits"].float().argmax(1).cpu()
            seconds = time.monotonic() - started
    return seconds / MIN_SAMPLES


def _saving_seconds(job: TrainingJob) -> float:
    """Return the seconds for the state of weights and two moments of the optimizer."""
    started = time.monotonic()
    for _ in range(3):
        torch.save(job.model.state_dict(), io.BytesIO())
    return time.monotonic() - started


def _small_spec(spec: InputSpec, by: int) -> InputSpec:
    """Return the specification of samples whose sides are divided by a number.

    It is the same specification if the sides would be too small.
    """
    side = spec.window // by // spec.divisor * spec.divisor
    if side < max(MIN_MEASURED_SIDE, spec.min_side):
        return spec
    views = {
        name: replace(
            view,
            extent=view.extent // by if isinstance(view.extent, int) else view.extent,
            size=None if view.size is None else view.size // by,
        )
        for name, view in spec.views.items()
    }
    return replace(spec, window=side, views=views)
