"""The one thread of the engine that writes while the network works on."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Writes one thing after another; tells what is written, in that order.

    ``close`` waits for the writes that are under way.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "uhrseg-write")
        self._waiting: deque[tuple[Future[None], T]] = deque()

    def submit(self, write: Callable[[], None], then: T) -> None:
        """Call ``write()`` in the thread; ``written`` gives ``then`` after it."""
        self._waiting.append((self._pool.submit(write), then))

    def written(self, most: int = 0) -> Iterator[T]:
        """What is written by now; waits until at most ``most`` writes are left.

        Raises
        ------
        Exception
            What a write raised.
        """
        while self._waiting:
            write, then = self._waiting[0]
            if len(self._waiting) <= most and not write.done():
                return
            self._waiting.popleft()
            write.result()
            yield then

    def close(self) -> None:
        self._pool.shutdown()
