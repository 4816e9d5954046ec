"""Parallel forward passes: on a CPU, each thread runs a part of the batch."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

from napari_uhrseg.engine.network.pixel_batch import PixelBatch
from napari_uhrseg.models.base import Batch

AnyBatch = TypeVar("AnyBatch", Batch, PixelBatch)
ForwardFn = Callable[[AnyBatch], Tensor]
ForwardFuture = Callable[[], Tensor | Sequence[Tensor]]
"""Function that waits for the logits of a batch, and raises the network's errors.

It returns (N, K, window, window), or N of (K, window, window) from several threads:
one tensor of them would be a copy.
"""


class ParallelForward(Generic[AnyBatch]):
    """Thread pool that runs the forward passes of a network.

    Threads that share the work of each layer wait for the slowest thread at every
    layer. A thread that reads or writes, or another program, then delays all of them.
    Here each thread runs windows of its own and waits only at the end of a batch. All
    parts of a batch have one size, because the bits of a window's logits depend on
    the size of its batch. The next batch can start while the last one is merged.

    It is a context manager, and it can be entered several times.

    Parameters
    ----------
    forward
        The network. It is called in other threads, on a batch or a part of one.
    batch_size
        Windows per batch, at least 1.
    threads
        CPU threads, at least 1. With one part per batch, for example on a GPU (1
        thread), a pass runs in the thread that waits for it.
    """

    def __init__(
        self, forward: ForwardFn[AnyBatch], batch_size: int, threads: int
    ) -> None:
        self._forward: ForwardFn[AnyBatch] = forward
        self._threads = threads
        self.parts = _parts(batch_size, threads)
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.parts > 1:
            self._pool = ThreadPoolExecutor(
                self.parts,
                "uhrseg-forward",
                initializer=_have_threads,
                initargs=(self._threads // self.parts,),
            )
            there = threading.Barrier(self.parts + 1)
            for _ in range(self.parts):
                self._pool.submit(there.wait)
            there.wait()
            torch.set_num_threads(torch.get_num_threads())  # for other new threads
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def start(self, batch: AnyBatch) -> ForwardFuture:
        """Start the pass of a batch of N windows."""
        if self._pool is None:
            return lambda: self._forward(batch)
        each = len(batch) // _parts(len(batch), self._threads)
        parts = [batch[i : i + each] for i in range(0, len(batch), each)]
        futures = [self._pool.submit(self._forward, part) for part in parts]

        def answer() -> Sequence[Tensor]:
            wait(futures)  # none still runs when the error of another one is raised
            with torch.inference_mode():
                return [one for future in futures for one in future.result()]

        return answer


def _parts(batch_size: int, threads: int) -> int:
    """Return the largest number of equal parts, at most one per thread."""
    most = min(batch_size, threads)
    return max(n for n in range(1, most + 1) if batch_size % n == 0)


def _have_threads(count: int) -> None:
    torch.get_num_threads()  # or torch forgets the next line at its first work here
    torch.set_num_threads(count)
