"""How a step of learning keeps to a memory budget."""

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

from napari_uhrseg.engine.cost import (
    LivePeak,
    bytes_per_window,
    empty_batch,
    without_numbers,
)
from napari_uhrseg.engine.device import MemoryBudget
from napari_uhrseg.engine.memory import CUDA_CONTEXT
from napari_uhrseg.engine.recompute import recomputed
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.units import format_bytes

LEAST = 2  # samples at a time: normalisation needs them
KERNELS = 1.5  # what convolutions use for themselves, over live tensors
COPIES = 4  # of the weights: themselves, gradients, two moments
TEACHING = 2  # copies besides, of one that teaches: its own, what is kept of both


@dataclass(frozen=True)
class Fit:
    """How the samples of a step share the memory.

    Parameters
    ----------
    at_once
        Samples whose activations are held at a time; gradients add up over a step's
        batch, of which this is a whole part.
    recomputes
        Whether blocks keep only what goes in, and run again for their gradient.
    offloads
        Whether what is kept lies in main memory; on a GPU.
    """

    at_once: int
    recomputes: bool = False
    offloads: bool = False

    def summary(self, batch: int) -> str:
        """Of steps of so many samples."""
        said = [f"{batch} samples a step"]
        if self.at_once < batch:
            said.append(f"{self.at_once} at a time")
        if self.recomputes:
            said.append("layers computed twice")
        if self.offloads:
            said.append("what is kept in main memory")
        return ", ".join(said)

    @contextmanager
    def keeping(self, model: Segmenter) -> Iterator[None]:
        """Forward and backward passes of the model in it keep no more."""
        with ExitStack() as stack:
            if self.recomputes:
                stack.enter_context(recomputed(model))
            if self.offloads:
                stack.enter_context(save_on_cpu(pin_memory=True))
            yield

    def pieces(self, batch: Batch) -> list[Batch]:
        """The batch in parts of as many samples; neighbours go to different ones."""
        count = len(batch) // self.at_once
        if count < 2:
            return [batch]
        return [batch[torch.arange(k, len(batch), count)] for k in range(count)]


def fitting(
    model: Segmenter,
    wanted: int,
    budget: MemoryBudget,
    teacher: Segmenter | None = None,
) -> tuple[int, Fit]:
    """The samples of a step, and how they are worked within a budget.

    ``wanted`` samples, at once where there is room; else blocks are recomputed; else
    on a GPU what is kept lies in main memory; else gradients add up over parts of two
    samples or more, whose normalisation sees fewer. One sample less a step where
    parts of two do not add up.

    Parameters
    ----------
    teacher
        The network whose answers are held besides.

    Raises
    ------
    DeviceError
        Not even two samples fit.
    """
    cuda = budget.device.startswith("cuda")
    weights = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    held = COPIES * weights + (CUDA_CONTEXT if cuda else 0)
    answer = 0
    if teacher is not None:
        held += TEACHING * weights
        answer = bytes_per_window(teacher, _frame(teacher))
    ways = [Fit(wanted), Fit(wanted, True)] + [Fit(wanted, True, True)] * cuda
    tried = []
    for way in ways:
        cost = bytes_per_sample(model, way)
        each = KERNELS * (cost.device + answer)
        room = int((budget.device_bytes - held) / each)
        if way.offloads:
            room = min(room, budget.host_bytes // max(1, cost.host))
        if room >= wanted:
            return wanted, way
        tried.append((room, way, each))
    room, way, each = max(tried, key=lambda found: found[0])
    if room < LEAST:
        needed = int(held + LEAST * each)
        raise DeviceError(
            f"Learning takes {format_bytes(needed)} on {budget.device}, and the "
            f"budget is {format_bytes(budget.device_bytes)}.",
            "Allow more memory, or choose a checkpoint with a smaller window.",
        )
    parts = -(-wanted // room)
    at_once = max(LEAST, wanted // parts)
    return wanted // at_once * at_once, replace(way, at_once=at_once)


class Sample(NamedTuple):
    """What a sample takes while a step learns from it, in bytes."""

    device: int
    host: int


def bytes_per_sample(model: Segmenter, way: Fit | None = None) -> Sample:
    """Activations and their gradients for one sample, and what lies in main memory.

    Traced like a run's, on tensors without memory.
    """
    way = way or Fit(LEAST)
    meta, side = torch.device("meta"), model.spec.window
    shadow = without_numbers(model).train()
    batch = empty_batch(model.spec, LEAST, _frame(model), meta)
    target = torch.zeros(LEAST, side, side, dtype=torch.long, device=meta)
    batch = replace(batch, target=target)
    host = _MainMemory() if way.offloads else nullcontext()
    here = replace(way, offloads=False).keeping(shadow)
    with LivePeak(shadow) as live, here, host:
        shadow.loss(shadow(batch), batch)["loss"].backward()  # type: ignore[no-untyped-call]
    there = host.peak if isinstance(host, _MainMemory) else 0
    return Sample(live.peak // LEAST, there // LEAST)


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


def _shape(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _again(kept: tuple[torch.Size, torch.dtype]) -> Tensor:
    return torch.empty(kept[0], dtype=kept[1], device="meta")
