"""Gradient checkpointing: activations are computed again instead of stored.

A training step stores the output of each layer until its gradient is computed. With
gradient checkpointing (Chen et al. 2016, Training deep nets with sublinear memory cost,
arXiv 1604.06174) only the input of each block is stored. The block runs again for its
gradient, which takes about a third more time. On a GPU, the stored inputs can also be
moved to main memory (activation offloading, see `step_memory`). Neither technique
changes a gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

from napari_uhrseg.models.blocks.common import statistics_kept

LISTS = (nn.Sequential, nn.ModuleList)

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]


@contextmanager
def checkpoint_blocks(model: nn.Module) -> Iterator[None]:
    """Use gradient checkpointing for the blocks of a network in this context."""
    chosen = dict.fromkeys(blocks(model))  # one block may be used twice
    own = [(block, vars(block).get("forward")) for block in chosen]
    for block in chosen:
        block.forward = partial(
            checkpoint,
            partial(_on_copies, block.forward),
            use_reentrant=False,
            context_fn=_contexts_of(block),
        )
    try:
        yield
    finally:
        for block, forward in own:
            del block.forward  # restores the method of the class
            if forward is not None:
                block.forward = forward


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a network, for example residual blocks and decoder stages.

    A block is the outermost module in a ``Sequential`` or ``ModuleList`` that is
    neither one of these nor a single layer.
    """
    for child in model.children():
        single = isinstance(child, LISTS) or next(child.children(), None) is None
        if isinstance(model, LISTS) and not single:
            yield child
        else:
            yield from blocks(child)


def _on_copies(forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call a block with copies of its lists, as HRNet's blocks modify their input."""
    args, named = tree_map(lambda leaf: leaf, (args, named))
    return forward(*args, **named)


def _contexts_of(block: nn.Module) -> Callable[[], Contexts]:
    return lambda: (nullcontext(), statistics_kept(block))
