"""Training settings, learning-rate schedule and optimizer."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch

from napari_uhrseg.engine.training.stage_parameters import (
    learning_rate_factors,
    set_trainable,
)
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.types import Limits, PerBand, Recipe, Stage, ValueRange

MOMENTUM = 0.9  # momentum of SGD
FROZEN_EPOCHS = 4  # passes over the batches of a stage with a frozen encoder


@dataclass(frozen=True, slots=True)
class CardMetadata:
    """Descriptive texts of a checkpoint, for its card."""

    name: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    trained_on: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Model and hyperparameters of a training.

    ``None`` selects the value of the method's recipe.

    Parameters
    ----------
    model, arguments
        Name in the model registry, and arguments of the constructor.
    steps
        Optimizer steps of the whole training, at least 1. Stages keep their shares.
    batch_size
        Samples of a step, at least 2.
    learning_rate
        Initial learning rate, above 0. Stages keep their ratios.
    optimizer, schedule, clip, weight_decay
        Optimizer, learning-rate schedule, maximum gradient norm, and weight decay of
        at least 0.
    seed
        Seed of initial weights, samples and dropout.
    device, precision
        Device id or ``"auto"``, and arithmetic of the forward pass.
    pretrained
        If True, the encoder starts from ImageNet weights. If they are not available,
        the default encoder replaces it.
    encoder_weights
        Files of encoder weights. Each is loaded into the encoders that it fits.
    pixel_size
        Pixel size for the card; see ``InputSpec``.
    value_range
        Image values that become 0 and 1, for the card; see ``InputSpec``.
    loss
        Name in `losses.LOSSES`.
    augmentations
        Names in `augmentation.AUGMENTATIONS`, in the order in which they are drawn;
        ``None``: those of the method's recipe.
    validate_every
        Steps between validations; ``None``: a tenth of the steps, at least 50.
    log_every
        Steps between logged losses.
    limits
        Upper bounds that do not change the weights.
    card
        Descriptive texts for the checkpoint's card.
    """

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: Literal["sgd", "adamw"] | None = None
    schedule: Literal["cosine", "poly"] | None = None
    clip: float | None = None
    weight_decay: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    pretrained: bool = True
    encoder_weights: tuple[Path, ...] = ()
    pixel_size: float | None = None
    value_range: ValueRange | PerBand | None = None
    loss: str = "model"
    augmentations: tuple[str, ...] | None = None
    validate_every: int | None = None
    log_every: int = 10
    limits: Limits = field(default_factory=Limits)
    card: CardMetadata = field(default_factory=CardMetadata)

    def recipe(self, own: Recipe) -> Recipe:
        """Return the method's recipe ``own`` with the values chosen here.

        Raises
        ------
        TrainingError
            If a value is out of range.
        """
        named = ("batch_size", "optimizer", "schedule", "clip", "weight_decay",
                 "augmentations")  # fmt: skip
        chosen = {k: getattr(self, k) for k in named if getattr(self, k) is not None}
        recipe = replace(own, stages=self._stages(own.stages), **chosen)
        self._check(recipe)
        return recipe

    def _stages(self, own: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Return stages with the chosen total of steps and initial learning rate."""
        total, first = sum(s.steps for s in own), own[0].learning_rate
        longer = 1.0 if self.steps is None else self.steps / total
        faster = 1.0 if self.learning_rate is None else self.learning_rate / first
        ends = [round(n * longer) for n in accumulate(s.steps for s in own)]
        return tuple(
            replace(
                stage,
                steps=end - begin,
                learning_rate=stage.learning_rate * faster,
            )
            for stage, begin, end in zip(own, [0, *ends], ends, strict=False)
        )

    def _check(self, recipe: Recipe) -> None:
        """Raise TrainingError if a value is out of range."""
        stages = recipe.stages
        usable = (
            recipe.batch_size >= 2
            and min(s.steps for s in stages) >= 1
            and min(s.learning_rate for s in stages) > 0
            and min(self.validate_every or 1, self.log_every) >= 1
            and recipe.weight_decay >= 0
        )
        if not usable:
            raise TrainingError(
                f"{stages[0].steps} steps of {recipe.batch_size} samples at learning "
                f"rate {stages[0].learning_rate:g} cannot be trained.",
                "Choose at least 1 step, at least 2 samples (batch normalisation needs "
                "them), a learning rate above 0 and a weight decay of at least 0.",
            )


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning-rate schedule: stage, rate and optimizer of each step, from 0."""

    recipe: Recipe

    @property
    def total(self) -> int:
        """Number of steps."""
        return sum(stage.steps for stage in self.recipe.stages)

    def starts_stage(self, step: int) -> bool:
        """Return True if a stage starts with this step."""
        return any(step == first for first, _ in self._stages())

    def stage(self, step: int) -> tuple[int, Stage]:
        """Return the first step of a step's stage, and the stage."""
        return [found for found in self._stages() if found[0] <= step][-1]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: cosine or polynomial decay.

        Cosine: Loshchilov and Hutter 2017, SGDR, arXiv 1608.03983, without restarts.
        Polynomial: Chen et al. 2018, DeepLab, arXiv 1606.00915, with power 0.9.
        """
        first, stage = self.stage(step)
        done = (step - first) / stage.steps
        if self.recipe.schedule == "poly":
            return float(stage.learning_rate * (1 - done) ** 0.9)
        return stage.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def batch_number(self, step: int) -> int:
        """Return the number of the batch of a step.

        It is the step itself. A stage with a frozen encoder repeats its first batches.
        """
        first, stage = self.stage(step)
        if not stage.frozen_encoder:
            return step
        return first + (step - first) % max(1, stage.steps // FROZEN_EPOCHS)

    def optimizer(self, model: Segmenter, step: int) -> torch.optim.Optimizer:
        """Return a new optimizer for a step's stage; freeze all other parameters.

        Each parameter group has a ``factor`` of the learning rate.
        """
        _, stage = self.stage(step)
        set_trainable(model, stage)
        factors = learning_rate_factors(model, stage.encoder_rate)
        groups = [
            {
                "params": [
                    p
                    for name, p in model.named_parameters()
                    if p.requires_grad and factors[name] == factor
                ],
                "factor": factor,
            }
            for factor in sorted(set(factors.values()))
        ]
        groups = [group for group in groups if group["params"]]
        rate, decay = stage.learning_rate, self.recipe.weight_decay
        if self.recipe.optimizer == "adamw":
            return torch.optim.AdamW(groups, rate, weight_decay=decay)
        return torch.optim.SGD(groups, rate, momentum=MOMENTUM, weight_decay=decay)

    def _stages(self) -> Iterator[tuple[int, Stage]]:
        first = 0
        for stage in self.recipe.stages:
            yield first, stage
            first += stage.steps
