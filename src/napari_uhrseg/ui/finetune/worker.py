"""Worker functions of fine-tuning: summarize, train, compare, save."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.notifications import show_warning

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.paths import PathOrUrl, parent_or_home, unused_path
from napari_uhrseg.io.project.project_labels import OpenedLabels, ProjectLabels
from napari_uhrseg.models.registry import DEFAULT_ENCODER, REGISTRY
from napari_uhrseg.types import Card, FineTuneSettings, Labels, Legend, Roi
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.segment.worker import budget_of, checkpoint_of, free_threads
from napari_uhrseg.ui.workers.import_torch import load_torch
from napari_uhrseg.units import counted

if TYPE_CHECKING:
    from napari_uhrseg.engine.events import FineTuneFinished, TrainEvent
    from napari_uhrseg.models.checkpoint import Checkpoint
    from napari_uhrseg.types import TrainingSummary

RANDOM_WEIGHTS = (
    "Could not download the encoder's ImageNet weights, so training starts from random "
    "weights and needs more strokes and steps. To start from ImageNet weights, cancel, "
    "and choose EfficientNet-Lite0, whose weights are part of the program, or train "
    "again when the network is available."
)


@dataclass(frozen=True, slots=True)
class NewModel:
    """Untrained model; its classes are those of the labels.

    ``compares`` is True for a network that is compared with a pixel classifier.
    """

    method: str
    encoder: str
    compares: bool = False

    @property
    def name(self) -> str:
        return f"new {REGISTRY[self.method].title}"


@dataclass(frozen=True, slots=True)
class FineTuneRequest:
    """Fine-tuning that the form describes.

    ``store`` is the folder or URL of the corrected labels. ``start`` is the file of a
    checkpoint, or a new model. ``several`` has the images of a project that are trained
    on; None: the image of the labels.
    """

    image: Image
    store: PathOrUrl
    start: Path | NewModel
    settings: FineTuneSettings
    budget_bytes: int
    several: ProjectLabels | None = None

    @property
    def subject(self) -> str:
        """Name of the image, or number of images, for users."""
        if self.several is None:
            return self.image.name
        return counted(len(self.several.images), "image")

    @property
    def compares(self) -> bool:
        return isinstance(self.start, NewModel) and self.start.compares

    def is_of(self, view: LabelsView | None) -> bool:
        """Return whether the labels of the request are those of a view."""
        return view is not None and view.store.path == self.store


@dataclass(frozen=True, slots=True)
class PredictionDifference:
    """Pixels that two checkpoints predict differently.

    ``labels`` is uint8 and has the shape of ``roi``. It contains the new checkpoint's
    class ids of ``legend`` where the predictions differ, and 0 elsewhere. ``share`` is
    the share of these pixels, 0 to 1, among those that either checkpoint labels.
    """

    roi: Roi
    labels: Labels
    legend: Legend
    share: float


@contextmanager
def opened(request: FineTuneRequest) -> Iterator[OpenedLabels]:
    """Open the images that are trained on, and their labels."""
    from napari_uhrseg.io.labels.store import LabelStore

    with ExitStack() as stack:
        if request.several is not None:
            yield request.several.open_all(stack)
        else:
            store = stack.enter_context(LabelStore.open(request.store))
            yield OpenedLabels((request.image,), (store,))


def summarize(request: FineTuneRequest) -> "TrainingSummary":
    """Summarize the training data without running the network."""
    from napari_uhrseg.engine.finetuning.finetune import summarize_corrections

    with opened(request) as data:
        found = summarize_corrections(
            data.images, started(request, data), data.stores, request.settings
        )
    left = tuple(f"{path} is left out: {why}" for path, why in data.failed.items())
    return replace(found, warnings=(*found.warnings, *left))


def started(request: FineTuneRequest, data: OpenedLabels) -> "Checkpoint":
    """Return the checkpoint of a request, or an untrained one without a download."""
    new = request.start
    if isinstance(new, Path):
        return checkpoint_of(new)
    return untrained(new, data.stores[0].legend, request.image)


def describe(summary: "TrainingSummary") -> str:
    """Describe the training data, with one line for each warning."""
    counts = (
        f"Training data: {counted(summary.windows, 'window')}, {summary.held_out} for "
        f"validation, {counted(summary.regions, 'region')}."
    )
    return "\n".join(
        [counts, *(f"⚠ {w[:1].upper()}{w[1:]}." for w in summary.warnings)]
    )


def train(
    stop: Callable[[], bool], request: FineTuneRequest, output: Path
) -> Iterator["TrainEvent"]:
    """Train with `fine_tune`, and leave one processor core to the window.

    Parameters
    ----------
    stop
        Function that returns True to stop the training early.
    request
        Data, start and settings of the training.
    output
        File of the trained checkpoint. It must not exist.

    Yields
    ------
    TrainEvent
        Events of `fine_tune`.
    """
    load_torch()
    from napari_uhrseg.engine.cancellation import Cancelled
    from napari_uhrseg.engine.finetuning.finetune import fine_tune
    from napari_uhrseg.engine.finetuning.new_model import RANDOM_INIT, new_checkpoint
    from napari_uhrseg.engine.network.device import cpu_threads

    output.parent.mkdir(parents=True, exist_ok=True)
    with opened(request) as data, cpu_threads(free_threads()):
        new = request.start
        if isinstance(new, NewModel):
            try:
                start = new_checkpoint(
                    new.method, None, data.stores[0].legend, request.image,
                    new.encoder, stop=stop,
                )  # fmt: skip
            except Cancelled:
                return
            if start.card.trained_on == RANDOM_INIT:
                show_warning(RANDOM_WEIGHTS)
        else:
            start = checkpoint_of(new)
        budget = budget_of(request.settings.device, request.budget_bytes)
        yield from fine_tune(
            data.images, start, data.stores, output, request.settings, budget, stop
        )


def best_so_far(
    output: Path, summary: "TrainingSummary", before: Mapping[str, float]
) -> "FineTuneFinished | None":
    """Return the best model of a training that ended early, if there is one.

    Parameters
    ----------
    output
        File of the trained checkpoint.
    summary
        Summary of the training data.
    before
        Validation scores of the start, 0 to 1 by name. Empty without validation.

    Returns
    -------
    FineTuneFinished or None
        Scores and file of the best model. None if no file was written.
    """
    from napari_uhrseg.engine.events import FineTuneFinished
    from napari_uhrseg.engine.finetuning.model_selection import comparison_text
    from napari_uhrseg.models.card_header import read_card

    if not output.exists():
        return None
    after = read_card(output).metrics if before else {}
    return FineTuneFinished(
        before, after, comparison_text(summary, before, after), output
    )


def compare_predictions(
    stop: Callable[[], bool],
    request: FineTuneRequest,
    roi: Roi,
    new: Path,
    legend: Legend,
) -> PredictionDifference | None:
    """Compare the predictions of two checkpoints in a rectangle.

    Parameters
    ----------
    stop
        Function that returns True to stop the comparison.
    request
        Request with the image, the original checkpoint, the device and the budget.
    roi
        Rectangle in image pixels. Only the middle of a large rectangle is compared,
        which bounds the memory.
    new
        File of the trained checkpoint.
    legend
        Legend that gives the class ids and colours. Classes that it lacks are added.

    Returns
    -------
    PredictionDifference or None
        Pixels that differ. None if the comparison was stopped.
    """
    from napari_uhrseg.engine.cancellation import Cancelled
    from napari_uhrseg.engine.inference.preview import LARGEST_SIDE

    roi = _middle(roi, LARGEST_SIDE)
    predictions = []
    for path in (request.start, new):
        if not isinstance(path, Path):  # a new model predicts no class
            predictions.append(np.zeros((roi.height, roi.width), np.uint8))
            continue
        try:
            labels, legend = _predict(stop, request, roi, path, legend)
        except Cancelled:
            return None
        predictions.append(labels)
    before, after = predictions
    differs = before != after
    labelled = int(np.count_nonzero(before | after))
    return PredictionDifference(
        roi,
        np.where(differs, after, 0).astype(np.uint8),
        legend,
        int(np.count_nonzero(differs)) / max(1, labelled),
    )


def _predict(
    stop: Callable[[], bool],
    request: FineTuneRequest,
    roi: Roi,
    path: Path,
    legend: Legend,
) -> tuple[Labels, Legend]:
    """Return predicted class ids, and the legend with the classes of the checkpoint."""
    from napari_uhrseg.engine.inference.preview import segment_region
    from napari_uhrseg.engine.inference.segment import class_map
    from napari_uhrseg.models.checkpoint import load_checkpoint
    from napari_uhrseg.types import SegmentSettings

    checkpoint = load_checkpoint(path)
    settings = SegmentSettings(request.settings.device, threads=free_threads())
    budget = budget_of(request.settings.device, request.budget_bytes)
    labels = segment_region(request.image, checkpoint, roi, settings, budget, stop)
    legend = legend.merged(checkpoint.card.legend)
    ids = np.array([0, *class_map(checkpoint.card.legend, legend)], np.uint8)
    return ids[labels], legend


def _middle(roi: Roi, side: int) -> Roi:
    height, width = min(roi.height, side), min(roi.width, side)
    y, x = roi.y + (roi.height - height) // 2, roi.x + (roi.width - width) // 2
    return Roi(y, x, height, width)


def save_as(draft: Path, target: Path) -> Path:
    """Save a draft as a checkpoint whose name is that of the target file."""
    from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint

    made = load_checkpoint(draft)
    return save_checkpoint(target, made.model, replace(made.card, name=target.stem))


@dataclass(frozen=True, slots=True)
class LabelProvenance:
    """Message on the checkpoints that made a store's labels.

    ``labelled`` is True if the store has labels.
    """

    text: str
    labelled: bool


def label_provenance(
    path: Path, store: PathOrUrl | None, folders: tuple[Path, ...]
) -> tuple[LabelProvenance, list[tuple[Path, Card]]]:
    """Return where the labels come from, and the earlier versions of a checkpoint.

    Parameters
    ----------
    path
        File of the checkpoint.
    store
        Folder or URL of the labels. None: there are no labels.
    folders
        Folders in which earlier versions are searched, after the folder of ``path``.

    Returns
    -------
    provenance : LabelProvenance
        Message on the checkpoints that made the labels.
    older : list of (Path, Card)
        File and card of each earlier version, the nearest ancestor first.
    """
    from napari_uhrseg.engine.finetuning.lineage import ancestors
    from napari_uhrseg.models.card_header import read_card

    found = ancestors(path, tuple(dict.fromkeys((path.parent, *folders))))
    older = [(p, read_card(p)) for p in found]
    name = read_card(path).name or path.name
    return _standing(path, name, store), older


def _standing(path: Path, name: str, folder: PathOrUrl | None) -> LabelProvenance:
    """Describe how many chunks this checkpoint and others have labelled."""
    total, made_by = (0, {}) if folder is None else _chunk_counts(folder, path)
    if not total:
        return LabelProvenance("", False)
    if not made_by:
        return LabelProvenance(f"All labels come from {name}.", True)
    whose = ", ".join(f"{count} from {other}" for other, count in made_by.items())
    return LabelProvenance(
        f"Of {counted(total, 'block')} of labels, {whose}. Segment again replaces them "
        f"with labels from {name}, without asking. Corrected pixels are kept.",
        True,
    )


def _chunk_counts(folder: PathOrUrl, own: Path) -> tuple[int, dict[str, int]]:
    """Return the number of labelled chunks, and those of each other checkpoint."""
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.models.checkpoint import file_hash

    own_hash = file_hash(own)
    made_by: dict[str, int] = {}
    with LabelStore.open(folder) as store:
        numbers, counts = np.unique(store.chunk_status() >> 2, return_counts=True)
        for number, count in zip(numbers, counts, strict=True):
            if number and store.runs[number - 1].checkpoint_hash != own_hash:
                other = store.runs[number - 1].checkpoint
                made_by[other] = made_by.get(other, 0) + int(count)
    return int(counts[numbers > 0].sum()), made_by


def next_version(request: FineTuneRequest) -> Path:
    """Return an unused path for the trained model, beside its start if possible."""
    start, near = request.start, parent_or_home(request.store)
    if isinstance(start, Path):
        there = os.access(start.parent, os.W_OK)
        return unused_path((start.parent if there else near) / start.name)
    first = near / f"{start.method}.safetensors"
    return unused_path(first) if first.exists() else first


@lru_cache(maxsize=1)
def untrained(new: NewModel, legend: Legend, image: Image) -> "Checkpoint":
    """Return an untrained checkpoint without a download; the last one is cached."""
    from napari_uhrseg.engine.finetuning.new_model import new_checkpoint

    shipped = new.encoder == DEFAULT_ENCODER
    return new_checkpoint(
        new.method, None, legend, image, new.encoder, pretrained=shipped
    )
