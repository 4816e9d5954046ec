"""Validation of a fine-tuned model, and selection of its weights.

Validation data are corrections in regions that are held out from training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch

from napari_uhrseg.engine.data.scenes import Sample, Scene
from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix, Scores
from napari_uhrseg.engine.finetuning.correction_collection import CorrectionSource
from napari_uhrseg.engine.finetuning.distillation import interpolate_weights
from napari_uhrseg.engine.inference.label_windows import (
    TilingSettings,
    forward_padded,
    read_batches,
)
from napari_uhrseg.engine.training.job import Metrics
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.types import HELD_OUT, IGNORED, Labels, Roi, TrainingSummary
from napari_uhrseg.units import counted, formatted

T = TypeVar("T", Roi, Sample)

MAX_SCORED_WINDOWS = 128  # validation windows that are scored
MAX_PROBE_WINDOWS = (
    16  # windows for the accuracy of a model on the training corrections
)
MIN_GAIN_KEPT = (
    0.5  # least share of the accuracy gain that interpolated weights must keep
)
EQUAL_MIOU = 0.005  # smaller differences of the mIoU count as equal
MIN_RELIABLE_WINDOWS = 5  # validation windows for a reliable score
MIN_WINDOWS_TO_SELECT = (
    50  # validation windows; with fewer, the best of several scores is random
)
CHANGED_ELSEWHERE = "changed elsewhere"


@dataclass
class Validator:
    """Validator, which runs models over windows of a data set in batches.

    Its memory is that of a batch and of the original model's labels of the replay
    windows: a million pixels or four windows.

    Parameters
    ----------
    source
        The corrections.
    old
        The original model, in eval mode on the device.
    batch_size
        Windows of a batch, at least 1.
    device, precision
        Device and precision of the forward passes, as in a run.
    """

    source: CorrectionSource
    old: Segmenter
    batch_size: int
    device: torch.device
    precision: str
    _before: list[Labels] = field(default_factory=list, init=False)

    def accuracy_on_corrections(self, model: Segmenter) -> float:
        """Return the accuracy of a model in eval mode on the training corrections.

        It is the mean recall of the classes, on at most `MAX_PROBE_WINDOWS` windows.
        """
        samples = some_windows(self.source.training_samples, MAX_PROBE_WINDOWS)
        scores = self._nothing
        for labels, truth in self._labelled(samples, model):
            scores += self._compared(labels, truth)
        return float(np.nanmean(scores.recall)) if scores.counts.any() else 0.0

    def select_weights(self, model: Segmenter) -> Segmenter:
        """Return the weights to save: interpolated to the original model (WiSE-FT).

        If interpolation loses most of the accuracy gain, the fine-tuned model itself is
        returned. The predictions of a wrong original model need not be preserved.
        """
        nearer = interpolate_weights(self.old, model)
        gained, most = (
            self.accuracy_on_corrections(m) - self.original_accuracy
            for m in (nearer, model)
        )
        return nearer if gained >= MIN_GAIN_KEPT * most else model

    @property
    def window_count(self) -> int:
        """Number of windows that are labelled to select, score and compare weights."""
        source = self.source
        scored = some_windows(source.held_out_samples, MAX_SCORED_WINDOWS)
        probed = some_windows(source.training_samples, MAX_PROBE_WINDOWS)
        return len(scored) + 2 * len(probed) + len(source.replay_samples)

    @cached_property
    def original_accuracy(self) -> float:
        """The accuracy of the original model on the training corrections."""
        return self.accuracy_on_corrections(self.old)

    def score_held_out(self, model: Segmenter) -> Iterator[Metrics | None]:
        """Yield None after each batch, and the metrics of a model in eval mode.

        ``miou`` and ``iou/CLASS`` apply to the validation corrections and the classes
        in them; there are none without validation regions. With several validation
        images, ``miou/IMAGE`` applies to one of them.
        """
        scores, source = self._nothing, self.source
        each: dict[str, Metrics] = {}
        chosen = some_windows(source.held_out_samples, MAX_SCORED_WINDOWS)
        for scene, samples in _by_scene(chosen):
            own = self._nothing
            for labels, truth in self._labelled(samples, model):
                own += self._compared(labels, truth)
                yield None
            scores += own
            name = scene.name
            if name in each:  # images of different folders
                name = f"{name} ({len(each) + 1})"
            each[name] = class_ious(own)
        images = {f"miou/{k}": v["miou"] for k, v in each.items() if "miou" in v}
        yield {**class_ious(scores), **(images if len(source.parts) > 1 else {})}

    def score(self, model: Segmenter) -> Iterator[Metrics | None]:
        """Yield None after each batch, and the metrics of a model in eval mode.

        They are those of `score_held_out`, and ``changed elsewhere``: the share of
        uncorrected pixels of the replay windows whose label differs from the original
        model's, 0 to 1.
        """
        metrics: Metrics = {}
        for found in self.score_held_out(model):
            if found is None:
                yield None
            else:
                metrics = found
        anywhere = self.source.replay_samples
        if not self._before:
            self._before = [a for a, _ in self._labelled(anywhere, self.old)]
        changed = asked = 0
        now = self._labelled(anywhere, model)
        for old, (labels, truth) in zip(self._before, now, strict=True):
            free = truth == IGNORED
            changed += int((labels != old)[free].sum())
            asked += int(free.sum())
            yield None
        yield {**metrics, CHANGED_ELSEWHERE: changed / max(asked, 1)}

    @property
    def _nothing(self) -> Scores:
        return self._counter().scores()

    def _counter(self) -> ConfusionMatrix:
        return ConfusionMatrix([c.name for c in self.source.legend])

    def _compared(self, labels: Labels, truth: Labels) -> Scores:
        counter = self._counter()
        counter.add(labels, np.where(truth == HELD_OUT, IGNORED, truth))
        return counter.scores()

    def _labelled(
        self, samples: Sequence[Sample], model: Segmenter
    ) -> Iterator[tuple[Labels, Labels]]:
        """Yield labels and ground truth, both (n, h, w) channels, of each batch."""
        spec = self.source.spec
        how = TilingSettings.of(spec, self.batch_size, self.device, self.precision)
        for scene, own in _by_scene(samples):
            windows, read = [s.window for s in own], partial(scene.pixels, spec=spec)
            for some, batch in read_batches(windows, read, self.batch_size):
                logits = forward_padded(model, batch, how)
                labels = logits.argmax(1).cpu().numpy().astype(np.uint8)
                truth = np.stack([scene.labels(window) for window in some])
                yield self.source.merged[labels], truth


def _by_scene(samples: Sequence[Sample]) -> Iterator[tuple[Scene, list[Sample]]]:
    """Yield each scene with its samples, which follow each other."""
    for _, group in groupby(samples, key=lambda s: id(s.scene)):
        own = list(group)
        yield own[0].scene, own


def comparison_text(summary: TrainingSummary, before: Metrics, after: Metrics) -> str:
    """Return the comparison of the new model with the original one as a message.

    Parameters
    ----------
    summary
        The training data.
    before, after
        Metrics of the original and of the new model.
    """
    changed = ""
    if CHANGED_ELSEWHERE in after:
        share = formatted(after[CHANGED_ELSEWHERE], ".0%")
        changed = f"; elsewhere {share} of the labels change"
    return _on_held_out(summary, before, after) + changed


def network_text(
    summary: TrainingSummary, classifier: Metrics, network: Metrics
) -> str:
    """Return the comparison of a network with a pixel classifier as a message.

    Parameters
    ----------
    summary
        The training data.
    classifier, network
        Metrics of both on the validation regions.
    """
    if "miou" not in classifier or "miou" not in network:
        return _on_held_out(summary, classifier, network)
    where = f"on {counted(summary.held_out, 'validation window')}"
    if summary.held_out < MIN_RELIABLE_WINDOWS:
        where += ", too few to be reliable"
    return (
        f"mIoU {formatted(network['miou'], '.1%')} of the network and "
        f"{formatted(classifier['miou'], '.1%')} of a "
        f"pixel classifier that was trained on the same corrections, {where}"
    )


def _on_held_out(summary: TrainingSummary, before: Metrics, after: Metrics) -> str:
    if not summary.has_validation or "miou" not in before or "miou" not in after:
        return (
            "accuracy cannot be estimated: no validation data. Look at the changes "
            "before you keep the model"
        )
    change = after["miou"] - before["miou"]
    where = f"on {counted(summary.held_out, 'validation window')}"
    if summary.held_out < MIN_RELIABLE_WINDOWS:
        where += ", too few to be reliable"
    points = f"{formatted(abs(100 * change), '.1f')} points"
    if change < 0:  # such weights are not saved; see TrainingPolicy.keep_best
        return (
            f"worse by {points} {where} (mIoU {formatted(before['miou'], '.1%')} "
            "before, "
            f"{formatted(after['miou'], '.1%')} after), and so was every validated "
            "step: the "
            "original checkpoint is better, and no other is saved"
        )
    if change < EQUAL_MIOU:
        return f"about as good as before {where}"
    return f"better by {points} {where}"


def class_ious(scores: Scores) -> dict[str, float]:
    """Return the mIoU and the IoU of each class in the ground truth; empty if none."""
    there = scores.counts.sum(1) > 0
    if not there.any():
        return {}
    each = {
        f"iou/{name}": float(value)
        for name, value, occurs in zip(scores.names, scores.iou, there, strict=True)
        if occurs
    }
    return {"miou": float(scores.iou[there].mean()), **each}


def some_windows(windows: Sequence[T], most: int) -> Sequence[T]:
    """Return about ``most`` windows at most, evenly spaced."""
    return windows[:: max(1, -(-len(windows) // most))]
