"""Threads that read the windows of a batch at the same time.

One thread reads some 130 megapixels of a JPEG pyramid per second, and nearly all of
that is decoding. A fast GPU would wait for it, however many cores there are.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from napari_uhrseg.io.image.chunk_cache import decode_in_this_thread


class ReaderThreads:
    """Pool of threads that divide the windows of a batch among themselves.

    The threads end when the object is deleted.

    Parameters
    ----------
    count
        Number of threads, at least 1. With 1, the caller's thread does the work.
    """

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None
        if count > 1:
            self._pool = ThreadPoolExecutor(
                count, "uhrseg-read", initializer=decode_in_this_thread
            )

    def each(self, work: Callable[[int], None], count: int) -> None:
        """Call ``work`` once with each number from 0 to ``count - 1``.

        Neighbouring numbers go to one thread. No call runs any more when this ends.

        Raises
        ------
        Exception
            The error of the lowest number whose call failed.
        """
        numbers = range(count)
        parts = min(self._count, count)
        if self._pool is None or parts < 2:
            _call(work, numbers)
            return
        futures = [
            self._pool.submit(_call, work, numbers[i * count // parts : j])
            for i, j in ((i, (i + 1) * count // parts) for i in range(parts))
        ]
        wait(futures)
        for future in futures:
            future.result()


def _call(work: Callable[[int], None], numbers: range) -> None:
    for number in numbers:
        work(number)
