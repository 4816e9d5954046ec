"""Cache of the features of frozen encoders, so that they are computed once."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from napari_uhrseg.engine.training.stage_parameters import encoders
from napari_uhrseg.models.base import Segmenter


class FeatureCache:
    """Cache of the outputs of frozen encoders by the contents of their input.

    A hit has the same bits as a miss. An encoder whose input depends on trained
    parameters is computed each time.

    Parameters
    ----------
    limit
        Largest size in bytes. Further features are computed each time.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = self.hits = 0
        self._found: dict[str, Any] = {}

    def clear(self) -> None:
        """Forget all features, as the weights of the encoder have changed."""
        self._found.clear()
        self.bytes = 0

    @contextmanager
    def applied_to(self, model: Segmenter) -> Iterator[None]:
        """Use the cache for the encoders of a network in this context."""
        chosen = encoders(model)
        own = [vars(encoder).get("forward") for _, encoder in chosen]
        for name, encoder in chosen:
            encoder.forward = partial(self._features, name, encoder.forward)
        try:
            yield
        finally:
            for (_, encoder), forward in zip(chosen, own, strict=True):
                del encoder.forward  # restores the method of the class
                if forward is not None:
                    encoder.forward = forward

    def _features(self, name: str, forward: Callable[[Tensor], Any], x: Tensor) -> Any:
        if x.requires_grad:
            return forward(x)
        key = f"{name} {_hash(x)}"
        if key in self._found:
            self.hits += 1
            return _copied(self._found[key])
        with torch.no_grad():
            found = forward(x)
        size = sum(leaf.nbytes for leaf in tree_leaves(found))
        if self.bytes + size <= self.limit:
            self._found[key] = _copied(found)  # the decoder may work in place
            self.bytes += size
        return found


def _copied(maps: Any) -> Any:
    return tree_map(torch.clone, maps)


def _hash(x: Tensor) -> str:
    data = x.detach().cpu().contiguous().view(torch.uint8).numpy()
    shape = repr((tuple(x.shape), x.dtype)).encode()
    return hashlib.blake2b(data.data, digest_size=16, key=shape[:64]).hexdigest()
