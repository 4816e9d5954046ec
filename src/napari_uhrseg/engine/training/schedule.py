"""What to train and how: the person's numbers over the method's own recipe."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import nn

from napari_uhrseg.errors import TrainingError
from napari_uhrseg.types import Recipe, Stage


@dataclass(frozen=True, slots=True)
class CardMetadata:
    """What the person says of a checkpoint, for its card."""

    name: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    trained_on: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """What to train and how; ``None`` leaves it to the method's own recipe.

    Parameters
    ----------
    model, arguments
        Name in the registry, and arguments of its constructor.
    steps, learning_rate
        Of the whole training; stages keep their shares and ratios.
    pretrained
        Start from ImageNet weights of the encoder.
    value_range, pixel_size
        Written on the card; see ``InputSpec``.
    validate_every
        Steps between validations; ``None``: a tenth of the steps, at least 50.
    """

    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: Literal["sgd", "adamw"] | None = None
    schedule: Literal["cosine", "poly"] | None = None
    weight_decay: float | None = None
    clip: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    pretrained: bool = False
    value_range: tuple[float, float] | None = None
    pixel_size: float | None = None
    validate_every: int | None = None
    log_every: int = 10
    card: CardMetadata = field(default_factory=CardMetadata)

    def recipe(self, own: Recipe) -> Recipe:
        """The method's recipe with the numbers chosen here.

        Raises
        ------
        TrainingError
            A number is not usable.
        """
        named = ("batch_size", "optimizer", "schedule", "weight_decay", "clip")
        chosen = {k: getattr(self, k) for k in named if getattr(self, k) is not None}
        total, first = sum(s.steps for s in own.stages), own.stages[0].learning_rate
        longer = 1.0 if self.steps is None else self.steps / total
        faster = 1.0 if self.learning_rate is None else self.learning_rate / first
        ends = [round(n * longer) for n in accumulate(s.steps for s in own.stages)]
        stages = tuple(
            replace(
                stage,
                steps=end - begin,
                learning_rate=stage.learning_rate * faster,
            )
            for stage, begin, end in zip(own.stages, [0, *ends], ends, strict=False)
        )
        recipe = replace(own, stages=stages, **chosen)
        usable = (
            recipe.batch_size >= 2
            and min(s.steps for s in stages) >= 1
            and min(s.learning_rate for s in stages) > 0
            and min(self.validate_every or 1, self.log_every) >= 1
        )
        if not usable:
            raise TrainingError(
                f"{stages[0].steps} steps of {recipe.batch_size} samples at learning "
                f"rate {stages[0].learning_rate:g} cannot be trained.",
                "Take a step or more, at least 2 samples (normalisation needs them) "
                "and a rate above 0.",
            )
        return recipe


@dataclass(frozen=True, slots=True)
class Schedule:
    """The recipe in time; steps count from 0."""

    recipe: Recipe

    @property
    def total(self) -> int:
        return sum(stage.steps for stage in self.recipe.stages)

    def starts_stage(self, step: int) -> bool:
        return any(step == first for first, _ in self._stages())

    def stage(self, step: int) -> tuple[int, Stage]:
        """The stage a step is in, and its first step."""
        return [found for found in self._stages() if found[0] <= step][-1]

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        first, stage = self.stage(step)
        done = (step - first) / stage.steps
        if self.recipe.schedule == "poly":
            return float(stage.learning_rate * (1 - done) ** 0.9)
        return stage.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def optimizer(self, model: nn.Module, step: int) -> torch.optim.Optimizer:
        """A new optimiser of what the step's stage trains; freezes the rest."""
        _, stage = self.stage(step)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not stage.trains or name.startswith(stage.trains))
        trained = [p for p in model.parameters() if p.requires_grad]
        rate, decay = stage.learning_rate, self.recipe.weight_decay
        if self.recipe.optimizer == "adamw":
            return torch.optim.AdamW(trained, rate, weight_decay=decay)
        momentum = self.recipe.momentum
        return torch.optim.SGD(trained, rate, momentum=momentum, weight_decay=decay)

    def _stages(self) -> Iterator[tuple[int, Stage]]:
        first = 0
        for stage in self.recipe.stages:
            yield first, stage
            first += stage.steps
