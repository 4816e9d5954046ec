"""Activations that are computed twice instead of kept, or kept in main memory.

A step keeps what every layer gave until its gradient is taken. Recomputed (Chen et al.
2016, arXiv 1604.06174), only what goes into each block is kept, and the block runs
again when its gradient is due: a third more time. On a GPU, what is kept can lie in
main memory besides. Neither changes a gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

LISTS = (nn.Sequential, nn.ModuleList)

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]


@contextmanager
def checkpoint_blocks(model: nn.Module) -> Iterator[None]:
    """While it lasts, the network's blocks keep what goes in and nothing else."""
    chosen = dict.fromkeys(blocks(model))  # one may be in two places
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
            del block.forward  # the class's own again
            if forward is not None:
                block.forward = forward


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The parts that a network strings together: residual blocks, a decoder's steps.

    Those are what stands in a ``Sequential`` or ``ModuleList`` and is neither one of
    them nor a single layer; the outermost of each.
    """
    for child in model.children():
        single = isinstance(child, LISTS) or next(child.children(), None) is None
        if isinstance(model, LISTS) and not single:
            yield child
        else:
            yield from blocks(child)


def _on_copies(forward: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Some blocks (HRNet's) put their results into the list that they are given."""
    args, named = tree_map(lambda leaf: leaf, (args, named))
    return forward(*args, **named)


def _contexts_of(block: nn.Module) -> Callable[[], Contexts]:
    return lambda: (nullcontext(), _learning_nothing(block))


@contextmanager
def _learning_nothing(block: nn.Module) -> Iterator[None]:
    """Normalisation has taken a batch's statistics into account once already."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    counts = [(n, n.clone()) for m in norms if (n := m.num_batches_tracked) is not None]
    momenta = [(m, m.momentum) for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum
        for count, before in counts:
            count.copy_(before)
