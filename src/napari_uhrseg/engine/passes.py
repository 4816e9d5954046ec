"""Forward passes of a run: on a CPU parts of a batch at once, a thread each."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self

import torch
from torch import Tensor

from napari_uhrseg.models.base import Batch

Forward = Callable[[Batch], Tensor]
Answer = Callable[[], Tensor]
"""Waits for the logits of a batch; raises what the network raised."""


class Passes:
    """Begins forward passes; on a CPU the next batch while one is made labels of.

    A team of threads that share a network's layers waits for its slowest at each of
    them, so that a thread that reads, one that makes labels, or another program costs
    it more than their own time. Here every core has windows of its own, and waits for
    nobody but at the end of a batch. A batch is divided, so that it takes the memory
    that it takes as a whole.

    Parameters
    ----------
    forward
        The network on a batch or a part of one; called in other threads.
    batch_size, threads
        Windows of a batch, threads of the CPU. With one of either, or on another
        device than the CPU (``threads`` 1), passes run where they are waited for.
    """

    def __init__(self, forward: Forward, batch_size: int, threads: int) -> None:
        self._forward = forward
        self._parts = min(batch_size, threads)
        self._pool: ThreadPoolExecutor | None = None
        if self._parts > 1:
            self._pool = ThreadPoolExecutor(
                self._parts,
                "uhrseg-forward",
                initializer=_have_threads,
                initargs=(threads // self._parts,),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def ahead(self) -> bool:
        """Whether a pass begins before it is waited for."""
        return self._pool is not None

    def start(self, batch: Batch) -> Answer:
        """Begin with a batch; the answer is (N, K, window, window)."""
        if self._pool is None:
            return lambda: self._forward(batch)
        parts = torch.arange(len(batch)).tensor_split(min(self._parts, len(batch)))
        begun = [self._pool.submit(self._forward, batch[part]) for part in parts]

        def answer() -> Tensor:
            try:
                with torch.inference_mode():
                    return torch.cat([part.result() for part in begun])
            finally:
                for part in begun:  # none goes on when another one has failed
                    with suppress(Exception):
                        part.result()

        return answer


def _have_threads(count: int) -> None:
    torch.get_num_threads()  # or torch forgets the next line at its first work here
    torch.set_num_threads(count)
