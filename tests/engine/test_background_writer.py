import threading
from contextlib import closing

import pytest

from napari_uhrseg.engine.background_writer import BackgroundWriter


def test_what_is_told_is_written_and_at_most_so_many_wait():
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


def test_closing_waits_for_what_is_under_way():
    gate, done = threading.Event(), []
    threading.Timer(0.2, gate.set).start()
    with closing(BackgroundWriter[None]()) as writing:
        writing.submit(lambda: done.append(gate.wait(10)), None)
    assert done == [True]


def test_a_write_that_fails_is_told_where_it_is_asked_for():
    def full():
        raise OSError("disk full")

    with closing(BackgroundWriter[None]()) as writing:
        writing.submit(full, None)
        with pytest.raises(OSError, match="disk full"):
            list(writing.written())
