"""The engine's thread that reads while the network works."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import torch

T = TypeVar("T")

DEPTH = 2  # items read and not yet taken


class Prefetcher(Generic[T]):
    """Runs an iterator in a thread, ``depth`` items ahead of who iterates this.

    At most ``depth`` + 2 items exist at once; with a depth of 0 there is no thread,
    and one item at a time. An exception of the iterator is
    raised where it would have been without the thread. ``close`` ends the thread
    and waits for the item it is making.

    Torch has one CPU thread in it: with a team of its own there are more threads than
    cores, those of the network then sleep at every barrier, and a network of 23 ms a
    window took 1.3 times as long.
    """

    def __init__(self, items: Iterator[T], depth: int = DEPTH) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[str, T | BaseException | None]]
        self._queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._alone = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name="uhrseg-read-ahead", daemon=True
        )
        self._threaded = depth > 0
        if self._threaded:
            threads = torch.get_num_threads()
            self._thread.start()
            self._alone.wait()
            torch.set_num_threads(threads)  # what other new threads begin with

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
            del item  # or it would live on while the next one is waited for

    @property
    def ready(self) -> bool:
        """Whether there is an item that need not be waited for."""
        return not self._queue.empty()

    def close(self) -> None:
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
        torch.get_num_threads()  # or torch forgets the next line at its first work here
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
