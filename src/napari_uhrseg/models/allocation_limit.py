"""Limit of the memory of a network that is built from the arguments in a file."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

RESERVE = 256 * 2**20  # bytes that a network may have beyond what its file suggests
SHARE = 8  # bytes in memory per byte of the file: float16 weights, parts for training
FACTORIES = frozenset(
    (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn,
     torch.randint, torch.arange, torch.linspace, torch.eye)
)  # fmt: skip
# without memory, random numbers are lost, and torch would load its compiler for them
INITIALISERS = frozenset(
    (init.normal_, init.uniform_, init.kaiming_uniform_, Tensor.normal_,
     Tensor.uniform_, Tensor.erfinv_)
)  # fmt: skip


class AllocationLimit(TorchFunctionMode):
    """Context in which torch creates no more tensors than a file of weights fills.

    The arguments of a network come from a file that may be damaged or forged. Its
    weights must be in the file as well, so its size bounds the network.

    Parameters
    ----------
    file_bytes
        Size of the file with the weights.
    """

    def __init__(self, file_bytes: int) -> None:
        super().__init__()
        self._left = SHARE * file_bytes + RESERVE

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch. Raises MemoryError above the limit.

        Parameters
        ----------
        func
            Function of torch.
        types
            Subclasses of tensors among the arguments.
        args, kwargs
            Arguments of the function.
        """
        named = dict(kwargs or {})
        if func in FACTORIES:
            self._left -= func(*args, **{**named, "device": "meta"}).nbytes
            if self._left < 0:
                raise MemoryError("it is much larger than the file of its weights")
        if func in INITIALISERS:
            tensor = args[0] if args else named["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **named)
