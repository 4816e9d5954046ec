"""Cancellation of running work, and the part of the image to compute first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from napari_uhrseg.types import Roi

Viewport = Callable[[], Roi | None]
"""The part of the image to compute first, in level-0 pixels; None: no part."""
Stop = Callable[[], bool]
"""Function that returns True to end the work.

All threads of a network call it before each layer.
"""


class Cancelled(Exception):
    """Exception: the user asked to stop running work."""


@contextmanager
def interruptible(model: nn.Module, stop: Stop | None) -> Iterator[None]:
    """Make the network call ``stop`` before each layer of its forward pass.

    A frame may take minutes. Two layers are rarely more than a second apart.

    Raises
    ------
    Cancelled
        By the model's forward pass, if ``stop()`` returns True.
    """

    def ask(*_: object) -> None:
        if stop is not None and stop():
            raise Cancelled

    hooks = [m.register_forward_pre_hook(ask) for m in model.modules() if stop]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
