"""What the issue promises of a run, with real arithmetic and real stores."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from helpers.networks import LEGEND, ConstantNet, ToyNet, make_checkpoint
from helpers.segmentation import BUDGET, SETTINGS, begin_run, labels_of, segmenter
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Planned,
    PreviewWritten,
    Progress,
    RetriedWithLess,
)
from napari_uhrseg.engine.inference.segment import make_runner, segment
from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.engine.tiling.window_merge import WindowMerger, window_weights
from napari_uhrseg.errors import DeviceError, ReadError, StoreError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Limits, Polygon, Roi

TWO_CHUNKS = Limits(block_seconds=1e9, block_chunks=2)


@pytest.fixture
def run(tmp_path):
    """Segment into a new store; the store is open for reading afterwards."""
    return segmenter(tmp_path)


def at_once(image, checkpoint, settings, weights_kind="uniform"):
    """The same windows merged over the whole image in one piece."""
    plan = make_plan(image, checkpoint, settings, BUDGET)
    whole = Roi(0, 0, *plan.grid.shape)
    weights = window_weights(plan.run.window, plan.run.overlap, weights_kind)
    merger = WindowMerger(whole, len(LEGEND), weights, torch.device("cpu"))
    for window in plan.grid.touching(whole):
        batch = read_pixels(
            image,
            [window],
            checkpoint.card.spec,
            bands=plan.run.bands,
            value_range=plan.run.value_range,
        ).normalized(torch.device("cpu"))
        # as many as in the run: kernels depend on it
        batch = batch[torch.zeros(plan.run.batch_size, dtype=torch.long)]
        with torch.inference_mode():
            merger.add([window], checkpoint.model(batch)["logits"][:1])
    labels, confidence = merger.finish()
    return labels + 1, confidence


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0, 24])
def test_blocks_equal_merging_of_whole_image(run, picture, overlap):
    image = picture(1100, 1300)
    settings = replace(SETTINGS, overlap=overlap)
    checkpoint = make_checkpoint(ToyNet(window=128))
    store, events = run(image, checkpoint, settings)
    labels, confidence = at_once(image, checkpoint, settings)
    np.testing.assert_array_equal(labels_of(store), labels)
    np.testing.assert_array_equal(store.confidence[0][:], confidence)
    assert isinstance(events[0], Planned)
    assert isinstance(events[-1], Finished)
    assert len(set(np.unique(labels))) > 1


@pytest.mark.slow
def test_window_labels_do_not_depend_on_block_size_or_order(run, picture):
    image = picture(1100, 2100)
    checkpoint = make_checkpoint(ToyNet(window=128, extent=192))
    settings = replace(SETTINGS, overlap=16)
    first, _ = run(image, checkpoint, settings)
    larger = replace(settings, limits=TWO_CHUNKS)
    other, events = run(
        image, checkpoint, larger, viewport=lambda: Roi(1060, 2070, 10, 10)
    )
    np.testing.assert_array_equal(labels_of(first), labels_of(other))
    np.testing.assert_array_equal(first.confidence[0][:], other.confidence[0][:])
    order = [e.roi for e in events if isinstance(e, BlockDone)]
    assert order[0].contains(Roi(1060, 2070, 10, 10))
    assert order[-1].contains(Roi(0, 0, 10, 10))


@pytest.mark.parametrize("scale", [1, 1.7])
def test_labels_do_not_depend_on_the_number_of_reading_threads(
    tmp_path, picture, monkeypatch, scale
):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    image, checkpoint = picture(1100, 700), make_checkpoint(ToyNet(extent=96))
    settings = replace(SETTINGS, overlap=8, scale=scale, batch_size=16)
    found = []
    for ahead, readers in ((2, 1), (16, 8)):
        with LabelStore.create(tmp_path / f"{ahead}", image, LEGEND) as store:
            context = begin_run(image, checkpoint, store, settings)
            sized = replace(context.plan.sized, ahead=ahead)
            assert sized.readers == readers
            context = replace(context, plan=replace(context.plan, sized=sized))
            *_, last = make_runner(context).events(None)
            assert isinstance(last, Finished)
            found.append((labels_of(store), store.confidence[0][:]))
    np.testing.assert_array_equal(found[0], found[1])


class SlowNet(ToyNet):
    """64 batches of a chunk take two seconds."""

    def forward(self, batch):
        time.sleep(0.03)
        return super().forward(batch)


@pytest.mark.slow
@pytest.mark.parametrize(("overlap", "same"), [(0, 1), (24, 0.95)])
def test_slow_block_is_previewed(tmp_path, picture, overlap, same):
    image, checkpoint = picture(1024, 1024), make_checkpoint(SlowNet())
    settings = replace(SETTINGS, overlap=overlap)
    with LabelStore.create(tmp_path / "s.zarr", image, LEGEND) as store:
        events = segment(image, checkpoint, store, settings, BUDGET)
        planned = next(events)
        told = next(e for e in events if isinstance(e, PreviewWritten | BlockDone))
        assert told == PreviewWritten(Roi(0, 0, 1024, 1024))
        so_far, sure = labels_of(store), store.confidence[0][:]
        assert 0 < (so_far > 0).mean() < 1
        np.testing.assert_array_equal(so_far > 0, sure > 0)
        assert store.pending(planned.plan.run).all()
        rest = list(events)
        assert isinstance(rest[-1], Finished)
        there = so_far > 0
        assert (labels_of(store)[there] == so_far[there]).mean() >= same
        assert labels_of(store).all()
        # what another run left stays until its turn comes
        other = replace(settings, overlap=8)
        events = segment(image, checkpoint, store, other, BUDGET, replace_other=True)
        next(e for e in events if isinstance(e, PreviewWritten))
        assert labels_of(store).all()
        events.close()


@pytest.mark.slow
def test_batch_sizes_agree_in_99_999_percent(run, picture):
    image = picture(1100, 1100)
    checkpoint = make_checkpoint(ToyNet(window=128))
    four, _ = run(image, checkpoint, SETTINGS)
    three, _ = run(image, checkpoint, replace(SETTINGS, batch_size=3))
    assert (labels_of(four) == labels_of(three)).mean() >= 0.99999


@pytest.mark.slow
def test_windows_of_constant_network_are_constant(run, picture):
    store, _ = run(
        picture(700, 1300),
        make_checkpoint(ConstantNet()),
        replace(SETTINGS, overlap=20),
    )
    assert (labels_of(store) == 2).all()
    assert len(np.unique(store.confidence[0][:])) == 1
    for level in store.prediction:
        assert (level[:] == 2).all()


def test_image_smaller_than_window(run, picture):
    store, _ = run(picture(20, 33), make_checkpoint(ToyNet()))
    assert labels_of(store).shape == (20, 33)
    assert labels_of(store).all()


@pytest.mark.slow
def test_closed_run_resumes_with_same_labels(tmp_path, picture):
    image = picture(1100, 2100)
    checkpoint = make_checkpoint(ToyNet(window=256))
    whole = LabelStore.create(tmp_path / "whole.zarr", image, LEGEND)
    list(segment(image, checkpoint, whole, SETTINGS, BUDGET))
    path = tmp_path / "part.zarr"
    with LabelStore.create(path, image, LEGEND) as store:
        events = segment(image, checkpoint, store, SETTINGS, BUDGET)
        for event in events:
            if isinstance(event, BlockDone) and event.done == 2:
                break
        events.close()
    with LabelStore.open(path, write=True) as store:
        # a third may have been on its way to the disk; what the store says counts
        left = np.count_nonzero(store.pending(store.runs[-1]))
        assert left
        rest = list(segment(image, checkpoint, store, SETTINGS, BUDGET))
        assert len([e for e in rest if isinstance(e, BlockDone)]) == left
        np.testing.assert_array_equal(labels_of(store), labels_of(whole))
        assert len(store.runs) == 1
        again = list(segment(image, checkpoint, store, SETTINGS, BUDGET))
        assert not [e for e in again if isinstance(e, BlockDone | Progress)]


@pytest.mark.slow
def test_other_checkpoint_overwrites_only_on_request(run, picture, tmp_path):
    image = picture(600, 600)
    store, _ = run(image, make_checkpoint(ToyNet()))
    other = make_checkpoint(ConstantNet())
    with pytest.raises(StoreError):
        list(segment(image, other, store, SETTINGS, BUDGET))
    assert len(np.unique(labels_of(store))) > 1
    list(segment(image, other, store, SETTINGS, BUDGET, replace_other=True))
    assert (labels_of(store) == 2).all()
    assert len(store.runs) == 2


@pytest.mark.slow
def test_region_in_view_runs_only_its_blocks(tmp_path, picture):
    image = picture(2100, 2100)
    checkpoint = make_checkpoint(ToyNet(window=256))
    store = LabelStore.create(tmp_path / "s.zarr", image, LEGEND)
    view = replace(SETTINGS, region=Roi(0, 1024, 1024, 1024))
    events = list(segment(image, checkpoint, store, view, BUDGET))
    assert [e.roi for e in events if isinstance(e, BlockDone)] == [view.region]
    assert not labels_of(store)[1024:].any()
    events = list(segment(image, checkpoint, store, SETTINGS, BUDGET))
    assert len([e for e in events if isinstance(e, BlockDone)]) == 8
    labels, _ = at_once(image, checkpoint, SETTINGS)
    np.testing.assert_array_equal(labels_of(store), labels)


@pytest.mark.slow
def test_polygon_region_is_labelled_to_its_edge(run, picture):
    triangle = Polygon(((100.0, 100.0), (1900.0, 150.0), (200.0, 900.0)))
    store, events = run(
        picture(2048, 2048),
        make_checkpoint(ToyNet(window=256)),
        replace(SETTINGS, region=triangle),
    )
    labels = labels_of(store)
    assert labels[300, 300]
    assert not labels[90, 90]
    assert not labels[1900, 900]
    area = 0.5 * abs(1800 * 800 - 100 * 50)
    assert np.count_nonzero(labels) == pytest.approx(area, rel=0.01)
    done = [e for e in events if isinstance(e, BlockDone)]
    assert len(done) == 2  # the triangle's bounds touch two of the four blocks


@pytest.mark.slow
def test_nodata_is_skipped_and_unlabelled(run):
    data = np.full((2048, 2048, 3), 90, np.uint8)
    data[:, 1024:] = 0
    data[500:600, 500:600] = 0
    image = image_from_array(data, name="nodata", rgb=True, nodata=0)
    store, events = run(image, make_checkpoint(ToyNet(window=128)))
    labels = labels_of(store)
    assert labels[10, 10]
    assert not labels[:, 1024:].any()
    assert not labels[500:600, 500:600].any()
    empty = [e.empty for e in events if isinstance(e, BlockDone)]
    assert sorted(empty) == [False, False, True, True]


@pytest.mark.slow
def test_unreadable_block_fails_and_run_continues(run, picture, monkeypatch):
    image = picture(2048, 2048)
    read = type(image).read

    def fragile(self, roi, size=None, bands=None):
        if roi.contains(Roi(1500, 1500, 1, 1)):
            raise ReadError("tile 7 is damaged")
        return read(self, roi, size, bands)

    monkeypatch.setattr(type(image), "read", fragile)
    store, events = run(image, make_checkpoint(ToyNet(window=256)))
    failed = [e for e in events if isinstance(e, BlockFailed)]
    assert [f.roi for f in failed] == [Roi(1024, 1024, 1024, 1024)]
    assert "tile 7" in failed[0].reason
    assert events[-1].done == 3
    assert events[-1].failed == 1
    monkeypatch.undo()
    rest = list(
        segment(image, make_checkpoint(ToyNet(window=256)), store, SETTINGS, BUDGET)
    )
    assert [e.roi for e in rest if isinstance(e, BlockDone)] == [failed[0].roi]
    assert labels_of(store).all()


class Hungry(ToyNet):
    """Runs out of memory above ``limit`` windows."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, batch):
        views = batch.views["local"]
        traced = views.is_meta
        if len(views) > self.limit and not traced and (views != 0).any():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return super().forward(batch)


@pytest.mark.slow
def test_out_of_memory_halves_batch_and_keeps_block(run, picture):
    image = picture(700, 700)
    store, events = run(image, make_checkpoint(Hungry(2)))
    retried = [e for e in events if isinstance(e, RetriedWithLess)]
    assert [r.batch_size for r in retried] == [2]
    assert labels_of(store).all()


def test_out_of_memory_in_planning_reduces_batch(run, picture):
    class AlwaysHungry(Hungry):
        def forward(self, batch):
            if len(batch.views["local"]) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(batch)

    _, events = run(picture(300, 300), make_checkpoint(AlwaysHungry(2)))
    assert events[0].plan.run.batch_size == 1


def test_too_little_memory_for_one_window_raises(run, picture):
    with pytest.raises(DeviceError, match="too little memory"):
        run(picture(100, 100), make_checkpoint(Hungry(0)))


@pytest.mark.slow
def test_scale_two_equals_image_of_half_size(run):
    coarse = np.random.default_rng(3).integers(0, 255, (300, 400, 3), np.uint8)
    fine = coarse.repeat(2, axis=0).repeat(2, axis=1)
    spec = replace(ToyNet().spec, pixel_size=1e-6)
    checkpoint = make_checkpoint(ToyNet(), spec=spec)
    at20, _ = run(
        image_from_array(
            coarse, name="20x", rgb=True, pixel_size=(1, 1), unit="micrometer"
        ),
        checkpoint,
    )
    image = image_from_array(
        fine, name="40x", rgb=True, pixel_size=(0.5, 0.5), unit="micrometer"
    )
    at40, events = run(image, checkpoint)
    assert events[0].plan.run.scale == 2
    assert any("scale 2" in w for w in events[0].plan.warnings)
    np.testing.assert_array_equal(
        labels_of(at40), labels_of(at20).repeat(2, axis=0).repeat(2, axis=1)
    )


@pytest.mark.slow
def test_background_is_skipped(run):
    slide = np.full((2048, 2048, 3), (240, 238, 242), np.uint8)
    slide[200:700, 200:900] = (180, 90, 160)
    image = image_from_array(slide, name="slide", rgb=True, is_slide=True)
    store, events = run(image, make_checkpoint(ToyNet(window=128)))
    assert [e.empty for e in events if isinstance(e, BlockDone)].count(True) == 3
    assert labels_of(store)[300, 300]
    assert not labels_of(store)[1024:].any()
    assert store.shape == (2 * STORE_CHUNK, 2 * STORE_CHUNK)


@pytest.mark.slow
def test_skipped_background_leaves_other_labels_unchanged(run):
    slide = np.full((1700, 1700, 3), (240, 238, 242), np.uint8)
    slide[200:700, 200:900] = (180, 90, 160)
    slide[1500:1504, 1300:1304] = (120, 60, 130)  # a shred
    image = image_from_array(slide, name="slide", rgb=True, is_slide=True)
    checkpoint = make_checkpoint(ToyNet())
    all_of_it, _ = run(image, checkpoint, replace(SETTINGS, skip_background=False))
    skipped, events = run(image, checkpoint)
    last = [e for e in events if isinstance(e, Progress)][-1]
    labels, whole = labels_of(skipped), labels_of(all_of_it)
    answered = labels > 0
    np.testing.assert_array_equal(labels[answered], whole[answered])
    assert answered[200:700, 200:900].all()
    assert answered[1500:1504, 1300:1304].all()
    assert (labels == 0).mean() > 0.8
    # within 16 pixels of the tissue: rows 2 to 11, columns 2 to 14; and of the shred
    assert last.done == last.total == 10 * 13 + 1
    assert all_of_it.prediction[0][:].all()


@pytest.mark.slow
def test_skipped_background_does_not_depend_on_block_size(run):
    noise = np.random.default_rng(1)
    slide = np.full((2048, 2048, 3), (240, 238, 242), np.uint8)
    for y, x in noise.integers(0, 2000, (40, 2)):
        slide[y : y + 30, x : x + 20] = (180, 90, 160)
    image = image_from_array(slide, name="slide", rgb=True, is_slide=True)
    settings = replace(SETTINGS, overlap=16)
    one, _ = run(image, make_checkpoint(ToyNet(window=128)), settings)
    two, _ = run(
        image, make_checkpoint(ToyNet(window=128)), replace(settings, limits=TWO_CHUNKS)
    )
    np.testing.assert_array_equal(labels_of(one), labels_of(two))
    np.testing.assert_array_equal(one.confidence[0][:], two.confidence[0][:])


def test_windows_without_data_are_skipped(run):
    data = np.random.default_rng(0).integers(1, 250, (1024, 1024, 3)).astype(np.uint8)
    data[:, 300:] = 0
    data[900, 900] = 7  # a single pixel is something
    image = image_from_array(data, name="strip", rgb=True, nodata=0)
    store, events = run(image, make_checkpoint(ToyNet()))
    labels = labels_of(store)
    np.testing.assert_array_equal(labels > 0, data.any(-1))
    assert [e for e in events if isinstance(e, Progress)][-1].done == 5 * 16 + 1


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class ThreadsOfProbabilities(TorchFunctionMode):
    """Records torch's number of threads whenever probabilities are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function == torch.Tensor.exp2_:
            self.seen.append(torch.get_num_threads())
        return function(*args, **(kwargs or {}))


@pytest.mark.usefixtures("two_threads")
def test_labels_are_computed_with_threads_of_run(picture):
    """On a busy machine the window's core was taken for them, and they took minutes."""
    image, checkpoint = picture(300, 300), make_checkpoint(ToyNet())
    with (
        LabelStore.create(None, image, LEGEND) as store,
        ThreadsOfProbabilities() as found,
    ):
        for _ in segment(image, checkpoint, store, SETTINGS, BUDGET):
            assert torch.get_num_threads() == 2  # the caller's, between two events
    assert set(found.seen) == {1}
