"""Conversion of the settings of a fine-tuning into a training job."""

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from napari_uhrseg.engine.cancellation import Stop, interruptible
from napari_uhrseg.engine.data.augmentation import find_augmentations
from napari_uhrseg.engine.finetuning.correction_collection import CorrectionSource
from napari_uhrseg.engine.finetuning.distillation import (
    WISE_FT_ALPHA,
    DistillationLoss,
    distillation_weight,
)
from napari_uhrseg.engine.finetuning.model_selection import (
    MIN_GAIN_KEPT,
    MIN_WINDOWS_TO_SELECT,
    Validator,
)
from napari_uhrseg.engine.network.device import (
    MemoryBudget,
    find_device,
    training_precision,
)
from napari_uhrseg.engine.training.initial_weights import RANDOM
from napari_uhrseg.engine.training.job import (
    Compute,
    Metrics,
    TrainingJob,
    TrainingPolicy,
    unchanged,
)
from napari_uhrseg.engine.training.schedule import Schedule
from napari_uhrseg.engine.training.step_memory import plan_step_memory
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.add_classes import head_parameters, with_more_classes
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, Checkpoint
from napari_uhrseg.types import Card, FineTuneSettings, Recipe, Stage
from napari_uhrseg.types.finetuning import FIRST_STEPS, QUICK_STEPS

LEARNING_RATE = 5e-4
FIRST_LEARNING_RATE = 2e-3  # of a network without trained weights
FROZEN_SHARE = 0.3  # of the steps of a new network with a pretrained encoder
ENCODER_RATE = 0.3  # of the encoder's first block, relative to other learning rates
VALIDATIONS = 5  # per training


def make_job(
    source: CorrectionSource,
    checkpoint: Checkpoint,
    output: Path,
    settings: FineTuneSettings,
    budget: MemoryBudget | None,
    stop: Stop | None,
) -> TrainingJob:
    """Return the training job of a fine-tuning.

    Parameters
    ----------
    source, checkpoint
        The corrections, and the original checkpoint. Its model is moved to the device,
        but not changed.
    output, settings, budget
        As in ``fine_tune()``.
    stop
        Polled while the original model runs. If it returns True, the work ends.

    Raises
    ------
    TrainingError
        If a setting is out of range.
    DeviceError
        If the device is missing or its memory is too small for two samples.
    Cancelled
        If ``stop`` returned True.
    """
    found = find_device(budget.device if budget else settings.device)
    device = torch.device(found.id)
    precision = training_precision(settings.precision, found)
    old = checkpoint.model.to(device).eval()
    model, extends = extended_model(old, checkpoint.card, source)
    new = checkpoint.hash == UNSAVED_HASH
    recipe = _recipe(model, checkpoint, settings)
    limit = budget or MemoryBudget.default(found.id)
    size, memory = plan_step_memory(model, recipe, limit, None if new else old)
    recipe = replace(recipe, batch_size=size)
    identity = _identity(source, checkpoint, settings, recipe, precision)
    identity += memory.identity(size)
    check = Validator(source, old, memory.micro_batch_size, device, precision)
    policy = (
        _from_scratch(recipe, check)
        if new
        else _from_checkpoint(recipe, check, settings, stop, extends=extends)
    )
    return TrainingJob(
        model=model,
        source=source,
        schedule=Schedule(recipe),
        compute=Compute(device, precision, memory),
        policy=policy,
        seed=settings.seed,
        card=partial(
            fine_tuned_card, checkpoint, source, output, _command(recipe, identity)
        ),
        identity=identity,
    )


def extended_model(
    old: Segmenter, card: Card, source: CorrectionSource
) -> tuple[Segmenter, bool]:
    """Return a copy with the classes of a data set, and True if some are new.

    Parameters
    ----------
    old, card
        Network and card of a checkpoint.
    source
        Corrections, whose legend begins with that of the card.
    """
    if len(source.legend) > len(card.legend):
        return with_more_classes(old, card, source.legend), True
    return copy.deepcopy(old), False


def _identity(
    source: CorrectionSource,
    checkpoint: Checkpoint,
    settings: FineTuneSettings,
    recipe: Recipe,
    precision: str,
) -> list[object]:
    """Return the data and settings that determine the weights, as JSON values."""
    return [
        checkpoint.hash,
        asdict(recipe),
        settings.seed,
        settings.distillation_weight,
        asdict(source.legend),
        source.fingerprint(),
        precision,
        WISE_FT_ALPHA,
        MIN_GAIN_KEPT,
    ]


def _from_scratch(recipe: Recipe, validator: Validator) -> TrainingPolicy:
    """Return the policy for a new network, whose last weights are saved."""
    validates = validator.source.has_validation
    return TrainingPolicy.from_scratch(
        validate_fn=validator.score_held_out if validates else None,
        validation_windows=len(validator.source.held_out_samples),
        keep_best=False,
        **_common(recipe),
    )


def _from_checkpoint(
    recipe: Recipe,
    validator: Validator,
    settings: FineTuneSettings,
    stop: Stop | None,
    *,
    extends: bool,
) -> TrainingPolicy:
    """Return the policy for a trained network: distillation, WiSE-FT, validation."""
    weight = settings.distillation_weight
    if weight is None:
        with interruptible(validator.old, stop):
            weight = distillation_weight(validator.original_accuracy)
    enough = len(validator.source.held_out_samples) >= MIN_WINDOWS_TO_SELECT
    return TrainingPolicy.from_checkpoint(
        validate_fn=validator.score,
        validation_windows=validator.window_count,
        loss_fn=DistillationLoss(validator.old, weight),
        keep_best=enough,
        weights_to_save=unchanged if extends else validator.select_weights,
        **_common(recipe),
    )


def _common(recipe: Recipe) -> dict[str, Any]:
    """Return the choices that both policies share."""
    total = Schedule(recipe).total
    return {
        "augmentations": find_augmentations(recipe.augmentations),
        "validate_every": max(1, total // VALIDATIONS),
        "log_every": max(1, min(10, total // 20)),
    }


def _recipe(
    model: Segmenter, checkpoint: Checkpoint, settings: FineTuneSettings
) -> Recipe:
    """Return the last stage of the method with a small learning rate.

    A network without trained weights uses all stages and a larger rate.
    """
    new = checkpoint.hash == UNSAVED_HASH
    stages = model.recipe.stages if new else model.recipe.stages[-1:]
    steps, rate = settings.steps, settings.learning_rate
    if steps is None:
        steps = FIRST_STEPS if new else QUICK_STEPS
    if rate is None:
        rate = FIRST_LEARNING_RATE if new else LEARNING_RATE
    size = settings.batch_size or _usual_batch_size(model.spec.window, new=new)
    _check(steps, rate, size, settings.distillation_weight or 0.0)
    each = [s.steps / sum(s.steps for s in stages) * steps for s in stages]
    ends = [round(sum(each[: k + 1])) for k in range(len(each))]
    made = [
        Stage(
            max(1, end - begin),
            rate,
            _trainable(model, checkpoint.card, settings.trainable, stage.trainable),
            stage.name,
        )
        for stage, begin, end in zip(stages, [0, *ends], ends, strict=False)
    ]
    if new and settings.trainable == "all" and _is_pretrained(checkpoint.card):
        made = list(_gradually(made, model))
    return Recipe(
        tuple(made), size, "adamw", weight_decay=0.01, schedule="cosine", clip=1.0,
        augmentations=model.recipe.augmentations,
    )  # fmt: skip


def _is_pretrained(card: Card) -> bool:
    return card.encoder_weights not in ("", RANDOM)


def _gradually(stages: Sequence[Stage], model: Segmenter) -> Iterator[Stage]:
    """Yield the stages with gradual unfreezing (ULMFiT) and small encoder rates.

    Where a stage is the first to train an encoder, it begins with a frozen encoder,
    because the random decoder would disturb the pretrained weights.
    """
    seen: set[str] = set()
    for stage in stages:
        inside = {n for n in stage.trainable if n.startswith(model.encoder_prefixes)}
        frozen = round(FROZEN_SHARE * stage.steps)
        if inside <= seen or len(inside) == len(stage.trainable):
            frozen = 0
        if frozen:
            yield replace(stage, steps=frozen, frozen_encoder=True)
        yield replace(stage, steps=stage.steps - frozen, encoder_rate=ENCODER_RATE)
        seen |= inside


def _usual_batch_size(window: int, *, new: bool) -> int:
    if new:
        return 8 if window <= 256 else 4 if window <= 512 else 2
    return 6 if window <= 512 else 3  # a third of them are for replay


def _check(steps: int, rate: float, size: int, weight: float) -> None:
    if min(steps, rate) <= 0 or size < 2 or weight < 0:
        raise TrainingError(
            f"{steps} steps of {size} windows at learning rate {rate:g} and "
            f"distillation weight {weight:g} are not possible.",
            "Choose at least 1 step, at least 2 windows, a learning rate above 0 and "
            "a distillation weight of at least 0.",
        )


def _trainable(
    model: Segmenter, card: Card, which: str, stage: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names of the trainable parameters among those of the stage."""
    names = [n for n, _ in model.named_parameters()]
    if stage:
        names = [n for n in names if n.startswith(stage)]
    if which == "head":
        head = set(head_parameters(card))
        names = [n for n in names if n in head]
    elif which == "decoder":
        names = [n for n in names if not n.startswith(model.encoder_prefixes)]
    return tuple(names)


def fine_tuned_card(
    checkpoint: Checkpoint,
    source: CorrectionSource,
    output: Path,
    command: str,
    metrics: Metrics,
) -> Card:
    """Return the card of a fine-tuned checkpoint.

    Parameters
    ----------
    checkpoint, source
        The original checkpoint, and the corrections.
    output
        Path of the new checkpoint, which gives its name.
    command
        Settings of the training as text.
    metrics
        Scores on the validation regions.
    """
    old = checkpoint.card
    count = source.site_count  # in a file: not in the style of the window
    regions = f"{count:,} region{'s' if count != 1 else ''}"
    corrected = f"{regions} corrected in {', '.join(source.names)}"
    return replace(
        old,
        name=output.stem,
        legend=source.legend,
        trained_on="; then ".join(filter(None, [old.trained_on, corrected])),
        command=command,
        augmentations=", ".join(checkpoint.model.recipe.augmentations),
        metrics=metrics,
        parent=checkpoint.hash or None,  # a new network has none
    )


def _command(recipe: Recipe, identity: object) -> str:
    """Return the settings as text, with a hash of all that decides the weights."""
    steps = sum(stage.steps for stage in recipe.stages)
    text = json.dumps(identity, sort_keys=True).encode()
    return (
        f"fine-tuned: {steps} steps of {recipe.batch_size} windows at learning rate "
        f"{recipe.stages[0].learning_rate:g}; {hashlib.sha256(text).hexdigest()[:16]}"
    )
