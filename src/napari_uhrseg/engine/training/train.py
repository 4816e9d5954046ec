"""Training of a network on labelled scenes: ``train()``."""

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from napari_uhrseg.engine.data.augmentation import find_augmentations
from napari_uhrseg.engine.data.class_coverage import check_classes
from napari_uhrseg.engine.data.scenes import Dataset, Scene, SceneDataset
from napari_uhrseg.engine.evaluation.evaluate import label_scene
from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix
from napari_uhrseg.engine.events import Progress, TrainEvent, TrainingPlanned
from napari_uhrseg.engine.inference.label_windows import TilingSettings
from napari_uhrseg.engine.network.device import (
    MemoryBudget,
    find_device,
    free_memory,
    training_precision,
)
from napari_uhrseg.engine.training.initial_weights import (
    EncoderStart,
    InitialNetwork,
    initial_network,
)
from napari_uhrseg.engine.training.job import (
    Compute,
    Metrics,
    TrainingJob,
    TrainingPolicy,
)
from napari_uhrseg.engine.training.losses import find_loss
from napari_uhrseg.engine.training.schedule import CardMetadata, Schedule, TrainSettings
from napari_uhrseg.engine.training.step_memory import plan_step_memory
from napari_uhrseg.engine.training.time_estimate import estimate_seconds
from napari_uhrseg.engine.training.trainer import Trainer
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.types import Card, InputSpec, Legend

__all__ = ["CardMetadata", "TrainSettings", "plan_training", "train"]

DEFAULT_MEMORY_FRACTION = 0.9  # of a device's free memory, without a budget


def train(
    source: SceneDataset,
    output: Path | str,
    settings: TrainSettings,
    budget: MemoryBudget | None = None,
    *,
    resume: bool = True,
    overwrite: bool = False,
) -> Iterator[TrainEvent]:
    """Train a network on labelled scenes; write the best checkpoint; yield events.

    Parameters
    ----------
    source
        Training and validation scenes. Without validation scenes, the last weights are
        saved.
    output
        Path of the checkpoint to write. ``<output>.state`` exists until the training
        is finished.
    settings
        Model and hyperparameters.
    budget
        Device and memory budget; ``None``: the device of the settings and 90 % of its
        free memory.
    resume
        If True, continue from the state file if it exists.
    overwrite
        If True, replace an existing checkpoint.

    Yields
    ------
    TrainEvent
        ``TrainingPlanned``; ``MemoryPlanned``; ``Progress`` for each step and each
        batch of a validation; ``StepLogged`` every ``log_every`` steps; ``Validated``;
        ``Saved``. ``close()`` stops the training and keeps the state file.

    Raises
    ------
    TrainingError
        If the output exists, the state file belongs to another training, a setting is
        out of range, the training scenes have labels of fewer than two classes, or
        the loss is not finite.
    CheckpointError
        If the model cannot be built.
    DeviceError
        If the device is missing or its memory is too small for two samples.
    """
    warnings = (*source.warnings, *check_classes(source))
    output = Path(output)
    start = _initial_network(settings, source.legend)
    job = _training_job(source, output, settings, budget, start)
    trainer = Trainer(job, output)
    trainer.prepare(resume, overwrite)
    yield _planned(trainer, warnings, start)
    yield trainer.memory_planned
    try:
        yield from trainer.run()
    finally:
        trainer.close()


def plan_training(
    source: SceneDataset,
    output: Path | str,
    settings: TrainSettings,
    budget: MemoryBudget | None = None,
) -> Iterator[TrainEvent]:
    """Yield the plan of a training and its time; write nothing.

    The time contains validation and saving, see `estimate_seconds`.

    Parameters
    ----------
    source, output, settings, budget
        As for `train`.

    Yields
    ------
    TrainEvent
        ``TrainingPlanned``; ``MemoryPlanned``; ``Progress`` with the seconds of the
        training.

    Raises
    ------
    UhrSegError
        As `train` does.
    """
    warnings = (*source.warnings, *check_classes(source))
    start = _initial_network(settings, source.legend)
    job = _training_job(source, Path(output), settings, budget, start)
    trainer = Trainer(job, Path(output))
    yield _planned(trainer, warnings, start)
    yield trainer.memory_planned
    yield Progress(0, trainer.total, estimate_seconds(job, Path(output)))


def _planned(
    trainer: Trainer, warnings: tuple[str, ...], start: InitialNetwork
) -> TrainingPlanned:
    source = trainer.job.source
    assert isinstance(source, SceneDataset)
    return TrainingPlanned(
        training=tuple(s.name for s in source.training),
        validation=tuple(s.name for s in source.held_out),
        classes=tuple(c.name for c in source.legend),
        steps=trainer.total,
        device=str(trainer.job.compute.device),
        precision=trainer.job.compute.precision,
        warnings=(*warnings, *start.warnings),
        encoder_weights=start.encoder_weights,
    )


def _training_job(
    source: SceneDataset,
    output: Path,
    settings: TrainSettings,
    budget: MemoryBudget | None,
    start: InitialNetwork,
) -> TrainingJob:
    found = find_device(budget.device if budget else settings.device)
    precision = training_precision(settings.precision, found)
    model = start.model
    model.spec = _stated(model.spec, settings)
    fitted = source.fitted(model.spec)
    declared = model.spec  # for the card; training windows may be smaller
    model.spec = replace(declared, window=fitted.crop_size(declared))
    recipe = settings.recipe(model.recipe)
    settings = replace(settings, augmentations=recipe.augmentations)
    limit = budget or replace(
        MemoryBudget.default(found.id),
        device_bytes=int(DEFAULT_MEMORY_FRACTION * free_memory(found)),
    )
    if budget is not None and found.id == "cpu":  # free memory excludes them already
        limit = replace(budget, device_bytes=budget.device_bytes - source.cached_bytes)
    size, memory = plan_step_memory(model, recipe, limit)
    schedule = Schedule(replace(recipe, batch_size=size))
    compute = Compute(torch.device(found.id), precision, memory)
    cover = TilingSettings.of(
        model.spec, memory.micro_batch_size, compute.device, precision
    )
    policy = TrainingPolicy.from_scratch(
        validate_fn=partial(_validate, fitted, cover) if fitted.held_out else None,
        validate_every=settings.validate_every or max(50, schedule.total // 10),
        validation_windows=sum(_windows(s, model.spec) for s in fitted.held_out),
        log_every=settings.log_every,
        save_interval_s=settings.limits.state_interval_s,
        loss_fn=find_loss(settings.loss),
        augmentations=find_augmentations(recipe.augmentations),
    )
    return TrainingJob(
        model=model,
        source=fitted,
        schedule=schedule,
        compute=compute,
        policy=policy,
        seed=settings.seed,
        card=partial(_card, settings, output, fitted.legend, declared, start),
        identity=[*_identity(settings, fitted, start), *memory.identity(size)],
    )


def _stated(spec: InputSpec, settings: TrainSettings) -> InputSpec:
    """Return the inputs of a model with the pixel size and values of the settings."""
    values = settings.value_range or spec.value_range
    try:
        return replace(spec, pixel_size=settings.pixel_size, value_range=values)
    except ValueError as error:
        raise TrainingError(
            f"The training is not possible: {error}.",
            f"Give two numbers, or {2 * spec.channels}: two for each band.",
        ) from error


def _initial_network(settings: TrainSettings, legend: Legend) -> InitialNetwork:
    """Return the untrained network."""
    weights = EncoderStart(
        settings.pretrained,
        settings.encoder_weights,
        falls_back=True,
        download_s=settings.limits.download_s,
    )
    arguments = settings.arguments
    return initial_network(settings.model, arguments, legend, weights, settings.seed)


def _windows(scene: Scene, spec: InputSpec) -> float:
    """Return the windows that cover a scene; those of frames are an estimate."""
    overlap = 0 if spec.frame else spec.window_overlap
    return math.prod(side / (spec.window - overlap) for side in scene.shape)


def _validate(
    source: Dataset, cover: TilingSettings, model: Segmenter
) -> Iterator[Metrics | None]:
    """Label the validation scenes and compare them with their ground truth."""
    counter = ConfusionMatrix([c.name for c in source.legend])
    for scene in source.held_out:
        for roi, labels in label_scene(model, scene, cover):
            if labels is not None:
                counter.add(labels, scene.labels(roi))
            yield None
    yield counter.scores().to_dict()


def _card(
    settings: TrainSettings,
    output: Path,
    legend: Legend,
    spec: InputSpec,
    start: InitialNetwork,
    metrics: Metrics,
) -> Card:
    text = settings.card
    return Card(
        model=settings.model,
        arguments=dict(start.arguments),
        legend=legend,
        spec=spec,
        name=text.name or output.stem,
        source=text.source,
        licence=text.licence,
        citation=text.citation,
        trained_on=text.trained_on,
        command=text.command,
        metrics=metrics,
        encoder_weights=start.encoder_weights,
        augmentations=", ".join(settings.augmentations or ()),
    )


def _identity(
    settings: TrainSettings, source: SceneDataset, start: InitialNetwork
) -> list[object]:
    """Return everything that determines the weights, with loss and augmentations."""
    chosen = asdict(settings)
    for irrelevant in ("card", "limits", "log_every", "validate_every"):
        del chosen[irrelevant]
    del chosen["pretrained"]
    if settings.value_range is None:  # as before there was this setting
        del chosen["value_range"]
    chosen["arguments"] = dict(start.arguments)
    chosen["encoder_weights"] = start.encoder_weights
    return [chosen, asdict(source.legend), dict(source.sampling)]
