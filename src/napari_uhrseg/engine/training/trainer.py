"""Training loop, shared by training from scenes and fine-tuning.

::

    read-ahead thread             the generator (caller's thread)
    -----------------             -------------------------------
    batch of step s        ->     forward, loss, backward, step       -> Progress
    (function of seed, s)         at intervals: validation            -> Validated
                                  better than before: checkpoint      -> Saved

A state file exists next to the checkpoint until the training is finished. Dropout and
samples depend on the seed and the step alone. A training that was stopped and continued
therefore ends with the same weights, bit for bit on the CPU.
"""

import hashlib
import json
import math
import pickle
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn

from napari_uhrseg.atomic import replacing
from napari_uhrseg.engine.cancellation import Cancelled, Stop, interruptible
from napari_uhrseg.engine.data.batches import batches
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
from napari_uhrseg.engine.training.feature_cache import FeatureCache
from napari_uhrseg.engine.training.job import Metrics, TrainingJob
from napari_uhrseg.engine.training.remaining_time import RemainingTime
from napari_uhrseg.engine.training.stage_parameters import set_training_mode
from napari_uhrseg.errors import DeviceError, TrainingError
from napari_uhrseg.io.image.chunk_cache import CHUNK_CACHE
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.models.checkpoint import save_checkpoint


class Trainer:
    """Training loop with its changing state.

    Parameters
    ----------
    job
        Definition of the training.
    output
        Path of the checkpoint to write.

    Attributes
    ----------
    before, after
        Metrics of the initial weights (if the policy validates them) and of the saved
        checkpoint; of the last weights if no checkpoint was saved.
    saved
        True if a checkpoint of this training exists. A training of which every
        validation is worse than the initial weights saves none.
    drafted
        True if the output is a draft of this training. The first saved checkpoint
        replaces it, and the end of a training that saves none deletes it.
    features
        Cache of the features of frozen encoders.
    """

    def __init__(self, job: TrainingJob, output: Path) -> None:
        self.job, self.output = job, output
        self.state_path = output.with_name(output.name + ".state")
        self.model, self.schedule = job.model, job.schedule
        self.batch_size = self.schedule.recipe.batch_size
        self.total = self.schedule.total
        self.step = 0  # steps done
        self.validated = (
            -1 if job.policy.score_initial and job.policy.validate_fn else 0
        )
        self.best = -math.inf
        self.saved = self.drafted = False
        self.before: Metrics = {}
        self.after: Metrics = {}
        self.model.to(job.compute.device)
        self.model.to(memory_format=torch.channels_last)  # faster, also on the CPU
        self.optimizer = self.schedule.optimizer(self.model, 0)
        self.features = FeatureCache(job.compute.memory.features)
        self._drafts = not output.exists()  # an earlier file stays

    def prepare(self, resume: bool, overwrite: bool) -> None:
        """Load the state file, or check that no checkpoint would be overwritten.

        Raises
        ------
        TrainingError
            If the output exists, or the state file cannot be used.
        """
        if resume and self.state_path.exists():
            self._load()
            self._drafts = self.drafted or not self.output.exists()
        elif self.output.exists() and not overwrite:
            raise TrainingError(
                f"{self.output} exists.",
                "Choose another name, or allow it to be overwritten.",
            )

    def close(self) -> None:
        """Save the state of an unfinished training; delete that of a finished one."""
        if self.validated == self.total:
            if self.drafted and not self.saved:
                self.output.unlink(missing_ok=True)  # when it was made is by chance
            self.state_path.unlink(missing_ok=True)
        elif self.step:
            self._save()

    @property
    def memory_planned(self) -> MemoryPlanned:
        """The event that describes the memory plan."""
        plan, size = self.job.compute.memory, self.batch_size
        return MemoryPlanned(plan.summary(size), plan.limited(size))

    @property
    def finished(self) -> bool:
        """True if the last step is done and validated."""
        return self.validated == self.total

    # -- training loop ----------------------------------------------------------

    def run(self, stop: Stop | None = None) -> Iterator[TrainEvent]:
        """Train to the end, or until ``stop()`` returns True; yield events."""
        with (
            interruptible(self.model, stop),
            CHUNK_CACHE.limited(self.job.compute.memory.cache),
        ):
            try:
                yield from self._run()
            except Cancelled:
                return

    def _run(self) -> Iterator[TrainEvent]:
        saved = drafted = time.monotonic()
        left = RemainingTime(self.schedule, self.job.policy.validate_every)
        if self._validation_is_due():  # initial weights, or a stopped validation
            with left.validation():
                yield from self._validate()
        steps = range(self.step, self.total)
        job = self.job
        feed = batches(
            job.source,
            self.model.spec,
            self.batch_size,
            job.seed,
            map(self.schedule.batch_number, steps),
            job.policy.augmentations,
        )
        terms: list[dict[str, float]] = []
        with closing(Prefetcher(feed)) as ahead:
            batch_of = iter(ahead)
            for step in steps:
                with left.step(step):
                    terms.append(self._learn(next(batch_of)))
                yield Progress(self.step, self.total, left.seconds(self.step))
                if self.step % job.policy.log_every == 0 or self.step == self.total:
                    rate = self.schedule.rate(self.step - 1)
                    yield StepLogged(self.step, _means(terms), rate)
                    terms = []
                if self._validation_is_due():
                    with left.validation():
                        yield from self._validate()
                elif self._draft_is_due(time.monotonic() - drafted):
                    yield from self._draft()
                    drafted = time.monotonic()
                if time.monotonic() - saved > self.job.policy.save_interval_s:
                    self._save()
                    saved = time.monotonic()

    def _draft_is_due(self, seconds: float) -> bool:
        wanted = self._drafts and not self.saved and self.step < self.total
        return wanted and seconds >= self.job.policy.draft_interval_s

    def _draft(self) -> Iterator[TrainEvent]:
        """Save the weights as a draft, unless they are worse than the initial ones.

        A user who stops the training can keep it. The time of a draft is by chance, so
        that it takes no part in the selection of the final weights.
        """
        model = self.job.policy.weights_to_save(self.model.eval())
        metrics = yield from self._scores(model)
        worse = metrics.get("miou", 0) < self.before.get("miou", 0)
        if not worse:
            card = self.job.card({**metrics, "step": float(self.step)})
            save_checkpoint(self.output, model, card)
            self.drafted = True
        if metrics:
            yield Validated(self.step, metrics, False)
        if not worse:
            yield Saved(self.output, self.step)

    def _scores(self, model: Segmenter) -> Generator[TrainEvent, None, Metrics]:
        """Return validation metrics of a network in eval mode; yield progress."""
        metrics: Metrics = {}
        if self.job.policy.validate_fn is not None:
            for found in self.job.policy.validate_fn(model):
                metrics = found or metrics
                yield Progress(self.step, self.total, None)
        return metrics

    def _learn(self, batch: Batch) -> dict[str, float]:
        """Take one optimizer step and return the loss terms."""
        if self.schedule.starts_stage(self.step):
            first = not (self.job.policy.resume_stage and self.step == 0)
            self.model.begin_stage(self.schedule.stage(self.step)[1], first=first)
            self.optimizer = self.schedule.optimizer(self.model, self.step)
            self.features.clear()
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step) * group["factor"]
        _, stage = self.schedule.stage(self.step)
        set_training_mode(self.model, stage)
        cached = stage.frozen_encoder and self.features.limit > 0
        try:
            with self.features.applied_to(self.model) if cached else nullcontext():
                terms = self._backward(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{self.job.compute.device} has too little memory for "
                f"{self.job.compute.memory.micro_batch_size} samples at a time.",
                "Lower the memory budget, so that fewer samples are used at a time; or "
                "choose a smaller encoder, or the CPU.",
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
        """Accumulate the gradients of one batch over its micro-batches.

        Random numbers depend on the seed and the step alone.
        """
        device, plan = self.job.compute.device, self.job.compute.memory
        low = self.job.compute.precision == "bf16"
        sums: dict[str, float] = {}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(hash((self.job.seed, self.step)))
            self.optimizer.zero_grad(set_to_none=True)
            for piece, share in plan.micro_batches(batch):
                with plan.applied_to(self.model):
                    with torch.autocast(device.type, torch.bfloat16, enabled=low):
                        terms = self.job.policy.loss_fn(
                            self.model, piece.to(device), share
                        )
                    terms["loss"].backward()  # type: ignore[no-untyped-call]
                for name, term in terms.items():
                    sums[name] = sums.get(name, 0.0) + float(term.detach())
        return sums

    def _validation_is_due(self) -> bool:
        border = (
            self.step % self.job.policy.validate_every == 0 or self.step == self.total
        )
        return border and self.step != self.validated

    def _rank(self, metrics: Mapping[str, float]) -> float:
        """Return a number that is highest for the weights to keep."""
        latest = float(self.step)  # the latest weights count as the best
        if self.job.policy.keep_best:
            return metrics.get("miou", latest)
        if metrics.get("miou", 0) < self.before.get("miou", 0):
            return -1.0  # never preferred to weights that are no worse than the start
        return latest

    def _validate(self) -> Iterator[TrainEvent]:
        """Validate the weights; write the checkpoint if they are the best."""
        model = self.job.policy.weights_to_save(self.model.eval())
        metrics = yield from self._scores(model)
        score = self._rank(metrics)
        better = score > self.best
        if better:
            self.best = score
        if self.step == 0:
            self.before = metrics
        elif better or (self.step == self.total and self._must_save()):
            card = self.job.card({**metrics, "step": float(self.step)})
            save_checkpoint(self.output, model, card)
            self.after, self.saved = metrics, True
        elif not self.saved:
            self.after = metrics
        self.validated = self.step
        self._save()
        if metrics:
            yield Validated(self.step, metrics, better)
        if self.step and better:
            yield Saved(self.output, self.step)

    def _must_save(self) -> bool:
        """Return True if the last weights are saved whatever their metrics are.

        They are not if the initial weights have a score, which none surpassed.
        """
        return not self.saved and "miou" not in self.before

    # -- files --------------------------------------------------------------------

    def _fingerprint(self) -> str:
        text = json.dumps(self.job.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _save(self) -> None:
        """Write the state file atomically."""
        if not self.job.policy.keep_state:
            return
        part = self.state_path.with_name(self.state_path.name + ".part")
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.state_path, part, sync=False):
                torch.save(self._state(), part)
        except (OSError, RuntimeError) as error:
            # torch raises RuntimeError with the words of a C++ stream
            known = isinstance(error, OSError)
            why = error if known else "the disk is probably full"
            raise TrainingError(
                f"The state {self.state_path} cannot be written: {why}.",
                "Choose a writable folder with free space.",
            ) from error

    def _state(self) -> dict[str, Any]:
        """Return all that a training needs to resume."""
        return {
            "fingerprint": self._fingerprint(),
            "step": self.step,
            "validated": self.validated,
            "best": self.best,
            "saved": self.saved,
            "drafted": self.drafted,
            "before": dict(self.before),
            "after": dict(self.after),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _read_state(self) -> dict[str, Any]:
        """Return the contents of the state file, which must be of this training."""
        try:
            state = torch.load(
                self.state_path, self.job.compute.device, weights_only=True
            )
            same = state["fingerprint"] == self._fingerprint()
        except (OSError, RuntimeError, EOFError, KeyError, TypeError,
                pickle.UnpicklingError) as error:  # fmt: skip
            raise TrainingError(
                f"The state {self.state_path} cannot be read: {error}.",
                "Delete it to start again.",
            ) from error
        if not same:
            raise TrainingError(
                f"{self.state_path} belongs to a training with other settings, or "
                "another memory budget.",
                "Choose another output, delete that file, or start again.",
            )
        return dict(state)

    def _load(self) -> None:
        state = self._read_state()
        self.step, self.validated = state["step"], state["validated"]
        self.best, self.saved = state["best"], state["saved"]
        self.drafted = state["drafted"]
        self.before, self.after = state["before"], state["after"]
        self.model.load_state_dict(state["model"])
        # stage of the last step done; the next step may start another
        last = max(0, self.step - 1)
        self.model.begin_stage(self.schedule.stage(last)[1], first=False)
        self.optimizer = self.schedule.optimizer(self.model, last)
        if self.step:
            self.optimizer.load_state_dict(state["optimizer"])


def _means(terms: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each term over the steps that have it."""
    names = dict.fromkeys(name for step in terms for name in step)
    return {k: mean(step[k] for step in terms if k in step) for k in names}
