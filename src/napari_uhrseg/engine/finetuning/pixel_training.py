"""Training of a pixel classifier from the corrections of a store."""

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_uhrseg.engine.cancellation import Cancelled, Stop
from napari_uhrseg.engine.data.correction_sites import Ints
from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix
from napari_uhrseg.engine.events import (
    FineTuneFinished,
    Progress,
    Saved,
    TrainEvent,
    Validated,
)
from napari_uhrseg.engine.finetuning.correction_collection import CorrectionSource
from napari_uhrseg.engine.finetuning.correction_dataset import CorrectionDataset
from napari_uhrseg.engine.finetuning.model_selection import (
    MAX_SCORED_WINDOWS,
    class_ious,
    comparison_text,
    some_windows,
)
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.pixel_trainer import (
    POINTS_PER_CLASS,
    PixelTrainer,
    balanced,
    run_pixels,
    trainer_of,
)
from napari_uhrseg.engine.finetuning.settings_to_job import (
    extended_model,
    fine_tuned_card,
)
from napari_uhrseg.engine.finetuning.training_summary import build_dataset, summarize
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.base import PixelSegmenter
from napari_uhrseg.models.checkpoint import (
    UNSAVED_HASH,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_uhrseg.models.registry import LIVE_MODEL
from napari_uhrseg.types import HELD_OUT, IGNORED, Roi, TrainingSummary

Pixels = tuple[Tensor, Ints]


def fit_corrections(
    source: CorrectionSource,
    summary: TrainingSummary,
    checkpoint: Checkpoint,
    output: Path,
    *,
    stop: Stop | None = None,
    overwrite: bool = False,
) -> Iterator[TrainEvent]:
    """Train a pixel classifier on corrections, and write the checkpoint.

    Parameters
    ----------
    source, summary
        The corrections, and their summary.
    checkpoint
        The checkpoint to start from; it is not changed.
    output
        Path of the checkpoint to write.
    stop
        Polled between windows. If it returns True, nothing is written.
    overwrite
        If True, replace an existing checkpoint.

    Yields
    ------
    TrainEvent
        ``Progress`` for each window, ``Validated`` before and after (if there are
        validation regions), ``Saved`` and ``FineTuneFinished``.

    Raises
    ------
    TrainingError
        If the output exists.
    Cancelled
        If ``stop`` returned True.
    """
    if output.exists() and not overwrite:
        raise TrainingError(
            f"{output} exists.", "Choose another name, or allow it to be overwritten."
        )
    new = checkpoint.hash == UNSAVED_HASH
    model, _ = extended_model(checkpoint.model, checkpoint.card, source)
    assert isinstance(model, PixelSegmenter)

    def trainer(part: CorrectionDataset) -> PixelTrainer:
        return PixelTrainer(part.scene, model.eval(), starts=new)

    (features, channel), held = yield from _features(source, trainer, stop)
    if before := _scores(model, source, held):
        yield Validated(0, before, best=False)
    trainer(source.parts[-1]).fit_features(features, channel)
    if after := _scores(model, source, held):
        yield Validated(1, after, best=True)
    command = f"pixel classifier of {len(channel):,} painted pixels"
    card = fine_tuned_card(checkpoint, source, output, command, after)
    save_checkpoint(output, model, card)
    yield Saved(output, 1)
    text = comparison_text(summary, before, after)
    yield FineTuneFinished(before, after, text, output)


def _features(
    source: CorrectionSource,
    make: Callable[[CorrectionDataset], PixelTrainer],
    stop: Stop | None,
) -> Generator[Progress, None, tuple[Pixels, Pixels | None]]:
    """Compute the features of painted pixels, one image after another.

    Parameters
    ----------
    source
        The corrections.
    make
        Function that returns the trainer of an image.
    stop
        Polled between windows.

    Returns
    -------
    Features and channels of the training pixels, and of the validation pixels if there
    are any.
    """
    most = max(1, POINTS_PER_CLASS // len(source.parts))
    trained, tested = list[Pixels](), list[Pixels]()
    for part in source.parts:
        trainer = make(part)
        at, channel = balanced(*run_pixels(part.training, part.scene), most)
        other, truth = balanced(*run_pixels(part.tested, part.scene), most)
        yield from _gathered(trainer, np.concatenate([at, other]), stop)
        if len(at):
            trained.append((trainer.gather(at), channel))
        if len(other):
            tested.append((trainer.gather(other), truth))
    return _joined(trained), _joined(tested) if tested else None


def _gathered(trainer: PixelTrainer, at: Ints, stop: Stop | None) -> Iterator[Progress]:
    for done, total in trainer.gathering(at):
        if stop is not None and stop():
            raise Cancelled
        yield Progress(done, total, None)


def score_classifier(
    image: Image, source: CorrectionDataset, stop: Stop | None = None
) -> Iterator[TrainEvent]:
    """Train a new pixel classifier on the training regions, and score it on the others.

    Parameters
    ----------
    image
        The image that was corrected.
    source
        Corrections of the image for another new model, with validation regions.
    stop
        Polled between windows. If it returns True, the work ends.

    Yields
    ------
    TrainEvent
        ``Progress`` for each window; ``Validated``.

    Raises
    ------
    Cancelled
        If ``stop`` returned True.
    """
    new = new_checkpoint(LIVE_MODEL, None, source.legend, image)
    trainer = trainer_of(image, new)
    at, channel = balanced(*run_pixels(source.training, trainer.scene))
    yield from _gathered(trainer, at, stop)
    trainer.fit(at, channel)
    counter = ConfusionMatrix([c.name for c in source.legend])
    windows = some_windows(source.held_out_windows, MAX_SCORED_WINDOWS)
    for done, window in enumerate(windows, 1):
        if stop is not None and stop():
            raise Cancelled
        part = window.intersect(Roi(0, 0, *trainer.scene.shape))
        labels, _ = trainer.predict(part)
        truth = source.held_scene.labels(part)
        counter.add(source.merged[labels], np.where(truth == HELD_OUT, IGNORED, truth))
        yield Progress(done, len(windows), None)
    yield Validated(0, class_ious(counter.scores()), best=False)


def train_pixel_classifier(
    image: Image,
    store: LabelStore,
    output: Path | str,
    *,
    regions: tuple[Roi, ...] | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Train a new pixel classifier on the corrections of a store, and return it.

    Parameters
    ----------
    image
        The image that was corrected.
    store
        The labels with the corrections.
    output
        Path of the checkpoint to write.
    regions
        Level-0 rectangles to train on; ``None``: every correction.
    overwrite
        If True, replace an existing checkpoint.

    Raises
    ------
    TrainingError
        If nothing is corrected, or the output exists.
    """
    new = new_checkpoint(LIVE_MODEL, None, store.legend, image)
    source = build_dataset(image, new, store, regions)
    path = Path(output)
    for _ in fit_corrections(source, summarize(source), new, path, overwrite=overwrite):
        pass
    return load_checkpoint(path)


def _joined(parts: Sequence[Pixels]) -> Pixels:
    """Return the features and channels of all images."""
    return torch.cat([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _scores(
    model: PixelSegmenter,
    source: CorrectionSource,
    tested: Pixels | None,
) -> dict[str, float]:
    """Return the metrics of the classifier on pixels; none without pixels."""
    if tested is None:
        return {}
    mean, scale = model.statistics()
    features = (tested[0] - mean) / scale
    with torch.inference_mode():
        found = (features @ model.weights().T + model.bias).argmax(1).numpy()
    counter = ConfusionMatrix([c.name for c in source.legend])
    merged: npt.NDArray[np.uint8] = source.merged
    labels = merged[found] if len(merged) > found.max(initial=0) else found
    counter.add(labels.astype(np.uint8), tested[1].astype(np.uint8))
    return counter.scores().to_dict()
