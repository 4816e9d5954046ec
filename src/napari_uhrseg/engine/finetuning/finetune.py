"""``fine_tune()``: a checkpoint learns from what a person corrected.

::

    corrections -> places -> windows of this model        yields DatasetReady
    what it has right of the corrections                  -> weight of its old answers
    the checkpoint on the held-out places                 yields Validated(0, ...)
    steps: corrected pixels teach; where nothing was      yields Progress, StepLogged,
    corrected, there and elsewhere, the old answer        Validated, Saved
    is held
    what came out against the checkpoint                  yields FineTuneFinished
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from napari_uhrseg.engine.cancellation import Cancelled, Stop, interruptible
from napari_uhrseg.engine.events import DatasetReady, FineTuneFinished, TrainEvent
from napari_uhrseg.engine.finetuning.correction_dataset import CorrectionDataset
from napari_uhrseg.engine.finetuning.distillation import (
    WISE_FT_ALPHA,
    DistillationLoss,
    distillation_weight,
)
from napari_uhrseg.engine.finetuning.model_selection import (
    MIN_GAIN_KEPT,
    MIN_WINDOWS_TO_SELECT,
    Validator,
    comparison_text,
)
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.training_summary import build_dataset, summarize
from napari_uhrseg.engine.network.device import (
    MemoryBudget,
    find_device,
    training_precision,
)
from napari_uhrseg.engine.training.schedule import Schedule
from napari_uhrseg.engine.training.step_memory import plan_step_memory
from napari_uhrseg.engine.training.trainer import (
    Metrics,
    Trainer,
    TrainingJob,
    default_loss,
    unchanged,
)
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.add_classes import head_parameters, with_more_classes
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, Checkpoint
from napari_uhrseg.types import Card, FineTuneSettings, Recipe, Stage, TrainingSummary
from napari_uhrseg.types.finetuning import FIRST_STEPS, QUICK_STEPS
from napari_uhrseg.units import counted

__all__ = [
    "FineTuneSettings",
    "TrainingSummary",
    "fine_tune",
    "new_checkpoint",
    "summarize_corrections",
]

LEARNING_RATE = 5e-4
FIRST_LEARNING_RATE = 2e-3  # of a network that starts from nothing


def summarize_corrections(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    settings: FineTuneSettings | None = None,
) -> TrainingSummary:
    """What `fine_tune` would learn from; a second or so, no network is run.

    Raises
    ------
    TrainingError
        Nothing was corrected, or the store is of an image of another size.
    """
    places = settings.regions if settings else None
    return summarize(build_dataset(image, checkpoint, store, places))


def fine_tune(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    output: Path | str,
    settings: FineTuneSettings | None = None,
    budget: MemoryBudget | None = None,
    stop: Stop | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[TrainEvent]:
    """Learn from a store's corrections; a new checkpoint, the old one stays.

    Parameters
    ----------
    image, store
        The image, and its labels (reading is enough).
    checkpoint
        What it starts from: left as it is.
    output
        The checkpoint to write at each of five validations; where much is held out,
        only if it is better than all before, the one it starts from included, or at
        the end if it never is.
    settings, budget
        What the person chose; memory decides how a batch is worked.
    stop
        Asked between layers; where it is true, all ends as if closed.
    resume
        Keep ``<output>.state`` where it is not finished, and go on from it.
    overwrite
        Replace a checkpoint that is at ``output``.

    Yields
    ------
    TrainEvent
        ``DatasetReady``; ``MemoryPlanned``; ``Validated`` of step 0; then as in
        training; at last ``FineTuneFinished``. Closed early, the latest is at
        ``output``, or the best where much is held out.

    Raises
    ------
    TrainingError
        Nothing was corrected, the output exists, or a number cannot be.
    DeviceError
        The device is missing or its memory too small for two samples.

    Notes
    -----
    On the CPU in float32 and at one thread count, the weights are the same bit for
    bit, however often it was interrupted. The card's ``command`` ends with a hash of
    all that decides them.
    """
    settings, output = settings or FineTuneSettings(), Path(output)
    source = build_dataset(image, checkpoint, store, settings.regions)
    found = summarize(source)
    yield DatasetReady(found)
    try:
        job = _training_job(source, checkpoint, output, settings, budget, stop)
        trainer = Trainer(replace(job, keep_state=resume), output)
        trainer.prepare(resume, overwrite)
        yield trainer.fitted
        try:
            yield from trainer.run(stop)
        finally:
            trainer.close()
    except Cancelled:
        return
    finally:
        checkpoint.model.to("cpu")  # a run has a copy of its own on the device
    if trainer.finished:
        before, after = trainer.before, trainer.after
        yield FineTuneFinished(
            before, after, comparison_text(found, before, after), output
        )


def _training_job(
    source: CorrectionDataset,
    checkpoint: Checkpoint,
    output: Path,
    settings: FineTuneSettings,
    budget: MemoryBudget | None,
    stop: Stop | None,
) -> TrainingJob:
    found = find_device(budget.device if budget else settings.device)
    precision = training_precision(settings.precision, found)
    device = torch.device(found.id)
    old, loss_fn = checkpoint.model.to(device).eval(), default_loss
    grows = len(source.legend) > len(checkpoint.card.legend)
    model = (
        with_more_classes(old, checkpoint.card, source.legend)
        if grows
        else copy.deepcopy(old)
    )
    recipe = _recipe(model, checkpoint, settings)
    limit = budget or MemoryBudget.default(found.id)
    new = checkpoint.hash == UNSAVED_HASH
    size, fit = plan_step_memory(model, recipe, limit, None if new else old)
    recipe = replace(recipe, batch_size=size)
    schedule = Schedule(recipe)
    identity = [
        checkpoint.hash,
        asdict(recipe),
        settings.seed,
        settings.distillation_weight,
        settings.freeze_batch_norm,
        asdict(source.legend),
        source.fingerprint(),
        precision,
        WISE_FT_ALPHA,
        MIN_GAIN_KEPT,
        *([fit.micro_batch_size] if fit.micro_batch_size < size else []),
    ]
    text = json.dumps(identity, sort_keys=True).encode()
    code = hashlib.sha256(text).hexdigest()[:16]
    judge = Validator(source, old, fit.micro_batch_size, device, precision)
    if not new:
        weight = settings.distillation_weight
        if weight is None:
            with interruptible(old, stop):
                weight = distillation_weight(judge.original_accuracy)
        loss_fn = DistillationLoss(old, weight)
    return TrainingJob(
        model=model,
        schedule=schedule,
        source=source,
        validate_fn=None if new else judge.score,
        card=partial(_card, checkpoint, source, output, f"{_said(recipe)}; {code}"),
        identity=identity,
        seed=settings.seed,
        device=device,
        precision=precision,
        fit=fit,
        validate_every=max(1, schedule.total // 5),
        log_every=max(1, min(10, schedule.total // 20)),
        loss_fn=loss_fn,
        score_initial=not new,
        keep_best=len(source.held_out_windows) >= MIN_WINDOWS_TO_SELECT,
        resume_stage=not new,
        freeze_batch_norm=settings.freeze_batch_norm and not new,
        weights_to_save=unchanged if new or grows else judge.select_weights,
    )


def _recipe(
    model: Segmenter, checkpoint: Checkpoint, settings: FineTuneSettings
) -> Recipe:
    """The method's last stage with a small rate, of the parts that shall learn.

    For a network that starts from nothing all of its stages, and a larger rate.
    """
    new = checkpoint.hash == UNSAVED_HASH
    stages = model.recipe.stages if new else model.recipe.stages[-1:]
    steps = (
        settings.steps
        if settings.steps is not None
        else (FIRST_STEPS if new else QUICK_STEPS)
    )
    rate = (
        settings.learning_rate
        if settings.learning_rate is not None
        else (FIRST_LEARNING_RATE if new else LEARNING_RATE)
    )
    window = model.spec.window
    if new:
        usual = 8 if window <= 256 else 4 if window <= 512 else 2
    else:
        usual = 6 if window <= 512 else 3  # a third of them lie elsewhere
    size = settings.batch_size or usual
    keep = settings.distillation_weight or 0.0
    if min(steps, rate) <= 0 or size < 2 or keep < 0:
        raise TrainingError(
            f"{steps} steps of {size} windows at learning rate {rate:g} cannot be "
            f"trained, holding old answers with weight {keep:g}.",
            "Take a step or more, 2 windows or more, a rate above 0 and a weight of 0 "
            "or more.",
        )
    each = [s.steps / sum(s.steps for s in stages) * steps for s in stages]
    ends = [round(sum(each[: k + 1])) for k in range(len(each))]
    made = tuple(
        Stage(
            max(1, end - begin),
            rate,
            _trained(model, checkpoint.card, settings.trainable, stage.trains),
            stage.name,
        )
        for stage, begin, end in zip(stages, [0, *ends], ends, strict=False)
    )
    return Recipe(made, size, "adamw", weight_decay=0.01, schedule="cosine", clip=1.0)


def _trained(
    model: Segmenter, card: Card, which: str, stage: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of the parameters that learn; of those that the stage trains."""
    names = [n for n, _ in model.named_parameters()]
    if stage:
        names = [n for n in names if n.startswith(stage)]
    if which == "head":
        head = set(head_parameters(card))
        names = [n for n in names if n in head]
    elif which == "decoder":
        names = [n for n in names if not n.startswith(model.encoder_prefixes)]
    return tuple(names)


def _card(
    checkpoint: Checkpoint,
    source: CorrectionDataset,
    output: Path,
    said: str,
    metrics: Metrics,
) -> Card:
    old = checkpoint.card
    corrected = (
        f"{counted(source.site_count, 'place')} corrected in {source.scene.name}"
    )
    return replace(
        old,
        name=output.stem,
        legend=source.legend,
        trained_on="; then ".join(filter(None, [old.trained_on, corrected])),
        command=said,
        metrics=metrics,
        parent=checkpoint.hash or None,  # a network from nothing has none
    )


def _said(recipe: Recipe) -> str:
    steps = sum(stage.steps for stage in recipe.stages)
    return (
        f"fine-tuned: {steps} steps of {recipe.batch_size} windows at learning rate "
        f"{recipe.stages[0].learning_rate:g}"
    )
