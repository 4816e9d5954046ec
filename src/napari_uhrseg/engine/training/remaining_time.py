"""Remaining time of a running training."""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING

from napari_uhrseg.engine.training.schedule import Schedule

if TYPE_CHECKING:
    from napari_uhrseg.types import Stage

RECENT = 20  # durations that count
THAWED_COST = 1.5  # time of a step, relative to one with a frozen encoder


class RemainingTime:
    """Remaining time of a training, from the durations of its steps and validations.

    Pauses between steps do not count.

    Parameters
    ----------
    schedule
        The stages.
    validate_every
        Steps between validations.
    """

    def __init__(self, schedule: Schedule, validate_every: int) -> None:
        self._schedule, self._every = schedule, validate_every
        self._steps: dict[Stage, deque[float]] = defaultdict(_recent)
        self._validations = _recent()

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Measure the step of this number, from 0."""
        begun = time.monotonic()
        yield
        stage = self._schedule.stage(number)[1]
        self._steps[stage].append(time.monotonic() - begun)

    @contextmanager
    def validation(self) -> Iterator[None]:
        """Measure a validation."""
        begun = time.monotonic()
        yield
        self._validations.append(time.monotonic() - begun)

    def seconds(self, done: int) -> float:
        """Return the remaining seconds after so many steps."""
        first, latest, left = 0, 0.0, 0.0
        frozen = False  # the encoder of the stage that ``latest`` is of
        for stage in self._schedule.recipe.stages:
            end = first + stage.steps
            if stage in self._steps:
                latest, frozen = median(self._steps[stage]), stage.frozen_encoder
            elif frozen and not stage.frozen_encoder:
                latest, frozen = latest * THAWED_COST, False
            left += latest * max(0, end - max(first, done))
            first = end
        validations = validation_count(first, self._every) - done // self._every
        return left + validations * median(self._validations or [0.0])


def validation_count(steps: int, every: int) -> int:
    """Return the number of validations of a training, without its initial weights."""
    return -(-steps // every)


def _recent() -> deque[float]:
    return deque(maxlen=RECENT)
