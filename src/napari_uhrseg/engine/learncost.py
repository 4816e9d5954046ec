"""How many samples a step may have, within a memory budget."""

from dataclasses import replace

import torch

from napari_uhrseg.engine.cost import (
    LivePeak,
    bytes_per_window,
    empty_batch,
    without_numbers,
)
from napari_uhrseg.engine.device import MemoryBudget
from napari_uhrseg.engine.memory import CUDA_CONTEXT
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.units import format_bytes

LEAST = 2  # samples a step: normalisation needs them
KERNELS = 1.5  # what convolutions use for themselves, over live tensors
COPIES = 6  # of the weights: old, new, kept of both, gradients, two moments


def fitting_batch(model: Segmenter, wanted: int, budget: MemoryBudget) -> int:
    """At most ``wanted`` samples a step, as many as the budget allows.

    Raises
    ------
    DeviceError
        Not even two fit.
    """
    context = CUDA_CONTEXT if budget.device.startswith("cuda") else 0
    weights = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    each = KERNELS * bytes_per_sample(model)
    room = budget.device_bytes - context - COPIES * weights
    if room < LEAST * each:
        needed = int(context + COPIES * weights + LEAST * each)
        raise DeviceError(
            f"Learning takes {format_bytes(needed)} on {budget.device}, and the "
            f"budget is {format_bytes(budget.device_bytes)}.",
            "Allow more memory, or choose a checkpoint with a smaller window.",
        )
    return min(wanted, int(room / each))


def bytes_per_sample(model: Segmenter) -> int:
    """Activations, their gradients and the old model's answer for one sample.

    Traced like a run's, on tensors without memory.
    """
    meta, side = torch.device("meta"), model.spec.window
    frame = None if model.spec.frame is None else (side, side)
    shadow = without_numbers(model).train()
    batch = empty_batch(model.spec, LEAST, frame, meta)
    target = torch.zeros(LEAST, side, side, dtype=torch.long, device=meta)
    with LivePeak() as live:
        batch = replace(batch, target=target)
        shadow.loss(shadow(batch), batch)["loss"].backward()  # type: ignore[no-untyped-call]
    answer: int = bytes_per_window(model, frame)
    return int(live.peak) // LEAST + answer
