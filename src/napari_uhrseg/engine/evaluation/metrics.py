"""Segmentation metrics from a confusion matrix, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    """

    names: tuple[str, ...]
    counts: Counts

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
        return Scores(self.names, self.counts + other.counts)

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

    def add(self, labels: Labels, truth: Labels) -> None:
        """Count two uint8 arrays of class indices of one shape.

        Pixels whose truth is 255 are ignored.
        """
        known, size = truth != IGNORED, len(self._names)
        pairs = truth[known].astype(np.int64) * size + labels[known]
        self._counts += np.bincount(pairs, minlength=size**2).reshape(size, size)

    def scores(self) -> Scores:
        """Return the scores of all pixels counted up to now."""
        return Scores(self._names, self._counts.copy())


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.true_divide(part, whole))


def _mean(values: npt.NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")
