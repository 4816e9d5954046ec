"""Corrections of a whole store as ground truth of an evaluation."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.data.corrected_images import CorrectedLabels
from napari_uhrseg.engine.finetuning.class_mapping import map_classes
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import IGNORED


@dataclass(frozen=True, slots=True)
class CorrectionTruth(CorrectedLabels):
    """Ground truth from the corrections of a store in the classes of a checkpoint.

    Parameters
    ----------
    store
        The labels.
    channels
        (256,) uint8 channel of each class id, 255: none.
    merged
        (K,) uint8 channel to which each channel is merged; itself without a merge.
    """

    merged: npt.NDArray[np.uint8]


def correction_truth(store: LabelStore, checkpoint: Checkpoint) -> CorrectionTruth:
    """Return the corrections of a store in the classes of a checkpoint.

    Corrected classes that the checkpoint lacks are ignored.

    Raises
    ------
    TrainingError
        If nothing is corrected in a class of the checkpoint.
    """
    match = map_classes(checkpoint, store, ())
    if (match.channels[store.coarsest_corrections()] == IGNORED).all():
        raise TrainingError(
            f"{store.path} has no corrections of the checkpoint's classes.",
            "Correct the labels, or confirm correct ones.",
        )
    return CorrectionTruth(store, match.channels, match.merged)
