"""The one loop that learns, for training from scenes and for fine-tuning.

::

    read-ahead thread             the generator (caller's thread)
    -----------------             -------------------------------
    batch of step s        ->     forward, loss, backward, step       -> Progress
    (function of seed, s)         every so often: what is held out    -> Validated
                                  better than before: checkpoint      -> Saved

Beside the checkpoint lies a state file while a training is not finished. Dropout
and samples are functions of the seed and the step, so that a training that was
stopped anywhere ends with the same weights, bit for bit on the CPU.
"""

import hashlib
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from napari_uhrseg.atomic import replacing
from napari_uhrseg.engine.cancellation import Cancelled, Stop, interruptible
from napari_uhrseg.engine.data.batches import batches
from napari_uhrseg.engine.data.scenes import Dataset
from napari_uhrseg.engine.events import (
    MemoryPlanned,
    Progress,
    Saved,
    StepLogged,
    TrainEvent,
    Validated,
)
from napari_uhrseg.engine.network.device import is_out_of_memory
from napari_uhrseg.engine.prefetch import Prefetcher
from napari_uhrseg.engine.training.schedule import Schedule
from napari_uhrseg.engine.training.step_memory import LossWeights, StepMemoryPlan
from napari_uhrseg.errors import DeviceError, TrainingError
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.models.checkpoint import save_checkpoint
from napari_uhrseg.types import Card

SAVE_INTERVAL_S = 60.0  # a killed training loses at most about that much

Metrics = Mapping[str, float]
LossFn = Callable[[Segmenter, Batch, LossWeights], dict[str, Tensor]]
"""The loss's terms of a part of a step, ``"loss"`` among them, which add up to the
step's; the model is in training."""
ValidateFn = Callable[[Segmenter], Iterator[Metrics | None]]
"""Yields None after each batch, at last the metrics; the model is in eval mode."""


def default_loss(
    model: Segmenter, batch: Batch, weights: LossWeights
) -> dict[str, Tensor]:
    """What the method's paper minimises."""
    terms = model.loss(model(batch), batch)
    return {name: weights.labelled * term for name, term in terms.items()}


def unchanged(model: Segmenter) -> Segmenter:
    """The network that learns itself."""
    return model


@dataclass(frozen=True)
class TrainingJob:
    """All that a training is.

    Parameters
    ----------
    model
        With the weights it starts from; it is changed.
    schedule, source
        The source fitted to the model.
    validate_fn
        ``None``: nothing is held out, and the latest weights count as the best.
    card
        What a checkpoint with such metrics says of itself.
    identity
        JSON of everything that decides which weights come out.
    precision
        ``"fp32"`` or ``"bf16"``.
    fit
        How a step's batch is worked within the memory budget.
    score_initial
        Whether the weights it starts from are scored first, and have to be beaten.
    keep_best
        Whether the weights that score best are kept; else the latest are.
    resume_stage
        Whether the first stage goes on from weights that know it.
    freeze_batch_norm
        Whether normalisation keeps the statistics it has.
    weights_to_save
        What is scored and saved of the network that learns.
    keep_state
        Whether an unfinished training leaves its state to go on from.
    """

    model: Segmenter
    schedule: Schedule
    source: Dataset
    validate_fn: ValidateFn | None
    card: Callable[[Metrics], Card]
    identity: object
    seed: int
    device: torch.device
    precision: str
    fit: StepMemoryPlan
    validate_every: int
    log_every: int = 10
    loss_fn: LossFn = default_loss
    score_initial: bool = False
    keep_best: bool = True
    resume_stage: bool = False
    freeze_batch_norm: bool = False
    weights_to_save: Callable[[Segmenter], Segmenter] = unchanged
    keep_state: bool = True


class Trainer:
    """One training: everything that changes while it goes on.

    Attributes
    ----------
    before, after
        The metrics of the weights it started from (with a baseline), and of those
        in the checkpoint.
    saved
        Whether there is a checkpoint of this training.
    """

    def __init__(self, job: TrainingJob, output: Path) -> None:
        self.job, self.output = job, output
        self.state_path = output.with_name(output.name + ".state")
        self.model, self.schedule = job.model, job.schedule
        self.batch_size = self.schedule.recipe.batch_size
        self.total = self.schedule.total
        self.step = 0  # steps done
        self.validated = -1 if job.score_initial and job.validate_fn else 0
        self.best = -math.inf
        self.saved = False
        self.before: Metrics = {}
        self.after: Metrics = {}
        self.model.to(job.device)
        self.model.to(memory_format=torch.channels_last)  # quicker, also on the CPU
        self.optimizer = self.schedule.optimizer(self.model, 0)

    def prepare(self, resume: bool, overwrite: bool) -> None:
        """Refuse what would be lost; load the state of an earlier part."""
        if resume and self.state_path.exists():
            self._load()
        elif self.output.exists() and not overwrite:
            raise TrainingError(
                f"{self.output} exists.",
                "Choose another name, or say that it may be overwritten.",
            )

    def close(self) -> None:
        """Keep the state of an unfinished training; forget that of a finished one."""
        if self.validated == self.total:
            self.state_path.unlink(missing_ok=True)
        elif self.step:
            self._save()

    @property
    def fitted(self) -> MemoryPlanned:
        fit = self.job.fit
        tight = fit.recompute or fit.micro_batch_size < self.batch_size
        return MemoryPlanned(fit.summary(self.batch_size), tight)

    @property
    def finished(self) -> bool:
        return self.validated == self.total

    # -- the training itself ----------------------------------------------------

    def run(self, stop: Stop | None = None) -> Iterator[TrainEvent]:
        """Train to the end; where ``stop()`` is true, end as if closed."""
        with interruptible(self.model, stop), CHUNK_CACHE.limited(self.job.fit.cache):
            try:
                yield from self._run()
            except Cancelled:
                return

    def _run(self) -> Iterator[TrainEvent]:
        if self._validation_is_due():  # the baseline, or stopped in the midst of one
            yield from self._validate()
        steps = range(self.step, self.total)
        job = self.job
        feed = batches(job.source, self.model.spec, self.batch_size, job.seed, steps)
        started = saved = time.monotonic()
        terms: list[dict[str, float]] = []
        with closing(Prefetcher(feed)) as ahead:
            for batch in ahead:
                terms.append(self._learn(batch))
                a_step = (time.monotonic() - started) / (self.step - steps.start)
                left = a_step * (self.total - self.step)
                yield Progress(self.step, self.total, left)
                if self.step % job.log_every == 0 or self.step == self.total:
                    rate = self.schedule.rate(self.step - 1)
                    yield StepLogged(self.step, _means(terms), rate)
                    terms = []
                if self._validation_is_due():
                    yield from self._validate()
                if time.monotonic() - saved > SAVE_INTERVAL_S:
                    self._save()
                    saved = time.monotonic()

    def _learn(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser; the loss's terms."""
        if self.schedule.starts_stage(self.step):
            first = not (self.job.resume_stage and self.step == 0)
            self.model.begin_stage(self.schedule.stage(self.step)[1], first=first)
            self.optimizer = self.schedule.optimizer(self.model, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.model.train()
        if self.job.freeze_batch_norm:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        try:
            terms = self._backward(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{self.job.device} has too little memory to learn from "
                f"{self.job.fit.micro_batch_size} samples at a time.",
                "Lower the memory budget, so that fewer are taken at a time; or choose "
                "a smaller encoder, or the CPU.",
            ) from error
        if not all(map(math.isfinite, terms.values())):
            raise TrainingError(
                f"The loss became {terms['loss']} at step {self.step + 1}.",
                "Train with a smaller learning rate, or with clip=1.",
            )
        if self.schedule.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.recipe.clip)
        self.optimizer.step()
        self.step += 1
        return terms

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Gradients of one batch; random numbers depend on seed and step alone."""
        device, fit = self.job.device, self.job.fit
        low = self.job.precision == "bf16"
        sums: dict[str, float] = {}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(hash((self.job.seed, self.step)))
            self.optimizer.zero_grad(set_to_none=True)
            for piece, share in fit.micro_batches(batch):
                with fit.applied_to(self.model):
                    with torch.autocast(device.type, torch.bfloat16, enabled=low):
                        terms = self.job.loss_fn(self.model, piece.to(device), share)
                    terms["loss"].backward()  # type: ignore[no-untyped-call]
                for name, term in terms.items():
                    sums[name] = sums.get(name, 0.0) + float(term.detach())
        return sums

    def _validation_is_due(self) -> bool:
        border = self.step % self.job.validate_every == 0 or self.step == self.total
        return border and self.step != self.validated

    def _validate(self) -> Iterator[TrainEvent]:
        """Score what is held out; write the checkpoint if it is the best."""
        metrics: Metrics = {}
        model = self.job.weights_to_save(self.model.eval())
        if self.job.validate_fn is not None:
            for found in self.job.validate_fn(model):
                metrics = found or metrics
                yield Progress(self.step, self.total, None)
        score = float(self.step)  # the latest counts as the best
        if self.job.keep_best:
            score = metrics.get("miou", score)
        better = score > self.best
        if better:
            self.best = score
        if self.step == 0:
            self.before = metrics
        elif better or (self.step == self.total and not self.saved):
            said = self.job.card({**metrics, "step": float(self.step)})
            save_checkpoint(self.output, model, said)
            self.after, self.saved = metrics, True
        self.validated = self.step
        self._save()
        if metrics:
            yield Validated(self.step, metrics, better)
        if self.step and better:
            yield Saved(self.output, self.step)

    # -- files --------------------------------------------------------------------

    def _fingerprint(self) -> str:
        text = json.dumps(self.job.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _save(self) -> None:
        """The state, whole or not at all."""
        if not self.job.keep_state:
            return
        part = self.state_path.with_name(self.state_path.name + ".part")
        state = {
            "fingerprint": self._fingerprint(),
            "step": self.step,
            "validated": self.validated,
            "best": self.best,
            "saved": self.saved,
            "before": dict(self.before),
            "after": dict(self.after),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.state_path, part, sync=False):
                torch.save(state, part)
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"The state {self.state_path} cannot be written: {error}.",
                "Choose a folder you may write to, with room left.",
            ) from error

    def _load(self) -> None:
        try:
            state = torch.load(self.state_path, self.job.device, weights_only=True)
            same = state["fingerprint"] == self._fingerprint()
        except (OSError, RuntimeError, EOFError, KeyError, TypeError,
                pickle.UnpicklingError) as error:  # fmt: skip
            raise TrainingError(
                f"The state {self.state_path} cannot be read: {error}.",
                "Delete it to start anew.",
            ) from error
        if not same:
            raise TrainingError(
                f"{self.state_path} belongs to a training with other settings, or "
                "another memory budget.",
                "Choose another output, delete that file, or start anew.",
            )
        self.step, self.validated = state["step"], state["validated"]
        self.best, self.saved = state["best"], state["saved"]
        self.before, self.after = state["before"], state["after"]
        self.model.load_state_dict(state["model"])
        # the stage of the last step done; a new one starts with the next step
        last = max(0, self.step - 1)
        self.model.begin_stage(self.schedule.stage(last)[1], first=False)
        self.optimizer = self.schedule.optimizer(self.model, last)
        if self.step:
            self.optimizer.load_state_dict(state["optimizer"])


def _means(terms: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each term over the steps that had it: stages differ in theirs."""
    names = dict.fromkeys(name for step in terms for name in step)
    return {k: mean(step[k] for step in terms if k in step) for k in names}
