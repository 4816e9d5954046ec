"""Training of a pixel classifier from strokes: from a store, or while a user paints.

::

    view of each window with strokes -> features, cached
    features of the painted pixels   -> linear classifier (logistic regression, L-BFGS)
    cached features of a window      -> labels of what is in view

`PixelTrainer` is the interface for a window of the program. `fit_corrections` trains
from the corrections of a store, as a part of `fine_tune`.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uhrseg.engine.cancellation import Cancelled, Stop
from napari_uhrseg.engine.data.scenes import Scene
from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix
from napari_uhrseg.engine.events import (
    FineTuneFinished,
    Progress,
    Saved,
    TrainEvent,
    Validated,
)
from napari_uhrseg.engine.finetuning.correction_dataset import CorrectionDataset
from napari_uhrseg.engine.finetuning.correction_sites import Ints, Points, thinned
from napari_uhrseg.engine.finetuning.model_selection import comparison_text
from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
from napari_uhrseg.engine.finetuning.settings_to_job import (
    extended_model,
    fine_tuned_card,
)
from napari_uhrseg.engine.finetuning.training_summary import build_dataset, summarize
from napari_uhrseg.engine.network.device import inference_mode
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.engine.tiling.window_merge import make_merger, window_weights
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
from napari_uhrseg.types import Labels, Roi, TrainingSummary

POINTS_PER_CLASS = 2000  # painted pixels of a class that are used, evenly spaced
PENALTY = 1e-3  # of the squared weights, or of their change
ITERATIONS = 40  # of L-BFGS
CACHE_BYTES = 2**30  # of feature maps; some 40 MB for a window of 512 pixels
CPU = torch.device("cpu")


class PixelTrainer:
    """Pixel classifier of an image that is trained again after each stroke.

    Features are computed once for each window and kept in memory, the least recently
    used ones are discarded. All methods may be called from one worker thread.

    Parameters
    ----------
    scene
        The image, fitted to the model (:meth:`Scene.fitted`).
    model
        The network in eval mode; its classifier is changed.
    starts
        True for a network without trained weights: features are standardised with the
        first strokes, and the classifier starts from 0. Otherwise the change of the
        trained classifier is penalised.
    cache_bytes
        Memory for feature maps in bytes.
    """

    def __init__(
        self,
        scene: Scene,
        model: PixelSegmenter,
        *,
        starts: bool = True,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.scene, self.model = scene, model
        spec = model.spec
        self.grid = WindowGrid.make(
            scene.shape, spec.window, spec.window_overlap, spec.placement
        )
        self._starts, self._cache_bytes = starts, cache_bytes
        self._maps: OrderedDict[Roi, list[Tensor]] = OrderedDict()
        self._known: dict[tuple[int, int], Tensor] = {}  # features by pixel
        self._start = model.weights(), model.bias.detach().clone()

    def compute(self, region: Roi) -> Iterator[int]:
        """Compute the features of a region; yield the number of windows that remain.

        ``region`` is in run pixels.
        """
        windows = list(self.grid.touching(region))
        for done, window in enumerate(windows, 1):
            self._features(window)
            yield len(windows) - done

    def fit(self, at: Ints, channel: Ints) -> None:
        """Train the classifier on painted pixels.

        Only pixels that were not passed before need new features.

        Parameters
        ----------
        at
            (n, 2) int64 rows and columns in run pixels, inside the image.
        channel
            (n,) int64 class of each pixel, as an index of the legend.
        """
        at, channel = _balanced(at, channel)
        features = self.gather(at)
        if self._starts:
            mean, scale = _statistics(features)
            self.model.set_statistics(mean, scale)
            features = (features - mean) / scale
            start = tuple(torch.zeros_like(t) for t in self._start)
        else:
            features = self._standardised(features)
            start = self._start
        self.model.set_weights(*fit_linear(features, torch.from_numpy(channel), *start))

    def gather(self, at: Ints) -> Tensor:
        """Return the (n, features) features of (n, 2) run pixels, not standardised."""
        for _ in self.gathering(at):
            pass
        return torch.stack([self._known[y, x] for y, x in at.tolist()])

    def gathering(self, at: Ints) -> Iterator[tuple[int, int]]:
        """Compute the features of pixels; yield finished windows and their number."""
        missing = np.array([p for p in at.tolist() if tuple(p) not in self._known])
        found: dict[Roi, list[list[int]]] = {}
        for y, x in missing.tolist():
            window = next(self.grid.touching(Roi(y, x, 1, 1)))
            found.setdefault(window, []).append([y, x])
        for done, (window, pixels) in enumerate(found.items(), 1):
            margin = (self.model.spec.views["local"].side - window.height) // 2
            corner = np.array([window.y - margin, window.x - margin])
            places = torch.from_numpy(np.array(pixels) - corner)
            with inference_mode(CPU, "fp32"):
                values = self.model.gather(self._features(window), places)
            for pixel, value in zip(pixels, values.clone(), strict=True):
                self._known[pixel[0], pixel[1]] = value
            yield done, len(found)

    def predict(self, region: Roi) -> tuple[Labels, Labels]:
        """Return the labels of a region, which are those of a run.

        Parameters
        ----------
        region
            Rectangle of run pixels inside the image.

        Returns
        -------
        tuple of (h, w) uint8
            Class indices (from 0) and confidence (1 to 255).
        """
        spec = self.model.spec
        weights = window_weights(spec.window, spec.window_overlap, spec.merge)
        classes = len(self.model.bias)
        with inference_mode(CPU, "fp32"):
            merger = make_merger(self.grid, region, classes, weights, CPU)
            for window in self.grid.touching(region):
                logits = self.model.classify(self._features(window))
                merger.add([window], logits)
            return merger.finish()

    def _features(self, window: Roi) -> list[Tensor]:
        maps = self._maps.pop(window, None)
        if maps is None:
            batch = self.scene.inputs([window], self.model.spec)
            with inference_mode(CPU, "fp32"):
                maps = self.model.features(batch.views["local"])
        self._maps[window] = maps
        size = sum(t.nbytes for t in maps)
        while len(self._maps) > 1 and len(self._maps) * size > self._cache_bytes:
            self._maps.popitem(last=False)
        return maps

    def _standardised(self, features: Tensor) -> Tensor:
        mean, scale = self.model.statistics()
        return (features - mean) / scale


def fit_linear(
    features: Tensor, channel: Tensor, weights: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a multinomial logistic regression: balanced classes, L2 penalty, L-BFGS.

    Parameters
    ----------
    features
        (n, F) float32, standardised.
    channel
        (n,) int64 classes, 0 to K - 1.
    weights, bias
        (K, F) and (K,) start, whose change is penalised.

    Returns
    -------
    tuple of Tensor
        (K, F) weights and (K,) biases.
    """
    counts = torch.bincount(channel, minlength=len(bias)).float()
    share = len(channel) / (counts.clamp(min=1) * (counts > 0).sum())
    first, own = weights.clone(), weights.clone().requires_grad_()
    offset = bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [own, offset], max_iter=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = features @ own.T + offset
        loss = F.cross_entropy(logits, channel, weight=share)
        loss = loss + PENALTY * (own - first).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.inference_mode(mode=False), torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return own.detach(), offset.detach()


def fit_corrections(
    source: CorrectionDataset,
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
        ``Progress`` for each window; ``Validated`` before and after, if there are
        validation regions; ``Saved``; ``FineTuneFinished``.

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
    model, _ = extended_model(checkpoint.model, checkpoint.card, source)
    assert isinstance(model, PixelSegmenter)
    starts = checkpoint.hash == UNSAVED_HASH
    trainer = PixelTrainer(source.scene, model.eval(), starts=starts)
    at, channel = _balanced(*_run_pixels(source.training, source.scene))
    tested = _balanced(*_run_pixels(source.tested, source.scene))
    yield from _gathered(trainer, np.concatenate([at, tested[0]]), stop)
    if before := _scores(trainer, source, *tested):
        yield Validated(0, before, best=False)
    trainer.fit(at, channel)
    if after := _scores(trainer, source, *tested):
        yield Validated(1, after, best=True)
    command = f"pixel classifier of {len(at):,} painted pixels"
    card = fine_tuned_card(checkpoint, source, output, command, after)
    save_checkpoint(output, model, card)
    yield Saved(output, 1)
    yield FineTuneFinished(
        before, after, comparison_text(summary, before, after), output
    )


def _gathered(trainer: PixelTrainer, at: Ints, stop: Stop | None) -> Iterator[Progress]:
    for done, total in trainer.gathering(at):
        if stop is not None and stop():
            raise Cancelled
        yield Progress(done, total, None)


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
    new = new_checkpoint("pixel_classifier", None, store.legend, image)
    source = build_dataset(image, new, store, regions)
    path = Path(output)
    for _ in fit_corrections(source, summarize(source), new, path, overwrite=overwrite):
        pass
    return load_checkpoint(path)


def trainer_of(image: Image, checkpoint: Checkpoint) -> PixelTrainer:
    """Return the trainer of an image for a checkpoint, which is not changed."""
    model = copy.deepcopy(checkpoint.model).eval()
    assert isinstance(model, PixelSegmenter)
    scene = Scene(image.name, image, _NoTarget()).fitted(model.spec)
    return PixelTrainer(scene, model, starts=checkpoint.hash == UNSAVED_HASH)


class _NoTarget:
    """Ground truth of an image without one."""

    def read(self, roi: Roi) -> Labels:
        return np.full((roi.height, roi.width), 255, np.uint8)


def _run_pixels(points: Points, scene: Scene) -> tuple[Ints, Ints]:
    """Return the run pixels of points, and their channels."""
    most = np.array(scene.shape) - 1
    at = np.minimum((points.at / scene.scale).astype(np.int64), most)
    return at, points.channel


def _balanced(at: Ints, channel: Ints) -> tuple[Ints, Ints]:
    """Return at most `POINTS_PER_CLASS` pixels of each class, evenly spaced."""
    kept = [
        thinned(np.flatnonzero(channel == k)[:, None], POINTS_PER_CLASS)[:, 0]
        for k in np.unique(channel)
    ]
    chosen = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return at[chosen], channel[chosen]


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of features; the latter is above 0."""
    least = 1e-4 * features.abs().amax(0) + 1e-6
    return features.mean(0), features.std(0, correction=0) + least


def _scores(
    trainer: PixelTrainer, source: CorrectionDataset, at: Ints, channel: Ints
) -> dict[str, float]:
    """Return the metrics of the classifier on pixels; none without pixels."""
    if not len(at):
        return {}
    model = trainer.model
    mean, scale = model.statistics()
    features = (trainer.gather(at) - mean) / scale
    with torch.inference_mode():
        found = (features @ model.weights().T + model.bias).argmax(1).numpy()
    counter = ConfusionMatrix([c.name for c in source.legend])
    merged: npt.NDArray[np.uint8] = source.merged
    labels = merged[found] if len(merged) > found.max(initial=0) else found
    counter.add(labels.astype(np.uint8), channel.astype(np.uint8))
    return counter.scores().to_dict()
