"""States of the Fine-tune panel, and the trained model that awaits a decision.

The panel is a state machine. `FineTunePanel.state` is its state, and
`FineTunePanel._render` sets every widget that depends on the state::

      OUTDATED ---- request incomplete ----> BLOCKED
       ^ ^  |                                   |
       | |  +---- request complete ---> SUMMARIZING ---- failed ----> BLOCKED
       | |                                   |
       | |                                   +---- found ----> READY
       | |                                                       |
       | +-- form, labels or corrections changed --+    Train pressed
       |     (from BLOCKED, SUMMARIZING or READY)                |
       |                                                         v
       +------------- ended without a model ---------------- TRAINING
       |                                                         |
       |                                               ended with a model
       |                                                         v
       +-- kept, discarded, or other labels shown ---------- UNDECIDED

A draft that is found with the labels shown leads to UNDECIDED from every state but
TRAINING. A draft that is stored with labels is offered again with these labels.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from napari_uhrseg.engine.events import FineTuneFinished
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.ui.finetune.drafts import save_draft
from napari_uhrseg.ui.finetune.run_controller import TrainingController
from napari_uhrseg.ui.finetune.training_plot import Curves
from napari_uhrseg.ui.finetune.worker import FineTuneRequest, next_version
from napari_uhrseg.ui.workers.worker import report

NOT_SAVED = (
    "A model trained on these labels has not been saved yet. Keep or discard it under "
    "Train."
)
EARLIER = "A model was trained earlier on these labels: keep or discard it."
DECIDE = "Keep or discard the trained model first."
DECIDE_THERE = "To keep or discard the model trained on {0}, show the labels of {0}."


class FineTuneState(Enum):
    """State of the Fine-tune panel; the module docstring has the transitions."""

    OUTDATED = "the form or the corrections have changed since the last summary"
    BLOCKED = "no training can start"
    SUMMARIZING = "the training data are being summarized"
    READY = "a training can start"
    TRAINING = "a training is in progress or paused"
    UNDECIDED = "a trained model is to be kept or discarded"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """Trained model that has been neither kept nor discarded yet."""

    result: FineTuneFinished
    request: FineTuneRequest

    @property
    def target(self) -> Path:
        """Unused path that Keep proposes for the checkpoint."""
        return next_version(self.request)


def save_draft_or_report(trained: TrainedModel) -> None:
    """Store the result beside its draft, so that a later session offers it again."""
    try:
        save_draft(trained.result, trained.request.start)
    except OSError as error:
        report(error)


def save_best(training: TrainingController) -> None:
    """Store the best model so far of a training that ends with the window."""
    with suppress(UhrSegError):  # the model may be unreadable
        best = training.best_so_far()
        if best is not None:
            save_draft_or_report(TrainedModel(best, training.request))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Last training on some labels, as the Fine-tune panel shows it.

    Attributes
    ----------
    status
        Result of the training as a message.
    kept
        True if a model of these labels was kept.
    curves
        Training curves.
    """

    status: str = ""
    kept: bool = False
    curves: Curves = field(default_factory=Curves)


class Outcomes:
    """Outcome of each label store that was trained on in this session."""

    def __init__(self) -> None:
        self._by_store: dict[str, Outcome] = {}

    def put(self, store: PathOrUrl | None, outcome: Outcome) -> None:
        """Keep the outcome of a label store; None: there were no labels."""
        if store is not None:
            self._by_store[str(store)] = outcome

    def of(self, store: PathOrUrl | None) -> Outcome:
        """Return the outcome of a label store, which is empty without a training."""
        return self._by_store.get(str(store), Outcome())
