"""``train()``: a network learns from labelled scenes, by its own loss and recipe.

::

    read-ahead thread             the generator (caller's thread)
    -----------------             -------------------------------
    batch of step s        ->     forward, loss, backward, step       -> Progress
    (function of seed, s)         every so often: the held-out scenes -> Validated
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from napari_uhrseg.engine.device import choose_precision, find_device, out_of_memory
from napari_uhrseg.engine.events import Progress, Saved, Trained, TrainEvent, Validated
from napari_uhrseg.engine.metrics import Counter, Cover, label_scene
from napari_uhrseg.engine.readahead import ReadAhead
from napari_uhrseg.engine.recipe import CardText, Schedule, TrainSettings
from napari_uhrseg.engine.samples import SampleSource, batches
from napari_uhrseg.errors import DeviceError, TrainingError
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.checkpoint import save_checkpoint
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card

__all__ = ["CardText", "TrainSettings", "train"]

SAVE_SECONDS = 60.0  # a killed training loses at most about that much


def train(
    source: SampleSource,
    output: Path | str,
    settings: TrainSettings,
    *,
    resume: bool = True,
    overwrite: bool = False,
) -> Iterator[TrainEvent]:
    """Train, keep the best checkpoint, and yield events as it goes.

    Parameters
    ----------
    source
        What to learn from. With no held-out scene the last checkpoint is kept.
    output
        The checkpoint to write; ``<output>.state`` lies beside it until the end.
    resume
        Go on from the state file if there is one; else start anew.
    overwrite
        Replace a finished checkpoint that is there.

    Yields
    ------
    TrainEvent
        ``Progress`` each step and each batch of a validation, ``Trained`` every
        ``log_every`` steps, ``Validated``, ``Saved``. ``close()`` stops there and
        keeps the state.

    Raises
    ------
    TrainingError
        The output exists, the state is of another training, a number of the
        settings cannot be, or the loss is not finite.
    CheckpointError
        The model cannot be built.
    DeviceError
        The device is missing or its memory too small for the batch.
    """
    training = _Training(source, Path(output), settings)
    training.prepare(resume, overwrite)
    try:
        yield from training.run()
    finally:
        training.close()


class _Training:
    """One training: everything that changes while it goes on."""

    def __init__(
        self, source: SampleSource, output: Path, settings: TrainSettings
    ) -> None:
        self.settings, self.output = settings, output
        self.state_path = output.with_name(output.name + ".state")
        device = find_device(settings.device)
        self.precision = choose_precision(settings.precision, device)
        if self.precision == "fp16":
            raise TrainingError(
                "Training in half precision (fp16) loses small gradients.",
                "Choose auto, fp32 or bf16.",
            )
        self.device = torch.device(device.id)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            extra = {"pretrained": True} if settings.pretrained else {}
            arguments = {**settings.arguments, **extra}
            self.model = build(settings.model, arguments, source.legend)
        self.model.spec = replace(
            self.model.spec,
            value_range=settings.value_range or self.model.spec.value_range,
            pixel_size=settings.pixel_size,
        )
        self.model.to(self.device)
        self.model.to(memory_format=torch.channels_last)  # quicker, also on the CPU
        self.schedule = Schedule(settings.recipe(self.model.recipe))
        self.batch_size = self.schedule.recipe.batch_size
        self.source = source.fitted(self.model.spec)
        self.total = self.schedule.total
        self.step = self.validated = 0  # steps done
        self.best = -math.inf
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

    # -- the training itself ----------------------------------------------------

    def run(self) -> Iterator[TrainEvent]:
        if self._validation_is_due():  # stopped in the midst of one
            yield from self._validate()
        steps = range(self.step, self.total)
        spec, seed = self.model.spec, self.settings.seed
        feed = batches(self.source, spec, self.batch_size, seed, steps)
        started = saved = time.monotonic()
        terms: list[dict[str, float]] = []
        with closing(ReadAhead(feed)) as ahead:
            for batch in ahead:
                terms.append(self._learn(batch))
                a_step = (time.monotonic() - started) / (self.step - steps.start)
                left = a_step * (self.total - self.step)
                yield Progress(self.step, self.total, left)
                if self.step % self.settings.log_every == 0 or self.step == self.total:
                    rate = self.schedule.rate(self.step - 1)
                    yield Trained(self.step, _means(terms), rate)
                    terms = []
                if self._validation_is_due():
                    yield from self._validate()
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()

    def _learn(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser; the loss's terms."""
        if self.schedule.starts_stage(self.step):
            self.model.begin_stage(self.schedule.stage(self.step)[1], first=True)
            self.optimizer = self.schedule.optimizer(self.model, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.model.train()
        try:
            terms = self._backward(batch.to(self.device))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise DeviceError(
                f"{self.device} has too little memory to train with batches of "
                f"{self.batch_size}.",
                "Choose a smaller batch, a smaller encoder or the CPU.",
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
        devices = [self.device] if self.device.type == "cuda" else []
        low = self.precision == "bf16"
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(hash((self.settings.seed, self.step)))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
                outputs = self.model(batch)
            terms: dict[str, Tensor] = self.model.loss(outputs, batch)
            self.optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()  # type: ignore[no-untyped-call]
        return {name: float(term.detach()) for name, term in terms.items()}

    def _validation_is_due(self) -> bool:
        every = self.settings.validate_every or max(50, self.total // 10)
        border = self.step % every == 0 or self.step == self.total
        return border and self.step != self.validated

    def _validate(self) -> Iterator[TrainEvent]:
        """Score the held-out scenes; write the checkpoint if it is the best."""
        metrics: dict[str, float] = {}
        counter = Counter([c.name for c in self.source.legend])
        spec = self.model.spec
        how = Cover.of(spec, self.batch_size, self.device, self.precision)
        self.model.eval()
        for scene in self.source.held_out:
            for roi, labels in label_scene(self.model, scene, how):
                if labels is not None:
                    counter.add(labels, scene.labels(roi))
                yield Progress(self.step, self.total, None)
        if self.source.held_out:
            metrics = counter.scores().to_dict()
        # without a held-out scene the latest counts as the best
        score = metrics.get("miou", float(self.step))
        better = score > self.best
        if better:
            self.best = score
            save_checkpoint(self.output, self.model, self._card(metrics))
        self.validated = self.step
        self._save()
        if metrics:
            yield Validated(self.step, metrics, better)
        if better:
            yield Saved(self.output, self.step)

    # -- files --------------------------------------------------------------------

    def _card(self, metrics: Mapping[str, float]) -> Card:
        text = self.settings.card
        return Card(
            model=self.settings.model,
            arguments=dict(self.settings.arguments),
            legend=self.source.legend,
            spec=self.model.spec,
            name=text.name or self.output.stem,
            source=text.source,
            licence=text.licence,
            citation=text.citation,
            trained_on=text.trained_on,
            command=text.command,
            metrics={**metrics, "step": float(self.step)},
        )

    def _fingerprint(self) -> str:
        """Of everything that decides which weights come out."""
        said = asdict(self.settings)
        for free in ("card", "log_every", "validate_every"):
            del said[free]
        legend, balance = asdict(self.source.legend), self.source.balance
        text = json.dumps([said, legend, balance], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _save(self) -> None:
        """The state, whole or not at all."""
        part = self.state_path.with_name(self.state_path.name + ".part")
        state = {
            "fingerprint": self._fingerprint(),
            "step": self.step,
            "validated": self.validated,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, part)
            part.replace(self.state_path)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise TrainingError(
                f"The state {self.state_path} cannot be written: {error}.",
                "Choose a folder you may write to, with room left.",
            ) from error

    def _load(self) -> None:
        try:
            state = torch.load(self.state_path, self.device, weights_only=True)
            same = state["fingerprint"] == self._fingerprint()
        except (OSError, RuntimeError, EOFError, KeyError, TypeError,
                pickle.UnpicklingError) as error:  # fmt: skip
            raise TrainingError(
                f"The state {self.state_path} cannot be read: {error}.",
                "Delete it to start anew.",
            ) from error
        if not same:
            raise TrainingError(
                f"{self.state_path} belongs to a training with other settings.",
                "Choose another output, delete that file, or start anew.",
            )
        self.step, self.validated = state["step"], state["validated"]
        self.best = state["best"]
        self.model.load_state_dict(state["model"])
        # the stage of the last step done; a new one starts with the next step
        last = max(0, self.step - 1)
        self.model.begin_stage(self.schedule.stage(last)[1], first=False)
        self.optimizer = self.schedule.optimizer(self.model, last)
        self.optimizer.load_state_dict(state["optimizer"])


def _means(terms: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each term over the steps that had it: stages differ in theirs."""
    names = dict.fromkeys(name for step in terms for name in step)
    return {k: mean(step[k] for step in terms if k in step) for k in names}
