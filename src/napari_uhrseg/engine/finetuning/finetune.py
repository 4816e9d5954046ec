"""Fine-tuning of a checkpoint on user corrections: ``fine_tune()``.

::

    corrections -> regions -> windows of this model       yields DatasetReady
    steps that are measured on a copy                     yields Progress(0, ...)
    accuracy of the original model on the corrections     -> distillation weight
    the original model on the validation regions          yields Validated(0, ...)
    steps: loss on corrected pixels, distillation of the  yields Progress, StepLogged,
    original model's predictions elsewhere                Validated, Saved
    comparison with the original model                    yields FineTuneFinished

On the CPU in float32 with the same number of threads, the weights are the same bit for
bit after any number of interruptions. The card's ``command`` ends with a hash of
everything that determines the weights.
"""

import copy
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

from napari_uhrseg.engine.cancellation import Cancelled, Stop, interruptible
from napari_uhrseg.engine.data.corrected_images import Images, Stores
from napari_uhrseg.engine.events import (
    DatasetReady,
    FineTuneFinished,
    Progress,
    TrainEvent,
    Validated,
)
from napari_uhrseg.engine.finetuning.correction_collection import CorrectionSource
from napari_uhrseg.engine.finetuning.correction_dataset import CorrectionDataset
from napari_uhrseg.engine.finetuning.model_selection import (
    comparison_text,
    network_text,
)
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.pixel_training import (
    fit_corrections,
    score_classifier,
)
from napari_uhrseg.engine.finetuning.settings_to_job import make_job
from napari_uhrseg.engine.finetuning.training_summary import (
    build_dataset,
    summarize,
)
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.training.job import Metrics
from napari_uhrseg.engine.training.time_estimate import estimate_seconds
from napari_uhrseg.engine.training.trainer import Trainer
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.models.base import PixelSegmenter
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, Checkpoint
from napari_uhrseg.types import FineTuneSettings, TrainingSummary

__all__ = [
    "FineTuneSettings",
    "TrainingSummary",
    "fine_tune",
    "new_checkpoint",
    "plan_fine_tuning",
    "summarize_corrections",
]


def summarize_corrections(
    image: Images,
    checkpoint: Checkpoint,
    store: Stores,
    settings: FineTuneSettings | None = None,
) -> TrainingSummary:
    """Summarise the training data of `fine_tune`; no network is run.

    Parameters
    ----------
    image
        The image that was corrected, or several.
    checkpoint
        The checkpoint to fine-tune.
    store
        The labels with the corrections, one for each image.
    settings
        Only ``regions`` and ``compares`` are used; ``None``: the defaults.

    Returns
    -------
    TrainingSummary
        Numbers of windows and regions, and warnings.

    Raises
    ------
    TrainingError
        If nothing is corrected, or the store belongs to another image.
    """
    chosen = settings or FineTuneSettings()
    return summarize(
        build_dataset(
            image, checkpoint, store, chosen.regions, compares=chosen.compares
        )
    )


def plan_fine_tuning(
    image: Images,
    checkpoint: Checkpoint,
    store: Stores,
    settings: FineTuneSettings | None = None,
    budget: MemoryBudget | None = None,
    stop: Stop | None = None,
) -> Iterator[TrainEvent]:
    """Yield the training data, memory and time of a fine-tuning; write nothing.

    Parameters
    ----------
    image, checkpoint, store, settings, budget, stop
        As for `fine_tune`.

    Yields
    ------
    TrainEvent
        ``DatasetReady``; unless the model is a pixel classifier, which is trained
        within seconds, ``MemoryPlanned`` and ``Progress`` with the seconds of the
        training.

    Raises
    ------
    UhrSegError
        As `fine_tune` does.
    """
    settings = settings or FineTuneSettings()
    source = build_dataset(
        image, checkpoint, store, settings.regions, compares=settings.compares
    )
    yield DatasetReady(summarize(source))
    if isinstance(checkpoint.model, PixelSegmenter):
        return
    if settings.distillation_weight is None:  # its choice takes time
        settings = replace(settings, distillation_weight=1.0)
    output = Path(f"{checkpoint.card.name or checkpoint.card.model}.safetensors")
    try:
        job = make_job(source, checkpoint, output, settings, budget, stop)
        trainer = Trainer(job, output)
        yield trainer.memory_planned
        with interruptible(job.model, stop):
            seconds = estimate_seconds(job, output)
        yield Progress(0, trainer.total, seconds)
    except Cancelled:
        return
    finally:
        checkpoint.model.to("cpu")


def fine_tune(
    image: Images,
    checkpoint: Checkpoint,
    store: Stores,
    output: Path | str,
    settings: FineTuneSettings | None = None,
    budget: MemoryBudget | None = None,
    stop: Stop | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[TrainEvent]:
    """Fine-tune a checkpoint on the corrections of a store; write a new checkpoint.

    Parameters
    ----------
    image, checkpoint, store
        The corrected image, or several; the checkpoint, which is not modified; the open
        labels of each image. Of three corrected images or more, some are held out.
    output
        Path of the checkpoint. It is not written if every validated step is worse.
    settings, budget, stop
        Hyperparameters (``None``: all automatic); the device and memory budget; polled
        between layers, True ends the run like a closed generator.
    resume, overwrite
        Continue an unfinished run from ``<output>.state``; replace a checkpoint.

    Yields
    ------
    TrainEvent
        ``DatasetReady``, ``MemoryPlanned``, ``Progress`` with the expected seconds,
        those of ``train()`` or `fit_corrections`, and ``FineTuneFinished``.

    Raises
    ------
    TrainingError
        If nothing is corrected, a setting is invalid, or the output must stay.
    DeviceError
        If the device is missing or its memory is too small for two samples.
    """
    settings, output = settings or FineTuneSettings(), _checked(output, checkpoint)
    source = build_dataset(
        image, checkpoint, store, settings.regions, compares=settings.compares
    )
    yield DatasetReady(summary := summarize(source))
    try:
        if isinstance(checkpoint.model, PixelSegmenter):
            yield from fit_corrections(
                source, summary, checkpoint, output, stop=stop, overwrite=overwrite
            )
            return
        rival = yield from _scored_rival(checkpoint, source, stop)
        job = make_job(source, checkpoint, output, settings, budget, stop)
        trainer = Trainer(job.with_policy(keep_state=resume), output)
        trainer.prepare(resume, overwrite)
        yield from _trained(trainer, summary, rival, stop)
    except Cancelled:
        return
    finally:
        checkpoint.model.to("cpu")  # the run has its own copy on the device


def _finished(
    trainer: Trainer, summary: TrainingSummary, rival: Metrics
) -> FineTuneFinished:
    before, after = rival or trainer.before, trainer.after
    describe = network_text if rival else comparison_text
    text = describe(summary, before, after)
    return FineTuneFinished(before, after, text, trainer.output, trainer.saved)


def _scored_rival(
    checkpoint: Checkpoint, source: CorrectionSource, stop: Stop | None
) -> Generator[TrainEvent, None, Metrics]:
    """Return the scores of a pixel classifier for comparison with a new network.

    They are empty for a trained checkpoint, without validation regions, and for
    several images.
    """
    rival: Metrics = {}
    is_new = checkpoint.hash == UNSAVED_HASH
    if isinstance(source, CorrectionDataset) and is_new and source.has_validation:
        for event in score_classifier(source.scene.image, source, stop):
            rival = event.metrics if isinstance(event, Validated) else rival
            yield event
    return rival


def _trained(
    trainer: Trainer, summary: TrainingSummary, rival: Metrics, stop: Stop | None
) -> Iterator[TrainEvent]:
    """Train to the end, or until ``stop()`` returns True; yield the events.

    ``rival`` are the metrics of a pixel classifier; empty: there is none.
    """
    yield trainer.memory_planned
    if not trainer.step:
        job = replace(trainer.job, model=copy.deepcopy(trainer.model))
        with interruptible(job.model, stop):
            seconds = estimate_seconds(job, trainer.output)
        del job  # free its weights
        yield Progress(0, trainer.total, seconds)
    try:
        yield from trainer.run(stop)
    finally:
        trainer.close()
    if trainer.finished:
        yield _finished(trainer, summary, rival)


def _checked(output: Path | str, checkpoint: Checkpoint) -> Path:
    """Return the path. Raises TrainingError if it is that of the checkpoint."""
    path = Path(output)
    if checkpoint.hash == UNSAVED_HASH or not path.exists():
        return path
    if checkpoint.path.exists() and path.samefile(checkpoint.path):
        raise TrainingError(
            f"{path} is the checkpoint to fine-tune, which must not be replaced.",
            "Choose another output.",
        )
    return path
