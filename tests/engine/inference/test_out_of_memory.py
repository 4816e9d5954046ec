"""Out of memory in the middle of a run, step by step.

The device is fake: an allocator that refuses beyond a limit, whatever asks.
"""

from contextlib import closing

import numpy as np
import pytest
import torch

from helpers.networks import LEGEND, FrameNet, ToyNet, make_checkpoint
from helpers.segmentation import BUDGET, SETTINGS, begin_run, labels_of, of_kind
from napari_uhrseg.engine.events import (
    BlockDone,
    Finished,
    Planned,
    Progress,
    RetriedWithLess,
)
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.inference.window_runner import WindowRunner
from napari_uhrseg.engine.network.activation_memory import LivePeakCounter
from napari_uhrseg.engine.tiling.window_merge import make_merger
from napari_uhrseg.errors import DeviceError
from napari_uhrseg.io.labels.store import LabelStore

MB = 1 << 20
SMALL_FRAME = 38 * MB  # fits frames of 1,088 pixels, not those of 2,112


class Refusing(LivePeakCounter):
    """Limit on the bytes of all tensors that this thread has at once."""

    limit = 1 << 60

    def _count(self, storage):
        if storage.device.type == "meta":  # holds no memory
            return
        before = self.peak
        self.peak = 0
        super()._count(storage)
        asked, self.peak = self.peak, max(self.peak, before)
        if asked > self.limit:
            raise torch.OutOfMemoryError("fake device: out of memory. Tried to")


def run_with_limits(image, checkpoint, limits, **kwargs):
    """Run with a limit (bytes) that changes after each of so many blocks."""
    store = LabelStore.create(None, image, LEGEND)
    seen, limits = [], dict(limits)
    with Refusing(checkpoint.model) as device:
        for event in segment(image, checkpoint, store, SETTINGS, BUDGET, **kwargs):
            seen.append(event)
            if isinstance(event, Planned | BlockDone):
                done = sum(isinstance(e, BlockDone) for e in seen)
                device.limit = limits.get(done, device.limit)
    return store, seen


def retries_of(events):
    return [event.change for event in of_kind(events, RetriedWithLess)]


class Limited(ToyNet):
    """Runs out of memory above so many windows at once."""

    limit = 4

    def forward(self, batch):
        views = batch.views["local"]
        if len(views) > self.limit and not views.is_meta:
            raise torch.OutOfMemoryError("fake device: out of memory")
        return super().forward(batch)


def limited(image, limit, kind=WindowRunner, **options):
    """Run; after the first block ``limit`` windows fit, and an `OnGpu` is filled."""
    checkpoint = make_checkpoint(Limited(window=256))
    store = LabelStore.create(None, image, LEGEND)
    context = begin_run(image, checkpoint, store, **options)
    runner = kind(context, context.plan.grid)
    seen = []
    for event in runner.events(None):
        seen.append(event)
        if isinstance(event, Progress) and event.done == 16:
            runner.model.limit = limit
            if isinstance(runner, OnGpu):
                runner.fill()
    return store, seen


class OnGpu(WindowRunner):
    """Runner whose device is no longer the CPU, and has no free memory, once filled."""

    def fill(self) -> None:
        self.device = torch.device("meta")

    def logits(self, batch):
        if self.device.type != "cpu":
            raise torch.OutOfMemoryError("fake device: out of memory")
        return super().logits(batch)

    def make_merger(self, roi):
        region, cpu = self.plan.run_region(roi), torch.device("cpu")
        return make_merger(self.grid, region, len(self.ids), self.weights, cpu)


@pytest.mark.slow
def test_out_of_memory_halves_batch_of_windows(picture):
    image = picture(1024, 2048)
    whole, _ = limited(image, 4)
    store, events = limited(image, 1)
    assert retries_of(events) == ["with batches of 2", "with batches of 1"]
    assert isinstance(events[-1], Finished)
    assert (labels_of(store) == labels_of(whole)).mean() > 0.9999
    np.testing.assert_array_equal(
        labels_of(store)[:, :1024], labels_of(whole)[:, :1024]
    )


def test_out_of_memory_of_one_window_raises_with_hint(picture):
    with pytest.raises(DeviceError, match="one window") as error:
        limited(picture(1024, 2048), 0)
    assert "Finished blocks are kept" in error.value.hint


@pytest.mark.slow
def test_out_of_memory_falls_back_to_cpu_last(picture):
    image, asked = picture(1024, 2048), []

    def agree(message):
        asked.append(message)
        return True

    whole, _ = limited(image, 4)
    store, events = limited(image, 4, OnGpu, cpu_fallback=agree)
    assert len(asked) == 1
    assert "one window" in asked[0]
    assert retries_of(events) == [
        "with batches of 2",
        "with batches of 1",
        "on the CPU",
    ]
    assert (labels_of(store) == labels_of(whole)).mean() > 0.9999


def test_stop_during_cpu_fallback_question_raises_nothing(picture):
    stopped = []

    def cancelled(message):
        stopped.append(message)
        return False

    store, events = limited(
        picture(1024, 2048),
        4,
        OnGpu,
        cpu_fallback=cancelled,
        stop=lambda: bool(stopped),
    )
    assert len(stopped) == 1
    assert not isinstance(events[-1], Finished)
    assert labels_of(store)[:, :1024].all()  # finished blocks are kept


class Banded(FrameNet):
    """Fits a device in bands of 256 rows and less."""

    supports_banded = True

    def forward(self, batch):
        views = batch.views["local"]
        if views.shape[-2] > 800 and not views.is_meta:
            raise torch.OutOfMemoryError("fake device: out of memory")
        return super().forward(batch)

    def forward_banded(self, batch, rows):
        if rows > 256 and not batch.views["local"].is_meta:
            raise torch.OutOfMemoryError("fake device: out of memory")
        return super().forward(batch)["logits"]


@pytest.mark.slow
def test_out_of_memory_uses_thinner_bands_first(picture):
    checkpoint = make_checkpoint(Banded())
    store, events = run_with_limits(picture(1024, 1024), checkpoint, {})
    assert retries_of(events) == [
        f"with frames in bands of {n} rows" for n in (1024, 512, 256)
    ]
    whole, _ = run_with_limits(picture(1024, 1024), make_checkpoint(FrameNet()), {})
    np.testing.assert_array_equal(labels_of(store), labels_of(whole))


@pytest.mark.slow
def test_out_of_memory_uses_smaller_frames_and_keeps_done_cells(picture):
    image, checkpoint = picture(1024, 3072), make_checkpoint(FrameNet(frame=2112))
    whole, _ = run_with_limits(image, checkpoint, {})
    store, events = run_with_limits(image, checkpoint, {1: SMALL_FRAME})
    assert retries_of(events) == ["with frames of 1,024 x 1,088 pixels"]
    assert isinstance(events[-1], Finished)
    assert labels_of(store).all()
    assert (labels_of(store) == labels_of(whole)).mean() > 0.99
    np.testing.assert_array_equal(
        labels_of(store)[:, :2048], labels_of(whole)[:, :2048]
    )
    assert not store.pending(store.runs[0]).any()
    assert not (store.path / "frames" / "1").exists()


@pytest.mark.slow
def test_smaller_frames_remove_borders_of_larger_ones(picture):
    image, checkpoint = picture(1024, 3072), make_checkpoint(FrameNet(frame=2112))
    with (
        LabelStore.create(None, image, LEGEND) as store,
        Refusing(checkpoint.model) as device,
        closing(segment(image, checkpoint, store, SETTINGS, BUDGET)) as events,
    ):
        for event in events:
            if isinstance(event, BlockDone):
                device.limit = SMALL_FRAME
                assert list(store.path.glob("frames/1/*/*.npz"))
            if isinstance(event, RetriedWithLess):
                break
        assert not list(store.path.glob("frames/1/*/*.npz"))


def test_out_of_memory_of_smallest_frame_raises(picture):
    image, checkpoint = picture(1024, 2048), make_checkpoint(FrameNet(frame=1088))
    with pytest.raises(DeviceError, match="a frame of") as error:
        run_with_limits(image, checkpoint, {0: MB})
    assert "lower the memory budget" in error.value.hint
