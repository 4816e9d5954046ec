"""Forward passes in threads of their own: the same answers, and nobody waits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from helpers.networks import LEGEND, ToyNet, make_checkpoint
from napari_uhrseg.engine.events import BlockDone, Finished
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.network.parallel_forward import ParallelForward
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.base import Batch
from napari_uhrseg.models.plain import Plain
from napari_uhrseg.types import Roi, SegmentSettings

BUDGET = MemoryBudget("cpu", 2048 << 20, 1024 << 20)


def batch(count: int) -> Batch:
    return Batch({"local": torch.arange(float(count))})


@pytest.mark.parametrize(
    ("size", "threads", "parts"),
    [
        (4, 2, (2, 2)),
        (4, 4, (1, 1, 1, 1)),
        (4, 3, (2, 2)),
        (2, 6, (1, 1)),
        (3, 2, (3,)),
    ],
)
def test_a_batch_is_divided_evenly_and_put_together_in_order(size, threads, parts):
    before = torch.get_num_threads()
    seen: list[tuple[int, int]] = []

    def forward(part: Batch) -> torch.Tensor:
        seen.append((len(part), torch.get_num_threads()))
        return part.views["local"] * 2

    with ParallelForward(forward, size, threads) as passes:
        answer = passes.start(batch(size))()
        assert [float(one) for one in answer] == [2.0 * n for n in range(size)]
    if len(parts) > 1:
        assert sorted(seen) == [(n, threads // len(parts)) for n in parts]
    assert torch.get_num_threads() == before


def test_the_caller_and_new_threads_keep_their_threads_of_torch():
    before = torch.get_num_threads()
    with ParallelForward(lambda part: part.views["local"], 4, 4) as passes:
        passes.start(batch(4))()
        assert torch.get_num_threads() == before
        with ThreadPoolExecutor(1) as other:
            assert other.submit(torch.get_num_threads).result() == before


def test_it_can_be_entered_again():
    passes = ParallelForward(lambda part: part.views["local"], 2, 2)
    for _ in range(2):
        with passes:
            assert [int(one) for one in passes.start(batch(2))()] == [0, 1]


def test_with_one_thread_a_pass_runs_where_it_is_waited_for():
    here = []
    with ParallelForward(
        lambda part: here.append(threading.current_thread()), 4, 1
    ) as passes:
        assert passes.parts == 1
        answer = passes.start(batch(4))
        assert not here
        answer()
    assert here == [threading.current_thread()]


def test_the_next_pass_begins_before_the_last_is_waited_for():
    begun, go_on = threading.Semaphore(0), threading.Event()

    def forward(part: Batch) -> torch.Tensor:
        begun.release()
        assert go_on.wait(20)
        return part.views["local"]

    with ParallelForward(forward, 2, 2) as passes:
        answer = passes.start(batch(2))
        assert begun.acquire(timeout=300)
        assert begun.acquire(timeout=300)  # both parts, and nobody waits for them
        go_on.set()
        assert [int(one) for one in answer()] == [0, 1]


def test_what_a_part_raises_is_raised_once_all_have_ended():
    ended = []

    def forward(part: Batch) -> torch.Tensor:
        if 0 in part.views["local"]:
            raise torch.OutOfMemoryError("too little")
        threading.Event().wait(0.2)
        ended.append(part)
        return part.views["local"]

    with ParallelForward(forward, 2, 2) as passes:
        answer = passes.start(batch(2))
        with pytest.raises(torch.OutOfMemoryError):
            answer()
        assert len(ended) == 1


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0, 16])
def test_labels_do_not_depend_on_the_threads(overlap):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (1100, 300, 3), np.uint8)
    image = image_from_array(pixels, name="noise", rgb=True)
    checkpoint = make_checkpoint(ToyNet())
    found = []
    for threads in (1, 2, 3):
        settings = SegmentSettings(
            device="cpu", precision="fp32", overlap=overlap, threads=threads,
            batch_size=4,
        )  # fmt: skip
        before = torch.get_num_threads()
        with LabelStore.create(None, image, LEGEND) as store:
            for event in segment(image, checkpoint, store, settings, BUDGET):
                if isinstance(event, BlockDone):
                    assert torch.get_num_threads() == before
            assert isinstance(event, Finished)
            assert event.failed == 0
            found.append(read_array(store.prediction[0], Roi(0, 0, 1100, 300).slices))
    assert found[0].all()
    for other in found[1:]:
        assert (other == found[0]).mean() > 0.9999


@pytest.mark.slow
def test_a_windows_bits_do_not_depend_on_its_place_in_a_batch():
    """With threads that divide a batch, and with some that do not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Plain(3, encoder="resnet18", window=64).eval()
        views = torch.randn(4, 3, 64, 64)

    def forward(part: Batch) -> torch.Tensor:
        with torch.inference_mode():
            return model(part)["logits"]

    for threads in (2, 3, 4):
        with ParallelForward(forward, 4, threads) as passes:
            one = passes.start(Batch({"local": views}))()
            other = passes.start(Batch({"local": views.flip(0)}))()
        assert all(map(torch.equal, one, reversed(list(other))))


def test_memory_that_runs_out_in_a_thread_halves_the_batch():
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    image = image_from_array(pixels, name="noise", rgb=True)

    class Small(ToyNet):
        planned = False

        def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
            views = batch.views["local"]
            if Small.planned and len(views) > 1:
                raise torch.OutOfMemoryError("fake device: out of memory")
            return super().forward(batch)

    whole, small = make_checkpoint(ToyNet()), make_checkpoint(Small())
    settings = SegmentSettings(device="cpu", precision="fp32", threads=2, batch_size=4)
    found = []
    for checkpoint in (whole, small):
        with LabelStore.create(None, image, LEGEND) as store:
            run = segment(image, checkpoint, store, settings, BUDGET)
            next(run)
            Small.planned = checkpoint is small
            events = list(run)
            found.append(read_array(store.prediction[0], Roi(0, 0, 300, 400).slices))
    assert [e.batch_size for e in events if hasattr(e, "batch_size")] == [2]
    assert (found[0] == found[1]).mean() > 0.9999
