"""Background writing: a thread that writes while the network computes."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Queue of writes that one thread carries out, in order."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "uhrseg-write")
        self._waiting: deque[tuple[Future[None], T]] = deque()

    def submit(self, write: Callable[[], None], then: T) -> None:
        """Call ``write()`` in the thread; `written` yields ``then`` after that."""
        self._waiting.append((self._pool.submit(write), then))

    def written(self, most: int = 0) -> Iterator[T]:
        """Yield the ``then`` of each finished write.

        Parameters
        ----------
        most
            Writes that may be left when this ends, at least 0.

        Raises
        ------
        Exception
            Any exception of a write.
        """
        while self._waiting:
            write, then = self._waiting[0]
            if len(self._waiting) <= most and not write.done():
                return
            self._waiting.popleft()
            write.result()
            yield then

    def close(self) -> None:
        """Wait for the running writes."""
        self._pool.shutdown()
