"""Optimisation of a network for inference.

Batch normalisation is folded into the convolution before it. Weights are rounded to
the run's precision once; autocast would round them in every forward pass. Together
this saves 10 to 20 % of a pass (``docs/benchmarks.md``).
"""

import copy
from collections.abc import Callable, Container, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from napari_uhrseg.engine.network.activation_memory import on_meta_device, zero_batch
from napari_uhrseg.models.base import Segmenter

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
ACTIVATED = {"drop", "act"}  # modules after the normalisation in timm's BatchNormAct2d
# results of _pairs by network: tracing takes as long as some batches
_known: WeakKeyDictionary[nn.Module, dict[str, str]] = WeakKeyDictionary()


def optimized(model: Segmenter, precision: str) -> Segmenter:
    """Return an optimised copy of a network, on the CPU and channels last in memory.

    The copy's logits differ from the network's by rounding only: in fp32 by less than
    1e-4 of their standard deviation. The network, in eval mode, is not changed. An
    external network is returned as it is.
    """
    if model.external:
        return model
    memo: dict[int, Tensor] = {}  # rounded at once: no second copy in float32
    for module in model.modules():
        if precision in DTYPES and _rounded(module):
            for old in module.parameters(recurse=False):
                new = old.detach().to("cpu", DTYPES[precision], copy=True)
                memo[id(old)] = nn.Parameter(new, old.requires_grad)
    ready = copy.deepcopy(model, memo).to("cpu")
    if model not in _known:
        _known[model] = _pairs(model)
    for norm, convolution in _known[model].items():
        _fold(model, norm, convolution, ready)
    return ready.to(memory_format=torch.channels_last)


def optimized_bytes(model: Segmenter, precision: str) -> int:
    """Return an upper bound of the bytes of the optimised copy."""
    size = torch.finfo(DTYPES.get(precision, torch.float32)).bits // 8
    total = model.external_bytes
    for module in model.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        each = size if _rounded(module) else 0
        total += sum(t.numel() * (each or t.element_size()) for t in own)
    return total


def _rounded(module: nn.Module) -> bool:
    """Return whether autocast rounds the layer's weights in every pass."""
    return type(module) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def _plain_norm(module: nn.Module) -> bool:
    """Return whether it is a batch norm with statistics and at most an activation."""
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None:
        return False
    parts = {name for name, _ in module.named_children()}
    return type(module) is nn.BatchNorm2d or parts == ACTIVATED


def _pairs(model: Segmenter) -> dict[str, str]:
    """Return the names of batch norms, each with the convolution that it can fold into.

    A forward pass on torch's ``meta`` device finds them: the convolution's output goes
    to this batch norm and to nothing else in all calls, and the batch norm gets no
    other input. Layers that the pass does not reach are left out.
    """
    shadow = on_meta_device(model)
    names: dict[nn.Module, list[str]] = {}
    for name, module in shadow.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # by id; alive, so none comes twice
    takers: dict[int, nn.Module] = {}  # the batch norms that such tensors went into
    sources: dict[nn.Module, set[nn.Module | None]] = {}  # of the batch norms

    def left(module: nn.Module, _: object, output: Tensor) -> None:
        made[id(output)] = (module, output)

    def entered(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        key = id(inputs[0])
        takers[key] = module
        source = made[key][0] if key in made else None
        sources.setdefault(module, set()).add(source)

    for module in shadow.modules():
        if type(module) is nn.Conv2d:  # subclasses may change the weights
            module.register_forward_hook(left)
        elif _plain_norm(module) and len(names[module]) == 1:
            module.register_forward_pre_hook(entered)
    side = shadow.spec.divisor
    frame = -(-max(64, shadow.spec.min_side) // side) * side
    batch = zero_batch(shadow.spec, 1, (frame, frame), torch.device("meta"))
    with torch.no_grad(), _Uses(made) as uses:
        shadow(batch)
    # the batch norms after each convolution, in all its calls
    after: dict[nn.Module, set[nn.Module | None]] = {}
    for key, (convolution, _) in made.items():
        alone = uses.counts.get(key) == 1
        after.setdefault(convolution, set()).add(takers.get(key) if alone else None)
    return {
        names[norm][0]: names[convolution][0]
        for convolution, norms in after.items()
        for norm in norms
        if norm is not None and norms == {norm} and sources[norm] == {convolution}
    }


class _Uses(TorchFunctionMode):
    """Mode that counts the functions that use each tensor with an id in ``sources``."""

    def __init__(self, sources: Container[int]) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}
        self._sources = sources

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(value, Tensor) for value in tree_leaves(result)):
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor) and id(value) in self._sources:
                    self.counts[id(value)] = self.counts.get(id(value), 0) + 1
        return result


def _fold(model: Segmenter, norm: str, convolution: str, ready: Segmenter) -> None:
    """Fold a batch norm into the convolution before it, in the copy ``ready``.

    An activation inside the batch norm's module is kept.
    """
    before, after = model.get_submodule(convolution), model.get_submodule(norm)
    assert isinstance(before, nn.Conv2d)
    assert isinstance(after, nn.BatchNorm2d)
    fused = fuse_conv_bn_eval(before, after)
    folded = ready.get_submodule(convolution)
    assert isinstance(folded.weight, Tensor)
    for name, values in (("weight", fused.weight), ("bias", fused.bias)):
        assert values is not None
        there = values.detach().to("cpu", folded.weight.dtype)
        setattr(folded, name, nn.Parameter(there, requires_grad=False))
    owner, _, name = norm.rpartition(".")
    kept = ready.get_submodule(norm).children()
    setattr(ready.get_submodule(owner), name, nn.Sequential(*kept))
