"""A copy of a network that gives the same answers in less time, for running only.

Batch norms are folded into the convolutions before them, and weights are rounded to
the run's precision once instead of in every forward pass, as autocast would: together
10 to 20 % of a pass (``docs/benchmarks.md``).
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from napari_uhrseg.engine.cost import empty_batch
from napari_uhrseg.models.base import Segmenter

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
ACTIVATED = {"drop", "act"}  # what comes after the norm in timm's BatchNormAct2d


def prepared(model: Segmenter, precision: str) -> Segmenter:
    """A copy of a network in eval mode, on the CPU, channels last in memory.

    Logits differ from the network's own by rounding: by less than 1e-4 of their
    standard deviation in fp32. The network itself stays as it is.
    """
    pairs = _pairs(model)
    ready = copy.deepcopy(model).to("cpu")
    for norm, convolution in pairs.items():
        _fold(ready, norm, convolution)
    for module in ready.modules():
        if precision in DTYPES and _rounded(module):
            module.to(DTYPES[precision])
    return ready.to(memory_format=torch.channels_last)


def prepared_bytes(model: Segmenter, precision: str) -> int:
    """What the copy takes, at most."""
    size = torch.finfo(DTYPES.get(precision, torch.float32)).bits // 8
    total = 0
    for module in model.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        each = size if _rounded(module) else 0
        total += sum(t.numel() * (each or t.element_size()) for t in own)
    return total


def _rounded(module: nn.Module) -> bool:
    """Whether autocast rounds the weights of such a layer in every pass."""
    return type(module) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def _plain_norm(module: nn.Module) -> bool:
    """Whether it is a batch norm with statistics, and an activation at most."""
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None:
        return False
    parts = {name for name, _ in module.named_children()}
    return type(module) is nn.BatchNorm2d or parts == ACTIVATED


def _pairs(model: Segmenter) -> dict[str, str]:
    """Batch norms, each with the convolution whose output it alone gets: names.

    As found in a forward pass without numbers, on torch's ``meta`` device. Layers that
    the pass does not meet are left as they are.
    """
    shadow = copy.deepcopy(model).to("meta")
    names = {module: name for name, module in shadow.named_modules()}
    sources: dict[int, nn.Module] = {}  # by the output's id
    outputs: list[Tensor] = []  # alive, so that no id comes twice
    fed: dict[nn.Module, set[nn.Module | None]] = {}  # what each batch norm was fed

    def left(module: nn.Module, _: object, output: Tensor) -> None:
        sources[id(output)] = module
        outputs.append(output)

    def entered(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        fed.setdefault(module, set()).add(sources.get(id(inputs[0])))

    for module in shadow.modules():
        if type(module) is nn.Conv2d:  # others may make something of their weights
            module.register_forward_hook(left)
        elif _plain_norm(module):
            module.register_forward_pre_hook(entered)
    side = shadow.spec.divisor
    frame = -(-max(256, shadow.spec.minimum) // side) * side
    batch = empty_batch(shadow.spec, 1, (frame, frame), torch.device("meta"))
    with torch.no_grad(), _Uses(sources) as uses:
        shadow(batch)
    shared = {sources[key] for key, count in uses.counts.items() if count > 1}
    found = {}
    for norm, convolutions in fed.items():
        source = convolutions.pop()
        if convolutions or source is None or source in shared:
            continue  # now from one layer and now from another, or not from one alone
        found[names[norm]] = names[source]
    return found


class _Uses(TorchFunctionMode):
    """Counts how many functions make tensors of a tensor that is one of ``sources``."""

    def __init__(self, sources: dict[int, nn.Module]) -> None:
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


def _fold(model: Segmenter, norm: str, convolution: str) -> None:
    """Put a batch norm into the convolution before it; its activation stays."""
    before, after = model.get_submodule(convolution), model.get_submodule(norm)
    assert isinstance(before, nn.Conv2d)
    assert isinstance(after, nn.BatchNorm2d)
    fused = fuse_conv_bn_eval(before, after)
    before.weight, before.bias = fused.weight, fused.bias
    owner, _, name = norm.rpartition(".")
    setattr(model.get_submodule(owner), name, nn.Sequential(*after.children()))
