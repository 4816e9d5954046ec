"""Segmentation metrics from a confusion matrix, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.evaluation.area_weighted import (
    AreaWeightedAccuracy,
    area_weighted_accuracy,
)
from napari_uhrseg.types import IGNORED, Labels

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """A confusion matrix and the metrics that follow from it.

    Metrics of a class that occurs neither in the truth nor in the labels are NaN, and
    are left out of means.

    Attributes
    ----------
    names
        Names of the K classes.
    counts
        (K, K) int64: ``counts[t, p]`` is the number of pixels of class t labelled p.
    mapped
        (K,) int64: number of pixels labelled as each class, also where the truth is
        unknown. Default: those whose truth is known.
    """

    names: tuple[str, ...]
    counts: Counts
    mapped: Counts = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if not self.mapped.size:
            object.__setattr__(self, "mapped", self.counts.sum(0))

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """Return the intersection over union (Jaccard index) of each class."""
        hit, truth, found = self._sums()
        return _ratio(hit, truth + found - hit)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """Return the F1 score (Dice coefficient) of each class."""
        hit, truth, found = self._sums()
        return _ratio(2 * hit, truth + found)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """Return the recall of each class."""
        hit, truth, _ = self._sums()
        return _ratio(hit, truth)

    @property
    def miou(self) -> float:
        """Return the mean intersection over union."""
        return _mean(self.iou)

    @property
    def accuracy(self) -> float:
        """Return the share of pixels that are labelled right."""
        return float(_ratio(self.counts.trace(), self.counts.sum()))

    def to_dict(self) -> dict[str, float]:
        """Return ``miou``, ``f1``, ``accuracy`` and their ``/<class>``, without NaN."""
        found = {"miou": self.miou, "f1": _mean(self.f1), "accuracy": self.accuracy}
        for what in ("iou", "f1"):
            for name, value in zip(self.names, getattr(self, what), strict=True):
                found[f"{what}/{name}"] = float(value)
        for name, value in zip(self.names, self.recall, strict=True):
            found[f"accuracy/{name}"] = float(value)
        return {k: v for k, v in found.items() if not np.isnan(v)}

    def __add__(self, other: "Scores") -> "Scores":
        mapped = self.mapped + other.mapped
        return Scores(self.names, self.counts + other.counts, mapped)

    def area_weighted(self) -> AreaWeightedAccuracy:
        """Return accuracies that are weighted by the mapped areas."""
        return area_weighted_accuracy(self.counts.T, self.mapped, self.names)

    def _sums(self) -> tuple[Counts, Counts, Counts]:
        return self.counts.diagonal(), self.counts.sum(1), self.counts.sum(0)


class ConfusionMatrix:
    """Confusion matrix that is counted block by block.

    Parameters
    ----------
    names
        Names of the K classes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._counts: Counts = np.zeros((len(names), len(names)), np.int64)
        self._mapped: Counts = np.zeros(len(names), np.int64)

    def add(self, labels: Labels, truth: Labels) -> None:
        """Count two uint8 arrays of class indices of one shape.

        Pixels whose truth is 255 are ignored.
        """
        known, size = truth != IGNORED, len(self._names)
        pairs = truth[known].astype(np.int64) * size + labels[known]
        self._counts += np.bincount(pairs, minlength=size**2).reshape(size, size)
        self._mapped += np.bincount(labels.ravel(), minlength=size)

    def scores(self) -> Scores:
        """Return the scores of all pixels counted up to now."""
        return Scores(self._names, self._counts.copy(), self._mapped.copy())


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.true_divide(part, whole))


def _mean(values: npt.NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")
