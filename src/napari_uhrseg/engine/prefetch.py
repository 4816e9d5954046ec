"""Prefetching: a thread that reads while the network computes."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import torch

T = TypeVar("T")

DEPTH = 2  # items that have been read and not taken yet


class Prefetcher(Generic[T]):
    """Iterator that computes the items of another one ahead, in a thread.

    At most ``depth`` + 2 items exist at once. An exception of the iterator is raised
    where it would have been without the thread.

    Torch has one CPU thread in that thread. With more, there are more threads than
    cores, and those of the network wait at every barrier: a network of 23 ms a window
    took 1.3 times as long.

    Parameters
    ----------
    items
        The iterator, which runs in the thread.
    depth
        Number of items computed ahead, at least 0. With 0 there is no thread, and
        one item at a time.
    """

    def __init__(self, items: Iterator[T], depth: int = DEPTH) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[str, T | BaseException | None]]
        self._queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._alone = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name="uhrseg-prefetch", daemon=True
        )
        self._threaded = depth > 0
        if self._threaded:
            threads = torch.get_num_threads()
            self._thread.start()
            self._alone.wait()
            torch.set_num_threads(
                threads
            )  # the number that other new threads start with

    def __iter__(self) -> Iterator[T]:
        if not self._threaded:
            yield from self._items
            return
        while True:
            kind, item = self._queue.get()
            if kind == "end":
                return
            if isinstance(item, BaseException) and kind == "error":
                raise item
            yield item  # type: ignore[misc]
            del item  # frees its memory while the next one is computed

    @property
    def ready(self) -> bool:
        """Return whether an item is available without waiting."""
        return not self._queue.empty()

    def close(self) -> None:
        """End the thread, and wait for the item that it computes."""
        self._stop.set()
        if not self._threaded:
            return
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _work(self) -> None:
        # without this call, torch forgets the next line at its first work here
        torch.get_num_threads()
        torch.set_num_threads(1)
        self._alone.set()
        try:
            for item in self._items:
                if not self._put("item", item):
                    return
            self._put("end", None)
        except BaseException as error:  # noqa: BLE001  it is raised in __iter__
            self._put("error", error)

    def _put(self, kind: str, item: T | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put((kind, item), timeout=0.05)
            except queue.Full:
                continue
            return True
        return False
