"""``train()``: a network learns from labelled scenes, by its own loss and recipe."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from napari_uhrseg.engine.data.scenes import Dataset, SceneDataset
from napari_uhrseg.engine.evaluation.evaluate import label_scene
from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix
from napari_uhrseg.engine.events import TrainEvent
from napari_uhrseg.engine.inference.label_windows import TilingSettings
from napari_uhrseg.engine.network.device import (
    MemoryBudget,
    find_device,
    free_memory,
    training_precision,
)
from napari_uhrseg.engine.training.schedule import CardMetadata, Schedule, TrainSettings
from napari_uhrseg.engine.training.step_memory import plan_step_memory
from napari_uhrseg.engine.training.trainer import Metrics, Trainer, TrainingJob
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, InputSpec, Legend

__all__ = ["CardMetadata", "TrainSettings", "train"]

DEFAULT_MEMORY_FRACTION = 0.9  # of a device's free memory, where no budget is given


def train(
    source: SceneDataset,
    output: Path | str,
    settings: TrainSettings,
    budget: MemoryBudget | None = None,
    *,
    resume: bool = True,
    overwrite: bool = False,
) -> Iterator[TrainEvent]:
    """Train, keep the best checkpoint, and yield events as it goes.

    Parameters
    ----------
    source
        What to learn from. With no held-out scene the last checkpoint is kept.
    output
        The checkpoint to write; ``<output>.state`` lies beside it until the end.
    budget
        Of the device that learns; by default nearly all that is free on it.
    resume
        Go on from the state file if there is one; else start anew.
    overwrite
        Replace a finished checkpoint that is there.

    Yields
    ------
    TrainEvent
        ``MemoryPlanned``; ``Progress`` each step and each batch of a validation,
        ``StepLogged`` every ``log_every`` steps, ``Validated``, ``Saved``. ``close()``
        stops there and keeps the state.

    Raises
    ------
    TrainingError
        The output exists, the state is of another training, a number of the
        settings cannot be, or the loss is not finite.
    CheckpointError
        The model cannot be built.
    DeviceError
        The device is missing or its memory too small for two samples.
    """
    output = Path(output)
    trainer = Trainer(_training_job(source, output, settings, budget), output)
    trainer.prepare(resume, overwrite)
    yield trainer.fitted
    try:
        yield from trainer.run()
    finally:
        trainer.close()


def _training_job(
    source: SceneDataset,
    output: Path,
    settings: TrainSettings,
    budget: MemoryBudget | None,
) -> TrainingJob:
    found = find_device(budget.device if budget else settings.device)
    precision = training_precision(settings.precision, found)
    device = torch.device(found.id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        extra = {"pretrained": True} if settings.pretrained else {}
        model = build(settings.model, {**settings.arguments, **extra}, source.legend)
    model.spec = replace(
        model.spec,
        value_range=settings.value_range or model.spec.value_range,
        pixel_size=settings.pixel_size,
    )
    fitted = source.fitted(model.spec)
    declared = model.spec  # what the card says, whatever this data is learnt from by
    model.spec = replace(declared, window=fitted.crop_size(declared))
    recipe = settings.recipe(model.recipe)
    limit = budget or replace(
        MemoryBudget.default(found.id),
        device_bytes=int(DEFAULT_MEMORY_FRACTION * free_memory(found)),
    )
    if budget is not None and found.id == "cpu":  # else what is free leaves them out
        limit = replace(budget, device_bytes=budget.device_bytes - source.cached_bytes)
    size, fit = plan_step_memory(model, recipe, limit)
    schedule = Schedule(replace(recipe, batch_size=size))
    how = TilingSettings.of(model.spec, fit.micro_batch_size, device, precision)
    return TrainingJob(
        model=model,
        schedule=schedule,
        source=fitted,
        validate_fn=partial(_score, fitted, how) if fitted.held_out else None,
        card=partial(_card, settings, output, fitted.legend, declared),
        identity=[
            *_identity(settings, fitted),
            *([fit.micro_batch_size] if fit.micro_batch_size < size else []),
        ],
        seed=settings.seed,
        device=device,
        precision=precision,
        fit=fit,
        validate_every=settings.validate_every or max(50, schedule.total // 10),
        log_every=settings.log_every,
    )


def _score(
    source: Dataset, how: TilingSettings, model: Segmenter
) -> Iterator[Metrics | None]:
    """The held-out scenes labelled and compared."""
    counter = ConfusionMatrix([c.name for c in source.legend])
    for scene in source.held_out:
        for roi, labels in label_scene(model, scene, how):
            if labels is not None:
                counter.add(labels, scene.labels(roi))
            yield None
    yield counter.scores().to_dict()


def _card(
    settings: TrainSettings,
    output: Path,
    legend: Legend,
    spec: InputSpec,
    metrics: Metrics,
) -> Card:
    text = settings.card
    return Card(
        model=settings.model,
        arguments=dict(settings.arguments),
        legend=legend,
        spec=spec,
        name=text.name or output.stem,
        source=text.source,
        licence=text.licence,
        citation=text.citation,
        trained_on=text.trained_on,
        command=text.command,
        metrics=metrics,
    )


def _identity(settings: TrainSettings, source: Dataset) -> list[object]:
    """Of everything that decides which weights come out."""
    said = asdict(settings)
    for free in ("card", "log_every", "validate_every"):
        del said[free]
    return [said, asdict(source.legend), source.balance]
