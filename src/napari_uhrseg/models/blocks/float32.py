"""Sums that 16 bits would spoil."""

import torch
from torch import Tensor


def no_autocast(tensor: Tensor) -> torch.autocast:
    """Operations keep their operands' precision where that tensor lies.

    On torch's ``meta`` device too, where memory is traced and there is no autocast to
    turn off.
    """
    kind = "cpu" if tensor.is_meta else tensor.device.type
    return torch.autocast(kind, enabled=False)
