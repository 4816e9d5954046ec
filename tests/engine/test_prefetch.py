import threading
import time

import pytest
import torch

from napari_uhrseg.engine.prefetch import DEPTH, Prefetcher


def alive() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "uhrseg-read-ahead"]


def test_gives_all_items_in_order_and_ends_its_thread():
    assert list(Prefetcher(iter(range(50)))) == list(range(50))
    for thread in alive():
        thread.join(60)
    assert not alive()


def test_an_error_arrives_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("disk is gone")

    ahead = iter(Prefetcher(items()))
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(ahead)


def test_close_ends_the_thread_though_nobody_takes_the_items():
    made = []

    def items():
        for i in range(10_000):
            made.append(i)
            yield i

    ahead = Prefetcher(items())
    time.sleep(0.2)
    ahead.close()
    assert not alive()
    assert len(made) <= DEPTH + 3


def test_torch_has_one_thread_where_items_are_made_and_all_of_them_elsewhere() -> None:
    def threads() -> list[int]:
        found: list[int] = []
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        other.start()
        other.join()
        return found

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        made = threading.Event()
        ahead = Prefetcher(
            torch.get_num_threads() for _ in range(3) if made.wait(timeout=60)
        )
        made.set()
        assert (torch.get_num_threads(), threads()) == (2, [2])
        assert list(ahead) == [1, 1, 1]
        assert (torch.get_num_threads(), threads()) == (2, [2])
    finally:
        torch.set_num_threads(before)
