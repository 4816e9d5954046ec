"""Training job: model, data, computation and policy."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from napari_uhrseg.engine.data.augmentation import DEFAULT_AUGMENTATIONS, Augmentation
from napari_uhrseg.engine.data.scenes import Dataset
from napari_uhrseg.engine.training.losses import LossFn, model_loss
from napari_uhrseg.engine.training.schedule import Schedule
from napari_uhrseg.engine.training.step_memory import StepMemoryPlan
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.types import Card

Metrics = Mapping[str, float]
ValidateFn = Callable[[Segmenter], Iterator[Metrics | None]]
"""Function that yields None after each batch and the metrics at the end.

The model is in eval mode.
"""


def unchanged(model: Segmenter) -> Segmenter:
    """Return the network itself."""
    return model


@dataclass(frozen=True)
class Compute:
    """Device, precision (``"fp32"`` or ``"bf16"``) and memory of a training step."""

    device: torch.device
    precision: str
    memory: StepMemoryPlan


@dataclass(frozen=True, kw_only=True)
class TrainingPolicy:
    """Loss, augmentation, validation and selection of the weights.

    Use :meth:`from_scratch` or :meth:`from_checkpoint`.

    Parameters
    ----------
    validate_fn
        Function that computes validation metrics. ``None``: there is no validation
        data, and the latest weights count as the best.
    validate_every, log_every
        Steps between validations, and between ``StepLogged`` events; at least 1.
    loss_fn
        Loss to minimise.
    augmentations
        Random changes of the samples.
    score_initial
        If True, the initial weights are validated first and must be surpassed.
    keep_best
        If True, the weights with the best ``miou`` are saved. Otherwise the latest
        weights are saved whose ``miou`` is at least that of the initial weights. In
        both cases, nothing is saved if all are worse than the initial weights.
    resume_stage
        If True, the first stage continues from weights that were trained in it.
    weights_to_save
        Function that returns the network to validate and save for the trained one.
    validation_windows
        Windows that a validation labels, from which its time is estimated.
    draft_interval_s
        Seconds after which the present weights are saved as a draft, unless validated
        weights are saved already; at least 0.
    keep_state
        If True, an unfinished training leaves a state file from which it can continue.
    save_interval_s
        Seconds between state files, which is about the time that a killed training
        loses.
    """

    validate_fn: ValidateFn | None
    validate_every: int
    log_every: int = 10
    loss_fn: LossFn = model_loss
    augmentations: tuple[Augmentation, ...] = DEFAULT_AUGMENTATIONS
    score_initial: bool = False
    keep_best: bool = True
    resume_stage: bool = False
    weights_to_save: Callable[[Segmenter], Segmenter] = unchanged
    validation_windows: float = 0.0
    draft_interval_s: float = 60.0
    keep_state: bool = True
    save_interval_s: float = 60.0

    @classmethod
    def from_scratch(cls, **choices: Any) -> Self:
        """Return the policy for a network without trained weights."""
        return cls(score_initial=False, resume_stage=False, **choices)

    @classmethod
    def from_checkpoint(cls, **choices: Any) -> Self:
        """Return the policy for trained weights, which must be surpassed."""
        return cls(score_initial=True, resume_stage=True, **choices)


@dataclass(frozen=True)
class TrainingJob:
    """Complete definition of a training.

    Parameters
    ----------
    model
        The network with its initial weights; training changes it.
    source
        The data set, fitted to the model.
    schedule
        Stages, learning rates and optimizer.
    compute
        Device, precision and memory.
    policy
        Loss, augmentation, validation and selection of the weights.
    seed
        Seed of samples and dropout.
    card
        Function that returns the card of a checkpoint for its metrics.
    identity
        JSON value of everything that determines the resulting weights.
    """

    model: Segmenter
    source: Dataset
    schedule: Schedule
    compute: Compute
    policy: TrainingPolicy
    seed: int
    card: Callable[[Metrics], Card]
    identity: object

    def with_policy(self, **changes: Any) -> Self:
        """Return the job with changed fields of its policy."""
        return replace(self, policy=replace(self.policy, **changes))
