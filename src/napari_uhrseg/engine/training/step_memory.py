"""How a step of learning keeps to a memory budget."""

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
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.types import HELD_OUT, IGNORED, Recipe, Stage
from napari_uhrseg.units import format_bytes

MIN_SAMPLES = 2  # samples at a time: normalisation needs them
KERNEL_OVERHEAD = 1.5  # what convolutions use for themselves, over live tensors
WEIGHT_COPIES = 4  # of the weights: themselves, gradients, two moments
TEACHER_COPIES = 2  # copies besides, of one that teaches: its own, what is kept of both


@dataclass(frozen=True)
class LossWeights:
    """Of a step's pixels, what a part has: of those that teach, and of the others.

    Losses are means over pixels: weighted by these, those of parts add up to that of
    the whole.
    """

    labelled: float
    unlabelled: float


FULL_BATCH = LossWeights(1.0, 1.0)


@dataclass(frozen=True)
class StepMemoryPlan:
    """How the samples of a step share the memory.

    Parameters
    ----------
    at_once
        Samples whose activations are held at a time, at most; gradients add up over
        a step's batch.
    recomputes
        Whether blocks keep only what goes in, and run again for their gradient.
    offloads
        Whether what is kept lies in main memory; on a GPU.
    cache
        Bytes of decoded chunks of images that are kept, at most.
    """

    micro_batch_size: int
    recompute: bool = False
    offload: bool = False
    cache: int = CHUNK_CACHE_BYTES[0]

    def summary(self, batch: int) -> str:
        """Of steps of so many samples."""
        said = [f"{batch} samples a step"]
        if self.micro_batch_size < batch:
            said.append(f"{self.micro_batch_size} at a time")
        if self.recompute:
            said.append("layers computed twice")
        if self.offload:
            said.append("activations kept in main memory")
        return ", ".join(said)

    @contextmanager
    def applied_to(self, model: Segmenter) -> Iterator[None]:
        """Forward and backward passes of the model in it keep no more."""
        with ExitStack() as stack:
            if self.recompute:
                stack.enter_context(checkpoint_blocks(model))
            if self.offload:
                stack.enter_context(save_on_cpu(pin_memory=True))
            yield

    def micro_batches(self, batch: Batch) -> list[tuple[Batch, LossWeights]]:
        """The batch in parts as large, or smaller by one; neighbours are parted."""
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


def _count(target: Tensor | None, chosen: Callable[[Tensor], Tensor]) -> int:
    assert target is not None
    return int(chosen(target).sum())


def plan_step_memory(
    model: Segmenter,
    recipe: Recipe,
    budget: MemoryBudget,
    teacher: Segmenter | None = None,
) -> tuple[int, StepMemoryPlan]:
    """The samples of a step, and how they are worked within a budget.

    The recipe's, at once where there is room; else on a CPU fewer chunks of images are
    kept; else blocks are recomputed; else on a GPU what is kept lies in main memory;
    else gradients add up over parts of two samples or more, whose normalisation sees
    fewer. An odd step has one sample less where there is room for two at a time.

    Parameters
    ----------
    teacher
        The network whose answers are held besides.

    Raises
    ------
    DeviceError
        Not even two samples fit.
    """
    wanted, cuda = recipe.batch_size, budget.device.startswith("cuda")
    held = fixed_training_memory(
        model, wanted, budget.device, distills=teacher is not None
    )
    caches = CHUNK_CACHE_BYTES if budget.device == "cpu" else (0,)
    answer = 0
    if teacher is not None:
        answer = activation_bytes(teacher, _frame(teacher))
    ways = [StepMemoryPlan(wanted)]
    if budget.device != "mps":  # whose random numbers cannot be had a second time
        ways += [StepMemoryPlan(wanted, True)] + [
            StepMemoryPlan(wanted, True, True)
        ] * cuda
    tried = []
    for way in ways:
        cost = sample_memory(model, way, recipe.stages, teacher is not None)
        each = KERNEL_OVERHEAD * (cost.device + answer)
        for cache in caches:
            room = int((budget.device_bytes - held - cache) / each)
            if way.offload:
                room = min(room, budget.host_bytes // max(1, cost.host))
            found = replace(way, cache=cache or CHUNK_CACHE_BYTES[0])
            if room >= wanted:
                return wanted, found
        tried.append((room, found, each))
    room, way, _ = max(tried, key=lambda found: found[0])
    if room < MIN_SAMPLES:
        least = min(each for _, _, each in tried)
        needed = int(held + caches[-1] + MIN_SAMPLES * least)
        names = {d.id: d.name for d in devices()}
        raise DeviceError(
            f"Two samples at a time, the fewest to learn from, take "
            f"{format_bytes(needed)} on {names.get(budget.device, budget.device)}; "
            f"the budget is {format_bytes(budget.device_bytes)}.",
            f"Allow at least {format_bytes(needed)}, or begin with a checkpoint of a "
            "smaller window or a smaller network.",
        )
    parts = -(-wanted // room)
    if wanted // parts < MIN_SAMPLES:
        wanted -= 1
        parts = wanted // MIN_SAMPLES
    return wanted, replace(way, micro_batch_size=-(-wanted // parts))


def fixed_training_memory(
    model: Segmenter, batch: int, device: str, *, distills: bool
) -> int:
    """What learning holds of a device's memory whatever a sample takes, in bytes.

    Weights with all that belongs to them, batches on their way, the program.
    """
    weights = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    held = (WEIGHT_COPIES + TEACHER_COPIES * distills) * weights
    fed = batch * _fed(model)
    if device == "cpu":
        return held + PROGRAM_BYTES + (DEPTH + 2) * fed
    return held + fed + (CUDA_CONTEXT_BYTES if device.startswith("cuda") else 0)


def _fed(model: Segmenter) -> int:
    """Bytes of a sample's views and targets."""
    spec, meta = model.spec, torch.device("meta")
    views = zero_batch(spec, 1, _frame(model), meta).views.values()
    around = [v.extent for v in spec.views.values() if v.off_centre]
    sides = [spec.window, *(n for n in around[:1] if isinstance(n, int))]
    return sum(v.nbytes for v in views) + sum(8 * side**2 for side in sides)


class SampleMemory(NamedTuple):
    """What a sample takes while a step learns from it, in bytes."""

    device: int
    host: int


def sample_memory(
    model: Segmenter,
    way: StepMemoryPlan | None = None,
    stages: Sequence[Stage] = (),
    distills: bool = False,
) -> SampleMemory:
    """Activations and their gradients for one sample, and what lies in main memory.

    Traced like a run's, on tensors without memory; the most of the stages, and with
    the loss twice where a teacher's answers are learnt besides.
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
        for name, parameter in shadow.named_parameters():
            trains = not stage.trains or name.startswith(stage.trains)
            parameter.requires_grad_(trains)
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
    """As torch's ``save_on_cpu``, for tensors without memory: counted, not moved."""

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
    """Of a sample: as large as a window."""
    side = model.spec.window
    return None if model.spec.frame is None else (side, side)
