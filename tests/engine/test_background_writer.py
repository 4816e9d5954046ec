import threading
from contextlib import closing

import pytest

from napari_uhrseg.engine.background_writer import BackgroundWriter


def test_background_writer_yields_finished_writes():
    gate, done = threading.Event(), []

    def slow():
        assert gate.wait(10)
        done.append("a")

    with closing(BackgroundWriter[str]()) as writing:
        writing.submit(slow, "first")
        assert list(writing.written(most=1)) == []  # one may wait
        writing.submit(lambda: done.append("b"), "second")
        gate.set()
        told = next(writing.written(most=1))
        assert told == "first"
        assert done[:1] == ["a"]
        assert list(writing.written()) == ["second"]
        assert done == ["a", "b"]


def test_background_writer_close_waits_for_writes():
    gate, done = threading.Event(), []
    threading.Timer(0.2, gate.set).start()
    with closing(BackgroundWriter[None]()) as writing:
        writing.submit(lambda: done.append(gate.wait(10)), None)
    assert done == [True]


def test_background_writer_raises_error_of_write():
    def full():
        raise OSError("disk full")

    with closing(BackgroundWriter[None]()) as writing:
        writing.submit(full, None)
        with pytest.raises(OSError, match="disk full"):
            list(writing.written())
