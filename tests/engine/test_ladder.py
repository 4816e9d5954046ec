"""Out of memory in the middle of a run, step by step.

The device is fake: an allocator that refuses beyond a limit, whatever asks.
"""

import numpy as np
import pytest
import torch
from test_frames import labels_of
from toy import LEGEND, FrameNet, ToyNet, make_checkpoint

from napari_uhrseg.engine import plan as plan_module
from napari_uhrseg.engine.cost import LivePeak
from napari_uhrseg.engine.device import MemoryBudget
from napari_uhrseg.engine.events import BlockDone, Finished, Planned, Retried
from napari_uhrseg.engine.segment import segment
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.labels import LabelStore
from napari_uhrseg.types import SegmentSettings

MB = 1 << 20
BUDGET = MemoryBudget("cpu", 2048 * MB, 1024 * MB)
ONE = SegmentSettings(device="cpu", batch_size=4, threads=1)


class Refusing(LivePeak):
    """Tensors made on this thread may not hold more than ``limit`` bytes at once."""

    limit = 1 << 60

    def _count(self, storage):
        before = self.peak
        self.peak = 0
        super()._count(storage)
        asked, self.peak = self.peak, max(self.peak, before)
        if asked > self.limit:
            raise torch.OutOfMemoryError("fake device: out of memory. Tried to")


@pytest.fixture(autouse=True)
def one_chunk_a_block(monkeypatch):
    monkeypatch.setattr(plan_module, "_block_chunks", lambda *_: 1)


def go(image, checkpoint, limits, **kwargs):
    """Run with a limit (bytes) that changes after each of so many blocks."""
    store = LabelStore.create(None, image, LEGEND)
    seen, limits = [], dict(limits)
    with Refusing() as device:
        for event in segment(image, checkpoint, store, ONE, BUDGET, **kwargs):
            seen.append(event)
            if isinstance(event, Planned | BlockDone):
                done = sum(isinstance(e, BlockDone) for e in seen)
                device.limit = limits.get(done, device.limit)
    return store, seen


def told(events):
    return [e.now for e in events if isinstance(e, Retried)]


def test_windows_halve_their_batch_and_the_labels_are_the_same(picture):
    image, checkpoint = picture(1024, 2048), make_checkpoint(ToyNet(window=256))
    whole, _ = go(image, checkpoint, {})
    held = 1024 * 1024 * 4 * 4  # the logits of a block
    each = 256 * 256 * 6 * 4  # input and logits of a window
    store, events = go(image, checkpoint, {1: held + 5 * each // 2})
    assert told(events) == ["with batches of 2"]
    assert isinstance(events[-1], Finished)
    assert (labels_of(store) == labels_of(whole)).mean() > 0.9999


def test_at_one_window_the_cpu_is_offered_and_what_is_done_stays(picture, monkeypatch):
    image, checkpoint = picture(1024, 2048), make_checkpoint(ToyNet(window=256))
    with pytest.raises(DeviceError, match="one window") as error:
        go(image, checkpoint, {1: MB})
    assert "what is done stays" in error.value.hint
    asked = []

    def agree(message):
        asked.append(message)
        return True

    store = LabelStore.create(None, image, LEGEND)
    with Refusing() as device:
        events = segment(image, checkpoint, store, ONE, BUDGET, fall_back=agree)
        seen = []
        for event in events:
            seen.append(event)
            if isinstance(event, BlockDone) and event.done == 1:
                device.limit = MB
                kept = labels_of(store)[:, :1024].copy()
                job = events.gi_yieldfrom.gi_frame.f_locals["self"]
                job.device = torch.device("meta")  # not the CPU: it may be left
                monkeypatch.setattr(job, "logits", refuse_off_cpu(job, device))
    assert asked
    assert told(seen)[-1] == "on the CPU"
    assert labels_of(store).all()
    np.testing.assert_array_equal(labels_of(store)[:, :1024], kept)


def refuse_off_cpu(job, device):
    real = job.logits

    def logits(batch):
        if job.device.type != "cpu":
            raise torch.OutOfMemoryError("fake device: out of memory")
        device.limit = 1 << 60  # main memory is another one
        return real(batch)

    return logits


class Banded(FrameNet):
    """Fits a device in bands of 256 rows and less."""

    in_bands = True

    def forward(self, batch):
        if batch.views["local"].shape[-2] > 800:
            raise torch.OutOfMemoryError("fake device: out of memory")
        return super().forward(batch)

    def coarse(self, batch, rows):
        if rows > 256:
            raise torch.OutOfMemoryError("fake device: out of memory")
        return super().forward(batch)["logits"]


def test_frames_are_worked_in_ever_thinner_bands_first(picture):
    checkpoint = make_checkpoint(Banded())
    store, events = go(picture(1024, 1024), checkpoint, {})
    assert told(events) == [
        f"with frames in bands of {n} rows" for n in (1024, 512, 256)
    ]
    whole, _ = go(picture(1024, 1024), make_checkpoint(FrameNet()), {})
    np.testing.assert_array_equal(labels_of(store), labels_of(whole))


def test_frames_shrink_where_there_are_no_bands_and_done_cells_stay(picture):
    image, checkpoint = picture(2048, 3072), make_checkpoint(FrameNet(frame=2112))
    whole, _ = go(image, checkpoint, {})
    pixels = 2112 * 2112 * 4
    store, events = go(image, checkpoint, {1: 3 * pixels})
    assert told(events) == ["with frames of 1,088 x 1,088 pixels"]
    assert isinstance(events[-1], Finished)
    assert labels_of(store).all()
    assert (labels_of(store) == labels_of(whole)).mean() > 0.99
    np.testing.assert_array_equal(
        labels_of(store)[:, :2048], labels_of(whole)[:, :2048]
    )
    assert not store.pending(store.runs[0]).any()
    assert not (store.path / "frames" / "1").exists()


def test_frames_that_cannot_shrink_say_so(picture):
    image, checkpoint = picture(1024, 2048), make_checkpoint(FrameNet(frame=1088))
    with pytest.raises(DeviceError, match="a frame of") as error:
        go(image, checkpoint, {0: MB})
    assert "lower the memory budget" in error.value.hint
