"""Events that segmentation and training yield: closed unions of frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uhrseg.types import Labels, Roi, Run

if TYPE_CHECKING:
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.types import TrainingSummary


@dataclass(frozen=True, slots=True)
class Planned:
    """Event with the plan of a run, before any computation."""

    plan: "Plan"


@dataclass(frozen=True, slots=True)
class Progress:
    """Event of progress: finished windows, frames or training steps, and the total."""

    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class BlockDone:
    """Event: a block was written. ``empty``: it has no data or only background."""

    roi: Roi
    done: int
    total: int
    empty: bool = False


@dataclass(frozen=True, slots=True)
class PreviewWritten:
    """Event: preliminary labels were written (partial block, or unblended seams)."""

    roi: Roi


@dataclass(frozen=True, slots=True)
class BlockFailed:
    """Event: a block could not be read. The run continued without it."""

    roi: Roi
    reason: str


@dataclass(frozen=True, slots=True)
class RetriedWithLess:
    """Event: memory ran out. The same block or frame is computed with less memory.

    Finished blocks are kept. ``change`` describes how the run continues, for example
    "with batches of 2" or "on the CPU".
    """

    batch_size: int
    reason: str
    change: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Event: the run ended. Every block is done or failed.

    ``left_out`` windows or frames and the share ``left_out_area`` of the region have no
    tissue.
    """

    run: Run
    done: int
    failed: int
    seconds: float
    left_out: int = 0
    left_out_area: float = 0.0


@dataclass(frozen=True, slots=True)
class DatasetReady:
    """Event with the training data of a fine-tuning, before its first step."""

    summary: "TrainingSummary"


@dataclass(frozen=True, slots=True)
class TrainingPlanned:
    """Event with the plan of a training, before its first step.

    Parameters
    ----------
    training, validation
        Names of the scenes.
    classes
        Class names in the order of the network's outputs.
    steps
        Optimizer steps.
    device, precision
        Device id and arithmetic of the forward pass.
    warnings
        Messages about the data and the weights.
    encoder_weights
        Weights that the encoder starts from.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    classes: tuple[str, ...]
    steps: int
    device: str
    precision: str
    warnings: tuple[str, ...]
    encoder_weights: str


@dataclass(frozen=True, slots=True)
class MemoryPlanned:
    """Event with the plan that keeps training steps within the memory budget.

    ``description`` gives the samples of a step and the techniques that save memory.
    ``limited`` is true if more memory would allow a step in one pass.
    """

    description: str
    limited: bool


@dataclass(frozen=True, slots=True)
class StepLogged:
    """Event of a logged step: mean loss terms since the previous logged step."""

    step: int
    losses: Mapping[str, float]
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Validated:
    """Event with metrics on the validation data: ``miou``, ``iou/<class>`` and others.

    Step 0 is the checkpoint that a fine-tuning starts from.
    """

    step: int
    metrics: Mapping[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """Event: a checkpoint file is complete."""

    path: Path
    step: int


@dataclass(frozen=True, slots=True)
class FineTuneFinished:
    """Event at the end of a fine-tuning: comparison with the original checkpoint.

    ``before`` and ``after`` contain ``miou`` and ``iou/<class>`` on the validation
    regions, 0 to 1. Both are empty where no validation score is available.
    ``comparison`` is the same information as a message. ``saved`` is False if every
    validated step was worse than the original checkpoint: ``path`` was not written, and
    ``after`` are the scores of the last step.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    comparison: str
    path: Path
    saved: bool = True


SegmentEvent = (
    Planned
    | Progress
    | PreviewWritten
    | BlockDone
    | BlockFailed
    | RetriedWithLess
    | Finished
)
TrainEvent = (
    Progress
    | DatasetReady
    | TrainingPlanned
    | MemoryPlanned
    | StepLogged
    | Validated
    | Saved
    | FineTuneFinished
)


@dataclass(frozen=True, slots=True)
class LiveView:
    """Rectangle that the labels of a view cover, and its pixels per image pixel.

    ``roi`` is in run pixels, of which each has ``scale`` level-0 pixels. ``whole`` is
    False if the view is larger.
    """

    roi: Roi
    scale: float
    whole: bool


@dataclass(frozen=True, slots=True)
class LiveLabels:
    """Labels of a part of the view: ``roi`` in run pixels, class ids of the store."""

    roi: Roi
    labels: Labels
