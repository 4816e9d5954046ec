"""What the two generators of the engine yield: closed unions of frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uhrseg.types import Roi, Run

if TYPE_CHECKING:
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.types import Lesson


@dataclass(frozen=True, slots=True)
class Planned:
    """The run as it will be; nothing has been computed yet."""

    plan: "Plan"


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` windows (or frames, or training steps)."""

    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class BlockDone:
    """A block is in the store. ``empty``: nothing to label there (nodata, glass)."""

    roi: Roi
    done: int
    total: int
    empty: bool = False


@dataclass(frozen=True, slots=True)
class LabelsShown:
    """Labels are in the store that are not final: of part of a block, or unblended."""

    roi: Roi


@dataclass(frozen=True, slots=True)
class BlockFailed:
    """A block could not be read; the run went on without it."""

    roi: Roi
    reason: str


@dataclass(frozen=True, slots=True)
class Retried:
    """Memory ran out; the same block or frame goes on with less, what is done stays.

    ``now`` says in words how it goes on: "with batches of 2", "on the CPU".
    """

    batch_size: int
    reason: str
    now: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The run ended: every block is done or failed."""

    run: Run
    done: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a fine-tuning will learn from; nothing has been learnt yet."""

    lesson: "Lesson"


@dataclass(frozen=True, slots=True)
class Fitted:
    """How learning keeps to its memory budget: samples a step, and what it costs.

    ``cut`` says whether more memory would let it do a step at once.
    """

    how: str
    cut: bool


@dataclass(frozen=True, slots=True)
class Trained:
    """One logged step: mean loss terms since the last one."""

    step: int
    losses: Mapping[str, float]
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Validated:
    """Metrics on what is held out: ``miou``, ``iou/<class>`` and so on.

    Step 0 is the checkpoint that a fine-tuning starts from.
    """

    step: int
    metrics: Mapping[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint was written whole."""

    path: Path
    step: int


@dataclass(frozen=True, slots=True)
class Compared:
    """The end of a fine-tuning: the new checkpoint against the one before.

    ``before`` and ``after``: ``miou`` and ``iou/<class>`` on the held-out places, 0
    to 1; empty where there is no honest figure. ``verdict`` says it in words.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    verdict: str
    path: Path


SegmentEvent = (
    Planned | Progress | LabelsShown | BlockDone | BlockFailed | Retried | Finished
)
TrainEvent = Progress | Gathered | Fitted | Trained | Validated | Saved | Compared
