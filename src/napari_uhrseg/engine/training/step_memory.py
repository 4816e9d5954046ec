"""Memory of a training step, and the plan that keeps it within the budget.

The techniques are tried in this order: a smaller chunk cache (CPU), gradient
checkpointing (Chen et al. 2016), offloading of activations to main memory (GPU), and
gradient accumulation over micro-batches.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

from napari_uhrseg.engine.network.activation_memory import (
    LivePeakCounter,
    activation_bytes,
    on_meta_device,
    zero_batch,
)
from napari_uhrseg.engine.network.device import MemoryBudget, devices
from napari_uhrseg.engine.planning.memory_estimate import (
    CHUNK_CACHE_BYTES,
    CUDA_CONTEXT_BYTES,
    PROGRAM_BYTES,
)
from napari_uhrseg.engine.prefetch import DEPTH
from napari_uhrseg.engine.training.gradient_checkpointing import checkpoint_blocks
from napari_uhrseg.engine.training.stage_parameters import set_trainable
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.types import HELD_OUT, IGNORED, Recipe, Stage
from napari_uhrseg.units import format_bytes

MIN_SAMPLES = 2  # of a micro-batch, for batch normalisation
KERNEL_OVERHEAD = 1.5  # factor for the workspace of convolutions, over live tensors
WEIGHT_COPIES = 4  # weights, gradients and two moments of the optimizer
MAX_FEATURES = 1 << 30  # bytes of cached features of a frozen encoder
TEACHER_COPIES = 2  # further copies for distillation: teacher, and weights to save


@dataclass(frozen=True)
class LossWeights:
    """Shares of a step's labelled and unlabelled pixels in a micro-batch, 0 to 1.

    Losses are means over pixels. With these weights, the losses of the micro-batches
    add up to the loss of the whole batch.
    """

    labelled: float
    unlabelled: float


FULL_BATCH = LossWeights(1.0, 1.0)


@dataclass(frozen=True)
class StepMemoryPlan:
    """Plan of the techniques that keep a training step within its memory budget.

    Parameters
    ----------
    micro_batch_size
        Largest number of samples in one forward and backward pass, at least 2.
        Gradients accumulate over the batch of a step.
    recompute
        If True, gradient checkpointing is used.
    offload
        If True, saved activations are moved to main memory (GPU only).
    cache
        Largest size in bytes of the cache of decoded image chunks.
    features
        Largest size in bytes of the cache of a frozen encoder's features.
    """

    micro_batch_size: int
    recompute: bool = False
    offload: bool = False
    cache: int = CHUNK_CACHE_BYTES[0]
    features: int = 0

    def summary(self, batch: int) -> str:
        """Return the plan as a message, for steps of ``batch`` samples."""
        said = [f"{batch} samples a step"]
        if self.micro_batch_size < batch:
            said.append(f"{self.micro_batch_size} at a time")
        if self.recompute:
            said.append("layers computed twice")
        if self.offload:
            said.append("activations kept in main memory")
        return ", ".join(said)

    def limited(self, batch: int) -> bool:
        """Return True if more memory would allow a step in one pass."""
        return self.recompute or self.micro_batch_size < batch

    def identity(self, batch: int) -> list[int]:
        """Return the values of the plan that affect the trained weights."""
        return [self.micro_batch_size] if self.micro_batch_size < batch else []

    @contextmanager
    def applied_to(self, model: Segmenter) -> Iterator[None]:
        """Apply checkpointing and offloading to passes of the model in this context."""
        with ExitStack() as stack:
            if self.recompute:
                stack.enter_context(checkpoint_blocks(model))
            if self.offload:
                stack.enter_context(save_on_cpu(pin_memory=True))
            yield

    def micro_batches(self, batch: Batch) -> list[tuple[Batch, LossWeights]]:
        """Split a batch into micro-batches with their loss weights.

        Sizes differ by at most one. Neighbouring samples go to different micro-batches.
        """
        count = -(-len(batch) // self.micro_batch_size)
        if count < 2:
            return [(batch, FULL_BATCH)]
        parts = [batch[torch.arange(k, len(batch), count)] for k in range(count)]
        labelled = [_count(p.target, lambda t: t < HELD_OUT) for p in parts]
        unlabelled = [_count(p.target, lambda t: t == IGNORED) for p in parts]
        return [
            (part, LossWeights(n / max(1, sum(labelled)), m / max(1, sum(unlabelled))))
            for part, n, m in zip(parts, labelled, unlabelled, strict=True)
        ]


Estimate = Callable[[Segmenter, StepMemoryPlan, Sequence[Stage], bool], "SampleMemory"]


def _count(target: Tensor | None, chosen: Callable[[Tensor], Tensor]) -> int:
    assert target is not None
    return int(chosen(target).sum())


def plan_step_memory(
    model: Segmenter,
    recipe: Recipe,
    budget: MemoryBudget,
    teacher: Segmenter | None = None,
    *,
    estimate: Estimate | None = None,
) -> tuple[int, StepMemoryPlan]:
    """Choose the batch size of a step and the techniques that fit it into a budget.

    The first of these that fits is chosen: the whole batch; a smaller chunk cache
    (CPU); gradient checkpointing; offloading to main memory (GPU); gradient
    accumulation over micro-batches of two samples or more. Their batch normalisation
    uses fewer samples. An odd batch loses one sample if only two fit at a time.

    Parameters
    ----------
    model, recipe
        The network to train; batch size and stages.
    budget
        Device, and bytes of its memory and of main memory.
    teacher, estimate
        The original network, for knowledge distillation (``None``: none), and the
        function that estimates the memory of a sample (``None``: `sample_memory`).

    Returns
    -------
    Samples of a step, and the plan.

    Raises
    ------
    DeviceError
        If fewer than two samples fit.
    """
    wanted = recipe.batch_size
    fixed = fixed_training_memory(model, wanted, budget.device, distills=bool(teacher))
    caches = CHUNK_CACHE_BYTES if budget.device == "cpu" else (0,)
    teacher_bytes = activation_bytes(teacher, _frame(teacher)) if teacher else 0
    tried = []
    for way in _techniques(wanted, budget.device):
        costs = [
            (estimate or sample_memory)(model, way, (stage,), bool(teacher))
            for stage in recipe.stages
        ]
        each = KERNEL_OVERHEAD * (max(c.device for c in costs) + teacher_bytes)
        for cache in caches:
            room = int((budget.device_bytes - fixed - cache) / each)
            if way.offload:
                room = min(room, budget.host_bytes // max(1, *(c.host for c in costs)))
            found = replace(way, cache=cache or CHUNK_CACHE_BYTES[0])
            if room >= wanted:
                pairs = zip(recipe.stages, costs, strict=True)
                if frozen := [c.device for s, c in pairs if s.frozen_encoder]:
                    used = KERNEL_OVERHEAD * wanted * (max(frozen) + teacher_bytes)
                    left = int(budget.device_bytes - fixed - cache - used)
                    found = replace(found, features=min(max(0, left), MAX_FEATURES))
                return wanted, found
        tried.append((room, found, each))
    room, way, _ = max(tried, key=lambda found: found[0])
    if room < MIN_SAMPLES:
        least = min(each for _, _, each in tried)
        raise _too_little(int(fixed + caches[-1] + MIN_SAMPLES * least), budget)
    return _accumulated(way, wanted, room)


def _accumulated(
    way: StepMemoryPlan, batch: int, room: int
) -> tuple[int, StepMemoryPlan]:
    """Return the batch and a plan of micro-batches of at most ``room`` samples."""
    parts = -(-batch // room)
    if batch // parts < MIN_SAMPLES:
        batch -= 1
        parts = batch // MIN_SAMPLES
    return batch, replace(way, micro_batch_size=-(-batch // parts))


def _techniques(batch: int, device: str) -> list[StepMemoryPlan]:
    """Return plans for a whole batch, those that cost the least time first."""
    ways = [StepMemoryPlan(batch)]
    if device != "mps":  # it cannot restore random number generators
        ways.append(StepMemoryPlan(batch, recompute=True))
    if device.startswith("cuda"):
        ways.append(StepMemoryPlan(batch, recompute=True, offload=True))
    return ways


def _too_little(needed: int, budget: MemoryBudget) -> DeviceError:
    """Return the error that two samples, ``needed`` bytes, exceed the budget."""
    names = {d.id: d.name for d in devices()}
    return DeviceError(
        f"A training step needs at least two samples, which take "
        f"{format_bytes(needed)} on {names.get(budget.device, budget.device)}; "
        f"the budget is {format_bytes(budget.device_bytes)}.",
        f"Raise the budget to {format_bytes(needed)}, or choose a checkpoint with "
        "a smaller window or a smaller network.",
    )


def fixed_training_memory(
    model: Segmenter, batch: int, device: str, *, distills: bool
) -> int:
    """Return the fixed memory of a training in bytes, without activations.

    It contains weights, gradients, optimizer state, prefetched batches and the program.

    Parameters
    ----------
    model
        The network to train.
    batch
        Samples of a step.
    device
        Device id, for example ``"cpu"`` or ``"cuda:0"``.
    distills
        True if a teacher network is in memory too.
    """
    weights = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    fixed = (WEIGHT_COPIES + TEACHER_COPIES * distills) * weights
    inputs = batch * _sample_bytes(model)
    if device == "cpu":
        return fixed + PROGRAM_BYTES + (DEPTH + 2) * inputs
    return fixed + inputs + (CUDA_CONTEXT_BYTES if device.startswith("cuda") else 0)


def _sample_bytes(model: Segmenter) -> int:
    """Return the bytes of a sample's views and targets."""
    spec, meta = model.spec, torch.device("meta")
    views = zero_batch(spec, 1, _frame(model), meta).views.values()
    around = [v.extent for v in spec.views.values() if v.off_centre]
    sides = [spec.window, *(n for n in around[:1] if isinstance(n, int))]
    return sum(v.nbytes for v in views) + sum(8 * side**2 for side in sides)


class SampleMemory(NamedTuple):
    """Memory of one sample during a step in bytes, on the device and in main memory."""

    device: int
    host: int


def sample_memory(
    model: Segmenter,
    way: StepMemoryPlan | None = None,
    stages: Sequence[Stage] = (),
    distills: bool = False,
) -> SampleMemory:
    """Estimate the activations and gradients of one sample, in bytes.

    The step is traced on the meta device, with the model's own loss.

    Parameters
    ----------
    model
        The network to train.
    way
        Techniques in use; ``None``: none.
    stages
        Stages of the recipe; the largest estimate counts.
    distills
        True if the loss is computed twice, for knowledge distillation.

    Returns
    -------
    SampleMemory
        Bytes on the device and in main memory.
    """
    found = [
        _traced(model, way or StepMemoryPlan(MIN_SAMPLES), s, distills)
        for s in stages or (None,)
    ]
    return SampleMemory(*(max(each) for each in zip(*found, strict=True)))


def _traced(
    model: Segmenter, way: StepMemoryPlan, stage: Stage | None, distills: bool
) -> tuple[int, int]:
    meta, side = torch.device("meta"), model.spec.window
    shadow = on_meta_device(model)
    if stage is not None:
        shadow.begin_stage(stage, first=False)
        set_trainable(shadow, stage)
    shadow.train()
    batch = zero_batch(model.spec, MIN_SAMPLES, _frame(model), meta)
    target = torch.zeros(MIN_SAMPLES, side, side, dtype=torch.long, device=meta)
    batch = replace(batch, target=target)
    host = _MainMemory() if way.offload else nullcontext()
    here = replace(way, offload=False).applied_to(shadow)
    with LivePeakCounter(shadow) as live, here, host:
        outputs = shadow(batch)
        loss = shadow.loss(outputs, batch)["loss"]
        if distills:
            loss = loss + shadow.loss(outputs, batch)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
    there = host.peak if isinstance(host, _MainMemory) else 0
    return live.peak // MIN_SAMPLES, there // MIN_SAMPLES


class _MainMemory(saved_tensors_hooks):
    """Counter of the bytes that torch's ``save_on_cpu`` would move to main memory."""

    def __init__(self) -> None:
        self.peak = self._now = 0
        super().__init__(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> "_Packed":
        packed = _Packed(tensor.shape, tensor.dtype)
        self._now += tensor.nbytes
        self.peak = max(self.peak, self._now)
        weakref.finalize(packed, self._free, tensor.nbytes)
        return packed

    def _unpack(self, packed: "_Packed") -> Tensor:
        return torch.empty(packed.shape, dtype=packed.dtype, device="meta")

    def _free(self, count: int) -> None:
        self._now -= count


@dataclass(frozen=True)
class _Packed:
    shape: torch.Size
    dtype: torch.dtype


def _frame(model: Segmenter) -> tuple[int, int] | None:
    """Return the frame size of a sample, which is a window; None without frames."""
    side = model.spec.window
    return None if model.spec.frame is None else (side, side)
