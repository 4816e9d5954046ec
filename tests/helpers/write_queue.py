"""Waiting for a queue of changes, and for what its results lead to."""

from collections.abc import Callable
from typing import Any

from napari_uhrseg.ui.correct.write_queue import WriteQueue

ROUNDS = (
    3  # a change is written; its result asks for a reading; the reading for another
)


def drain(writer: WriteQueue, until: Callable[[Callable[[], bool]], Any]) -> None:
    """Wait until all changes are written and displayed.

    Parameters
    ----------
    writer
        The queue.
    until
        Waits until a function returns True, and processes events.
    """
    for _ in range(ROUNDS):
        done: list[int] = []
        writer.submit(int, then=done.append)
        until(lambda done=done: bool(done))
