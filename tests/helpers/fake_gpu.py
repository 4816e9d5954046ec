"""A GPU that torch appears to find. Its memory is main memory, and can be full."""

from threading import Event

import pytest
import torch
from torch import nn


def _on_cpu(arguments: tuple[object, ...]) -> tuple[object, ...]:
    return tuple("cpu" if _is_gpu(x) else x for x in arguments)


def _is_gpu(x: object) -> bool:
    return isinstance(x, str | torch.device) and str(x) == "mps"


def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Let torch find an Apple GPU; set the returned event to fill its memory."""
    full = Event()
    move, move_module, zeros = torch.Tensor.to, nn.Module.to, torch.zeros

    def to(tensor: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        if full.is_set() and any(_is_gpu(x) for x in arguments):
            raise torch.OutOfMemoryError("fake GPU: out of memory")
        return move(tensor, *_on_cpu(arguments), **options)

    def module_to(module: nn.Module, *arguments: object, **options: object) -> object:
        return move_module(module, *_on_cpu(arguments), **options)

    def made(*size: object, **options: object) -> torch.Tensor:
        if _is_gpu(options.get("device")):
            options["device"] = "cpu"
        return zeros(*size, **options)

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(nn.Module, "to", module_to)
    monkeypatch.setattr(torch, "zeros", made)
    return full
