"""Runs of models that label frames, with real arithmetic and real stores."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from helpers.networks import LEGEND, FrameNet, make_checkpoint
from helpers.segmentation import (
    AUTO_BATCH,
    BUDGET,
    GB,
    fixed_profiler,
    labels_of,
    of_kind,
    segmenter,
)
from napari_uhrseg.engine.data.scenes import Scene
from napari_uhrseg.engine.evaluation.evaluate import label_scene
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Planned,
    PreviewWritten,
    Progress,
)
from napari_uhrseg.engine.inference.frame_runner import FrameRunner
from napari_uhrseg.engine.inference.label_windows import TilingSettings
from napari_uhrseg.engine.inference.runner import RunContext
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.errors import DeviceError, PlanError, ReadError, StoreError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.isdnet import ISDNet
from napari_uhrseg.types import Polygon, Roi, SegmentSettings


@pytest.fixture
def run(tmp_path):
    return segmenter(tmp_path, AUTO_BATCH)


def at_once(image, checkpoint):
    """The whole image as one frame."""
    plan = make_plan(image, checkpoint, AUTO_BATCH, BUDGET)
    batch = read_pixels(
        image,
        [Roi(0, 0, *image.shape)],
        checkpoint.card.spec,
        bands=plan.run.bands,
        value_range=plan.run.value_range,
    ).normalized(torch.device("cpu"))
    with torch.inference_mode():
        return checkpoint.model(batch)["logits"][0].argmax(0).numpy() + 1


def test_small_image_is_one_frame(run, picture):
    image = picture(700, 1088)
    checkpoint = make_checkpoint(FrameNet())
    store, events = run(image, checkpoint)
    found = labels_of(store)
    assert found.shape == (700, 1088)
    assert (found == at_once(image, checkpoint))[:-2].all()  # padded to 704 rows
    assert events[0].plan.windows == 1
    assert [type(e) for e in events[1:]] == [
        PreviewWritten,
        Progress,
        BlockDone,
        Finished,
    ]


@pytest.mark.slow
def test_frames_that_agree_have_no_seam(run, picture):
    image = picture(2100, 2100)
    checkpoint = make_checkpoint(FrameNet())
    store, events = run(image, checkpoint)
    found = labels_of(store)
    # two pixels from a frame's border its convolution saw padding; blending hides it
    assert (found == at_once(image, checkpoint)).mean() > 0.999
    assert store.confidence[0][:].all()
    plan = events[0].plan
    assert plan.windows == len(of_kind(events, Progress)) == 4
    assert 0 < plan.computed_twice < 0.5
    assert plan.summary().startswith("4 frames of")


@pytest.mark.slow
def test_frames_of_constant_network_are_constant(run, picture):
    checkpoint = make_checkpoint(FrameNet())
    with torch.no_grad():
        checkpoint.model.net.weight.zero_()
    store, _ = run(picture(1300, 1300), checkpoint)
    assert len(np.unique(labels_of(store))) == 1
    assert len(np.unique(store.confidence[0][:])) == 1


@pytest.mark.slow
def test_frame_labels_do_not_depend_on_order(run, picture):
    image = picture(1300, 2400)
    checkpoint = make_checkpoint(FrameNet(tilt=20))
    first, _ = run(image, checkpoint)
    other, events = run(image, checkpoint, viewport=lambda: Roi(1250, 2350, 10, 10))
    np.testing.assert_array_equal(labels_of(first), labels_of(other))
    np.testing.assert_array_equal(first.confidence[0][:], other.confidence[0][:])
    assert of_kind(events, PreviewWritten)[0].roi.contains(Roi(1250, 2350, 10, 10))


@pytest.mark.slow
def test_resumed_run_of_frames_repeats_no_frame(tmp_path, picture):
    image = picture(1300, 2400)
    checkpoint = make_checkpoint(FrameNet(tilt=20))
    whole = LabelStore.create(tmp_path / "whole.zarr", image, LEGEND)
    all_frames = of_kind(
        segment(image, checkpoint, whole, AUTO_BATCH, BUDGET), PreviewWritten
    )
    path = tmp_path / "part.zarr"
    with LabelStore.create(path, image, LEGEND) as store:
        events = segment(image, checkpoint, store, AUTO_BATCH, BUDGET)
        seen = []
        for event in events:
            seen += of_kind([event], Progress)
            if len(seen) == 3:
                break
        events.close()
    with LabelStore.open(path, write=True) as store:
        rest = list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET))
        assert len(of_kind(rest, PreviewWritten)) == len(all_frames) - 3
        np.testing.assert_array_equal(labels_of(store), labels_of(whole))
        np.testing.assert_array_equal(store.confidence[0][:], whole.confidence[0][:])
        assert not (path / "frames" / "1").exists()
        again = list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET))
        assert not of_kind(again, PreviewWritten, BlockDone)


@pytest.mark.slow
def test_full_disk_raises_and_run_of_frames_resumes(run, tmp_path, picture):
    resource = pytest.importorskip("resource")
    image = picture(1300, 1300)
    checkpoint = make_checkpoint(FrameNet())
    whole, _ = run(image, checkpoint)
    with LabelStore.create(tmp_path / "full.zarr", image, LEGEND) as store:
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        # room for a chunk, not for the borders of a frame
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, old[1]))
        try:
            with pytest.raises(StoreError, match="borders of a frame") as told:
                list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert "Free some space" in told.value.hint
        assert not [f for f in store.path.glob("frames/**/*") if f.is_file()]
        list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET))
        np.testing.assert_array_equal(labels_of(store), labels_of(whole))


@pytest.mark.slow
def test_frames_overwritten_by_other_run_are_repeated(tmp_path, picture):
    image = picture(1300, 1300)
    one, opposite = make_checkpoint(FrameNet()), FrameNet()
    with torch.no_grad():
        opposite.net.weight.mul_(-1)
    other = replace(make_checkpoint(opposite), hash="opposite")
    whole = {}
    for checkpoint in (one, other):
        with LabelStore.create(None, image, LEGEND) as store:
            list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET))
            whole[checkpoint.hash] = labels_of(store)
    assert (whole[one.hash] != whole[other.hash]).any()
    store = LabelStore.create(tmp_path / "both.zarr", image, LEGEND)
    for checkpoint in (one, other):  # each is closed after its first frame
        events = segment(
            image, checkpoint, store, AUTO_BATCH, BUDGET, replace_other=True,
            viewport=lambda: Roi(1150, 1150, 100, 100),
        )  # fmt: skip
        while not isinstance(next(events), Progress):
            pass
        events.close()
    list(segment(image, one, store, AUTO_BATCH, BUDGET))
    np.testing.assert_array_equal(labels_of(store), whole[one.hash])
    list(segment(image, other, store, AUTO_BATCH, BUDGET, replace_other=True))
    np.testing.assert_array_equal(labels_of(store), whole[other.hash])


@pytest.mark.slow
def test_region_runs_only_its_frames(run, picture):
    image = picture(2100, 2100)
    checkpoint = make_checkpoint(FrameNet(tilt=20))
    whole, _ = run(image, checkpoint)
    shape = Polygon(((1200, 1200), (1200, 1900), (1900, 1200)))
    store, events = run(
        image,
        checkpoint,
        SegmentSettings(device="cpu", precision="fp32", threads=1, region=shape),
    )
    found = labels_of(store)
    assert found[1300, 1300]
    inside = found > 0
    assert inside.sum() == pytest.approx(700 * 700 / 2, rel=0.01)
    np.testing.assert_array_equal(found[inside], labels_of(whole)[inside])
    assert events[0].plan.windows == len(of_kind(events, Progress)) == 4


@pytest.mark.slow
def test_frames_at_other_scale(run, picture):
    image = picture(2100, 1500)
    checkpoint = make_checkpoint(FrameNet(frame=1400))
    store, events = run(
        image,
        checkpoint,
        SegmentSettings(device="cpu", precision="fp32", threads=1, scale=1.3),
    )
    found = labels_of(store)
    assert found.all()
    assert len(events[0].plan.grid) > 1
    one, _ = run(
        image,
        make_checkpoint(FrameNet(frame=2100)),
        SegmentSettings(device="cpu", precision="fp32", threads=1, scale=1.3),
    )
    assert (labels_of(one) == found).mean() > 0.97  # resampled from another start


@pytest.mark.slow
def test_unreadable_frame_is_retried_by_next_run(run, picture, monkeypatch):
    image = picture(1700, 1700)
    checkpoint = make_checkpoint(FrameNet(tilt=20))
    whole, _ = run(image, checkpoint)
    read = type(image).read

    def failing(self, roi, size=None, bands=None):
        if roi.contains(Roi(1500, 1500, 1, 1)) and roi.height < 1500:
            raise ReadError("torn page", "scan again")
        return read(self, roi, size, bands)

    store = LabelStore.create(None, image, LEGEND)
    with monkeypatch.context() as patch:
        patch.setattr(type(image), "read", failing)
        events = list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET))
    assert [e.reason for e in of_kind(events, BlockFailed)] == ["torn page scan again"]
    assert len(of_kind(events, BlockDone)) == 3
    rest = list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET))
    assert len(of_kind(rest, PreviewWritten)) == 1
    np.testing.assert_array_equal(labels_of(store), labels_of(whole))


@pytest.mark.slow
def test_frames_leave_nodata_unlabelled(run):

    data = np.random.default_rng(0).integers(1, 255, (2200, 2200, 3)).astype(np.uint8)
    data[:1100, :1100] = 0
    data[1200:1300, 1200:1300] = 0
    image = image_from_array(data, name="holes", rgb=True, nodata=0)
    store, events = run(image, make_checkpoint(FrameNet()))
    labels = labels_of(store)
    assert (labels == 0).sum() == pytest.approx((data == 0).all(-1).sum(), abs=50)
    assert not labels[1210:1290, 1210:1290].any()
    assert [e.empty for e in of_kind(events, BlockDone)].count(True) == 1


def test_stop_interrupts_a_frame(picture):
    image = picture(1000, 1000)
    checkpoint = make_checkpoint(FrameNet())
    store = LabelStore.create(None, image, LEGEND)
    asked = []

    def stop():
        asked.append(1)
        return True

    events = list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET, stop=stop))
    assert [type(e) for e in events] == [Planned]
    assert asked
    assert not labels_of(store).any()
    again = list(segment(image, checkpoint, store, AUTO_BATCH, BUDGET))
    assert isinstance(again[-1], Finished)  # the network answers no one any more


@pytest.mark.usefixtures("plenty_of_memory")
def test_frames_fit_memory_budget_or_plan_raises():
    profiler = fixed_profiler(frame=lambda size, rows: 100 * size[0] * size[1])
    make = partial(make_plan, make_profiler=profiler)
    image = image_from_array(
        np.zeros((4000, 4000, 3), np.uint8), name="black", rgb=True
    )
    checkpoint = make_checkpoint(FrameNet(frame=5000))
    large = make(image, checkpoint, AUTO_BATCH, MemoryBudget("cpu", 3 * GB, GB))
    assert large.windows == 1
    small = make(image, checkpoint, AUTO_BATCH, MemoryBudget("cpu", GB, GB))
    assert small.windows > 1
    assert small.estimate.device_bytes <= GB
    with pytest.raises(DeviceError, match="A frame of") as error:
        make(image, checkpoint, AUTO_BATCH, MemoryBudget("cpu", GB // 8, GB))
    assert "at least" in error.value.hint
    settings = SegmentSettings(device="cpu", precision="fp32", overlap=600)
    with pytest.raises(PlanError, match="overlap of 600"):
        make(image, checkpoint, settings, BUDGET)


@pytest.mark.slow
def test_resumed_run_keeps_frame_size_with_other_free_memory(tmp_path, picture):
    image, checkpoint = picture(1300, 2400), make_checkpoint(FrameNet(frame=3000))
    much = little = MemoryBudget("cpu", 2 * GB, GB)
    while make_plan(image, checkpoint, AUTO_BATCH, little).run.window == 3000:
        little = replace(little, device_bytes=little.device_bytes - GB // 32)
    whole = LabelStore.create(tmp_path / "whole.zarr", image, LEGEND)
    list(segment(image, checkpoint, whole, AUTO_BATCH, little))
    store = LabelStore.create(tmp_path / "part.zarr", image, LEGEND)
    events = segment(image, checkpoint, store, AUTO_BATCH, little)
    while not isinstance(next(events), BlockDone):
        pass
    events.close()
    rest = list(segment(image, checkpoint, store, AUTO_BATCH, much))
    assert len(store.runs) == 1
    assert rest[0].plan.run.window < 3000
    np.testing.assert_array_equal(labels_of(store), labels_of(whole))
    large = LabelStore.create(tmp_path / "large.zarr", image, LEGEND)
    list(segment(image, checkpoint, large, AUTO_BATCH, much))
    with pytest.raises(StoreError, match=r"frames of up to 3,000 .* memory") as error:
        list(segment(image, checkpoint, large, AUTO_BATCH, little))
    assert "raise the memory budget" in error.value.hint
    list(segment(image, checkpoint, large, AUTO_BATCH, little, replace_other=True))
    np.testing.assert_array_equal(labels_of(large), labels_of(whole))


@pytest.mark.slow
def test_plan_uses_bands_before_smaller_frames(picture):
    def frame(size, rows):  # bytes per pixel, at once and in bands
        return (100 if rows is None else 20) * size[0] * size[1]

    make = partial(make_plan, make_profiler=fixed_profiler(frame=frame))
    checkpoint = make_checkpoint(ISDNet(3, width=8, frame=2048, window=64))
    image = picture(2048, 2048)
    plans = [
        make(image, checkpoint, AUTO_BATCH, MemoryBudget("cpu", budget, GB))
        for budget in (2 * GB, GB // 2)
    ]
    assert [p.grid.input_shape for p in plans] == [(2048, 2048)] * 2
    assert plans[0].sized.rows is None
    assert plans[1].sized.rows == 1024
    assert plans[1].summary().startswith("1 frame of 2,048 x 2,048 pixels in bands of")


@pytest.mark.slow
def test_banded_frame_equals_whole_frame(picture):
    torch.manual_seed(0)
    model = ISDNet(3, width=8, frame=600, window=64)
    for part in model.modules():  # or an untrained network's maps fade to nothing
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_var.fill_(0.2)
    checkpoint = make_checkpoint(model)
    image = picture(500, 590)
    plan = make_plan(image, checkpoint, AUTO_BATCH, BUDGET)
    found = []
    for rows in (None, 128):
        sized = replace(plan.sized, rows=rows)
        store = LabelStore.create(None, image, LEGEND)
        run = store.run_ledger.start_run(replace(plan.run, class_map=(1, 2, 3)))
        work = RunContext(
            image, checkpoint, store, replace(plan, sized=sized), run, 1, None
        )
        list(FrameRunner(work, plan.grid).events(None))
        found.append((labels_of(store), store.confidence[0][:].astype(int)))
    (labels, sure), (in_bands, sure_in_bands) = found
    assert (labels == in_bands).mean() > 0.9999
    assert np.abs(sure - sure_in_bands).max() <= 1
    assert labels.all()
    assert len(np.unique(sure)) > 1


@pytest.mark.slow
def test_label_scene_frames_equal_segment(run, picture):
    image = picture(1300, 2400)
    checkpoint = make_checkpoint(FrameNet(tilt=20))
    store, events = run(image, checkpoint)
    plan = events[0].plan
    scene = Scene("s", image, None, plan.run.bands, plan.run.value_range)
    how = TilingSettings.of(
        checkpoint.card.spec, 1, torch.device("cpu"), plan.run.precision
    )
    found = np.zeros(image.shape, np.uint8)
    for roi, labels in label_scene(checkpoint.model, scene, how):
        found[roi.slices] = labels + 1
    np.testing.assert_array_equal(found, labels_of(store))
