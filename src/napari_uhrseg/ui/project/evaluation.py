"""Evaluation of a checkpoint on the corrections of images of a project, in a worker."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uhrseg.errors import TrainingError, UhrSegError
from napari_uhrseg.io.project.project_labels import ProjectLabels
from napari_uhrseg.types import SegmentSettings
from napari_uhrseg.ui.segment.worker import budget_of, checkpoint_of, free_threads
from napari_uhrseg.ui.workers.import_torch import load_torch
from napari_uhrseg.units import counted

if TYPE_CHECKING:
    from napari_uhrseg.engine.evaluation.metrics import Scores
    from napari_uhrseg.io.project.project import ProjectImage


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Evaluation that the window describes.

    Parameters
    ----------
    labels
        The images with corrections.
    checkpoint
        Checkpoint file.
    device, budget_bytes
        Device id, and its memory budget in bytes.
    chosen
        True if the user chose the images. Otherwise, images on which the checkpoint
        was trained are left out.
    """

    labels: ProjectLabels
    checkpoint: Path
    device: str
    budget_bytes: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class ImageScores:
    """Event: the evaluation of an image ended.

    Attributes
    ----------
    name
        Name of the image.
    scores
        Its scores. None: it failed.
    error
        Reason of a failure.
    trained_on
        True if the checkpoint was trained on the image.
    """

    name: str
    scores: "Scores | None"
    error: str = ""
    trained_on: bool = False


def evaluate_images(
    wanted: Evaluation, stop: Callable[[], bool]
) -> Iterator[ImageScores | float]:
    """Segment images and compare with their corrections; write nothing.

    Parameters
    ----------
    wanted
        The evaluation.
    stop
        Function that returns True when it is cancelled; polled after each batch.

    Yields
    ------
    ImageScores or float
        The scores of each image, and the finished share of all, 0 to 1.

    Raises
    ------
    TrainingError
        If the checkpoint was trained on all images.
    """
    load_torch()
    from napari_uhrseg.engine.network.device import cpu_threads

    checkpoint = checkpoint_of(wanted.checkpoint)
    used = names_in(checkpoint.card.trained_on)
    images = [i for i in wanted.labels.images if wanted.chosen or i.name not in used]
    if not images:
        count = counted(len(wanted.labels.images), "corrected image")
        raise TrainingError(
            f"The checkpoint was trained on {count} of the project, and there is no "
            "other one.",
            "Correct further images. To evaluate on these images nevertheless, choose "
            "several of them in the list.",
        )
    with cpu_threads(free_threads()):
        for number, image in enumerate(images):
            for event in _evaluated(wanted, image, image.name in used):
                if stop():
                    return
                if isinstance(event, ImageScores):
                    yield event
                else:
                    yield (number + event) / len(images)


def _evaluated(
    wanted: Evaluation, image: "ProjectImage", trained_on: bool
) -> Iterator[ImageScores | float]:
    """Yield the finished shares of an image, and its scores or its error."""
    from napari_uhrseg.engine.evaluation.evaluate import evaluation_steps
    from napari_uhrseg.engine.finetuning.correction_truth import correction_truth

    checkpoint = checkpoint_of(wanted.checkpoint)
    settings = SegmentSettings(wanted.device, threads=free_threads())
    budget = budget_of(wanted.device, wanted.budget_bytes)
    try:
        with ExitStack() as stack:
            picture, store = wanted.labels.open(image, stack)
            truth = correction_truth(store, checkpoint)
            scores = yield from evaluation_steps(
                picture, truth, checkpoint, settings, budget, truth.merged
            )
    except UhrSegError as error:
        yield ImageScores(image.name, None, str(error), trained_on)
        return
    yield ImageScores(image.name, scores, "", trained_on)


def names_in(trained_on: str) -> frozenset[str]:
    """Return the names of images in the text on a card about the training data."""
    return frozenset(re.split(r"; |, |: | in ", trained_on))
