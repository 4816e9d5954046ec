"""What a network costs: memory, found without running it, and seconds."""

import copy
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from napari_uhrseg.engine.device import Device, running
from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.types import InputSpec
from napari_uhrseg.units import MB

KERNELS = 1.5  # convolution kernels' own memory, over that of live tensors
CUDA_CONTEXT = 600 * MB  # what the driver shows before the first tensor

PROBE = 768  # side in pixels of the largest frame that is run to measure the speed

Size = tuple[int, int]
"""Height and width of a frame in pixels."""

_bytes: weakref.WeakKeyDictionary[Segmenter, dict[Size | None, int]] = (
    weakref.WeakKeyDictionary()
)
_seconds: weakref.WeakKeyDictionary[Segmenter, dict[tuple[object, ...], float]] = (
    weakref.WeakKeyDictionary()
)


class LivePeak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors alive at once, and keeps the highest."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self._now -= self._live.pop(key, 0)


def empty_batch(
    spec: InputSpec,
    size: int = 1,
    frame: Size | None = None,
    device: torch.device | None = None,
) -> Batch:
    """A batch of zeros of the sizes the model asks for."""
    views = {}
    for name, view in spec.views.items():
        if view.extent == "frame":
            assert frame is not None
            shape = frame
        else:
            shape = (view.side, view.side)
        views[name] = torch.zeros(size, spec.channels, *shape, device=device)
    boxes = {name: torch.zeros(size, 4, device=device) for name in spec.views}
    return Batch(views, boxes)


def bytes_per_window(model: Segmenter, frame: Size | None = None) -> int:
    """Highest sum of live activations and inputs for one window, in float32.

    The forward pass is traced on torch's ``meta`` device, with tensors that have
    shapes but no memory: it costs a fraction of a second and nothing on the device.
    What convolution kernels use for themselves comes on top.

    Parameters
    ----------
    frame
        The frame's size, for models that work on frames.
    """
    known = _bytes.setdefault(model, {})
    if frame not in known:
        meta = torch.device("meta")
        # a copy of the weights for a moment; functional_call would need none, but
        # loads torch's compiler for it, which takes seconds
        shadow = copy.deepcopy(model).to(meta)
        batch = empty_batch(model.spec, 1, frame, meta)
        with torch.no_grad(), LivePeak() as live:
            shadow(batch)
        known[frame] = live.peak + sum(view.nbytes for view in batch.views.values())
    return known[frame]


def device_bytes(
    model: Segmenter, device: Device, batch_size: int, frame: Size | None = None
) -> int:
    """Upper estimate of what a batch takes on the device, weights included."""
    context = CUDA_CONTEXT if device.id.startswith("cuda") else 0
    weights = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    each = bytes_per_window(model, frame)
    return int(context + weights + each * batch_size * KERNELS)


def seconds_per_window(
    model: Segmenter,
    device: Device,
    precision: str,
    batch_size: int,
    threads: int,
    frame: Size | None = None,
) -> float:
    """Measured on zeros the first time, then remembered for the model.

    A frame larger than ``PROBE`` is measured on a part, and counted by its area.
    """
    probe, share = _probe(model.spec, frame)
    key = (device.id, precision, batch_size, threads, probe)
    known = _seconds.setdefault(model, {})
    if key not in known:
        target = torch.device(device.id)
        batch = empty_batch(model.spec, batch_size, probe, target)
        model.to(target)
        for _ in range(2):  # the first pass warms up
            start = time.perf_counter()
            with running(target, precision, threads):
                # reading a value waits for the device
                model(batch)["logits"].flatten()[0].item()
            known[key] = (time.perf_counter() - start) / batch_size
    return known[key] / share


def _probe(spec: InputSpec, frame: Size | None) -> tuple[Size | None, float]:
    """The part of a frame that is run, and its share of the frame's area."""
    if frame is None:
        return None, 1.0
    least = max(PROBE, spec.minimum)
    step = -(-least // spec.divisor) * spec.divisor
    height, width = min(frame[0], step), min(frame[1], step)
    return (height, width), height * width / (frame[0] * frame[1])
