import threading
import time

import pytest
import torch

from napari_uhrseg.engine.prefetch import DEPTH, Prefetcher


def alive() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "uhrseg-prefetch"]


def test_prefetcher_yields_items_in_order():
    assert list(Prefetcher(iter(range(50)))) == list(range(50))
    for thread in alive():
        thread.join(60)
    assert not alive()


def test_prefetcher_raises_error_after_earlier_items():
    def items():
        yield 1
        raise OSError("disk is gone")

    ahead = iter(Prefetcher(items()))
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(ahead)


def test_prefetcher_close_ends_thread():
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


def test_prefetcher_thread_has_one_torch_thread() -> None:
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
            torch.get_num_threads() for _ in range(3) if made.wait(timeout=600)
        )
        made.set()
        assert (torch.get_num_threads(), threads()) == (2, [2])
        assert list(ahead) == [1, 1, 1]
        assert (torch.get_num_threads(), threads()) == (2, [2])
    finally:
        torch.set_num_threads(before)
