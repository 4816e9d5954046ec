"""Peak activation memory of a network, estimated by tracing it on the meta device."""

import copy
import weakref
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.types import InputSpec, View

Size = tuple[int, int]
"""Height and width of a frame in pixels."""

_bytes: weakref.WeakKeyDictionary[
    Segmenter, dict[tuple[Size | None, int | None], int]
] = weakref.WeakKeyDictionary()


def _upsampled(x: Tensor, size: Size, *_: object) -> Tensor:
    """Return the result of ``upsample_bilinear2d``, without values."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(
        (*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=layout
    )


def _normalized(x: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    """Return the results of ``native_batch_norm``, without values."""
    return torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _normalized_backward(
    gradient: Tensor, x: Tensor, *options: Any
) -> tuple[Tensor | None, ...]:
    """Return the results of ``native_batch_norm_backward``, without values."""
    made = torch.empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
    return tuple(
        t if wanted else None for t, wanted in zip(made, options[-1], strict=True)
    )


# torch computes the shapes of these in Python, from all steps of their definition.
# It takes milliseconds each: most of the time of a trace.
_aten = torch.ops.aten
_QUICK: dict[object, Callable[..., Any]] = {
    _aten.upsample_bilinear2d.default: _upsampled,
    _aten.native_batch_norm.default: _normalized,
    _aten.native_batch_norm_backward.default: _normalized_backward,
}


def _is_meta(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_meta


class LivePeakCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that counts the bytes of live tensors and records their peak.

    Weights and buffers of the network, and views of them, are not counted.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        own = chain(network.parameters(), network.buffers())
        self._live = {t.untyped_storage()._cdata: 0 for t in own}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        quick = _QUICK.get(func) if args and _is_meta(args[0]) else None
        result = quick(*args) if quick else func(*args, **(kwargs or {}))
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


def _shape(view: View, frame: Size | None) -> Size:
    if view.extent == "frame":
        assert frame is not None
        return frame
    return (view.side, view.side)


def zero_batch(
    spec: InputSpec,
    size: int = 1,
    frame: Size | None = None,
    device: torch.device | None = None,
) -> Batch:
    """Return a batch of zeros in the sizes that a model expects.

    Parameters
    ----------
    spec
        Input specification of the model.
    size
        Number of samples.
    frame
        Height and width of a frame, for models that work on frames.
    device
        Device of the tensors. None: torch's default.
    """
    views = {
        name: torch.zeros(size, spec.channels, *_shape(view, frame), device=device)
        for name, view in spec.views.items()
    }
    boxes = {name: torch.zeros(size, 4, device=device) for name in spec.views}
    return Batch(views, boxes)


def on_meta_device(model: Segmenter) -> Segmenter:
    """Return a copy on torch's ``meta`` device: its weights have shapes but no memory.

    ``functional_call`` needs no copy, but it loads torch's compiler, which takes
    seconds.
    """
    memo: dict[int, Tensor] = {
        id(b): torch.empty_like(b, device="meta") for b in model.buffers()
    }
    for p in model.parameters():
        empty = torch.empty_like(p, device="meta")
        memo[id(p)] = nn.Parameter(empty, p.requires_grad)
    return copy.deepcopy(model, memo)


def activation_bytes(
    model: Segmenter, frame: Size | None = None, rows: int | None = None
) -> int:
    """Return the peak bytes of activations and inputs of one window, in float32.

    The forward pass is traced on torch's ``meta`` device, with tensors that have
    shapes but no memory. This takes a fraction of a second and no memory on the
    device. The workspace of convolution kernels is not included; see ``profiling``.

    Parameters
    ----------
    model
        The network.
    frame
        Height and width of a frame, for models that work on frames.
    rows
        Rows of the frame that are processed at a time. None: all of them.

    Notes
    -----
    An external network cannot be traced. Its inputs alone are counted.
    """
    if model.external:
        return sum(view.side**2 for view in model.spec.views.values()) * (
            4 * model.spec.channels
        )
    known = _bytes.setdefault(model, {})
    key = (frame, rows)
    if key not in known:
        known[key] = _traced_bytes(model, frame, rows)
    return known[key]


def _traced_bytes(model: Segmenter, frame: Size | None, rows: int | None) -> int:
    shadow = on_meta_device(model).eval()
    batch = zero_batch(model.spec, 1, frame, torch.device("meta"))
    with torch.no_grad(), LivePeakCounter(shadow) as live:
        shadow(batch) if rows is None else shadow.forward_banded(batch, rows)
    return int(live.peak + sum(view.nbytes for view in batch.views.values()))
