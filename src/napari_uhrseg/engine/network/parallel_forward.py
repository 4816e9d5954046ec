"""Forward passes of a run: on a CPU parts of a batch at once, a thread each."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Self

import torch
from torch import Tensor

from napari_uhrseg.models.base import Batch

ForwardFn = Callable[[Batch], Tensor]
ForwardFuture = Callable[[], Tensor]
"""Waits for the logits of a batch; raises what the network raised."""


class ParallelForward:
    """Begins forward passes; on a CPU the next batch while one is made labels of.

    A team of threads that share a network's layers waits for its slowest at each of
    them, so that a thread that reads, one that makes labels, or another program costs
    it more than their own time. Here threads have windows of their own, and wait for
    nobody but at the end of a batch. Its parts are of one size, as the bits of a
    window depend on how many are with it.

    To be entered before it is used; more than once, if need be.

    Parameters
    ----------
    forward
        The network on a batch or a part of one; called in other threads.
    batch_size, threads
        Windows of a batch, threads of the CPU. With one part (a GPU's ``threads`` are
        1), passes run where they are waited for.
    """

    def __init__(self, forward: ForwardFn, batch_size: int, threads: int) -> None:
        self._forward, self._threads = forward, threads
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

    def start(self, batch: Batch) -> ForwardFuture:
        """Begin with a batch; the answer is (N, K, window, window)."""
        if self._pool is None:
            return lambda: self._forward(batch)
        each = len(batch) // _parts(len(batch), self._threads)
        parts = [batch[i : i + each] for i in range(0, len(batch), each)]
        futures = [self._pool.submit(self._forward, part) for part in parts]

        def answer() -> Tensor:
            wait(futures)  # none goes on when another one has failed
            with torch.inference_mode():
                return torch.cat([future.result() for future in futures])

        return answer


def _parts(batch_size: int, threads: int) -> int:
    """As many as there are threads, or the most below that divide the batch."""
    most = min(batch_size, threads)
    return max(n for n in range(1, most + 1) if batch_size % n == 0)


def _have_threads(count: int) -> None:
    torch.get_num_threads()  # or torch forgets the next line at its first work here
    torch.set_num_threads(count)
