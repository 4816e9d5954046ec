"""Agreement of labels with known ones, counted in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from napari_uhrseg.types import IGNORED, Labels

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """A confusion matrix and what follows from it.

    ``counts[t, p]``: pixels of class t that were labelled p. Figures of a class
    that is neither in the truth nor among the labels are NaN, and left out of
    means.
    """

    names: tuple[str, ...]
    counts: Counts

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        hit, truth, found = self._sums()
        return _ratio(hit, truth + found - hit)

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        hit, truth, found = self._sums()
        return _ratio(2 * hit, truth + found)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """The accuracy within each class of the truth."""
        hit, truth, _ = self._sums()
        return _ratio(hit, truth)

    @property
    def miou(self) -> float:
        return _mean(self.iou)

    @property
    def accuracy(self) -> float:
        return float(_ratio(self.counts.trace(), self.counts.sum()))

    def to_dict(self) -> dict[str, float]:
        """``miou``, ``f1``, ``accuracy`` and the same ``/<class>``; no NaN."""
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


class Counter:
    """Counts labels against the truth, block by block."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._matrix = MulticlassConfusionMatrix(
            len(names), ignore_index=IGNORED, validate_args=False
        )

    def add(self, labels: Labels, truth: Labels) -> None:
        """Two uint8 arrays of class indices of one shape; truth 255 is ignored."""
        self._matrix.update(
            torch.from_numpy(labels.astype(np.int64)),
            torch.from_numpy(truth.astype(np.int64)),
        )

    def scores(self) -> Scores:
        return Scores(self._names, self._matrix.confmat.cpu().numpy().astype(np.int64))


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.true_divide(part, whole))


def _mean(values: npt.NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")
