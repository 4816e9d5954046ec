import threading
import time

import pytest

from napari_uhrseg.engine.readahead import DEPTH, ReadAhead


def alive() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "uhrseg-read-ahead"]


def test_gives_all_items_in_order_and_ends_its_thread():
    assert list(ReadAhead(iter(range(50)))) == list(range(50))
    time.sleep(0.1)
    assert not alive()


def test_an_error_arrives_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("disk is gone")

    ahead = iter(ReadAhead(items()))
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(ahead)


def test_close_ends_the_thread_though_nobody_takes_the_items():
    made = []

    def items():
        for i in range(10_000):
            made.append(i)
            yield i

    ahead = ReadAhead(items())
    time.sleep(0.2)
    ahead.close()
    assert not alive()
    assert len(made) <= DEPTH + 3
