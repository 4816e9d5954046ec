import time
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import FrameNet, ToyNet, make_checkpoint
from helpers.segmentation import ONE_CHUNK, fixed_profiler
from napari_uhrseg.engine.network.device import MemoryBudget, find_device
from napari_uhrseg.engine.network.profiling import Profiler
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.errors import DeviceError, PlanError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.types import Roi, SegmentSettings
from napari_uhrseg.units import parse_bytes

MB = 1 << 20
BUDGET = MemoryBudget("cpu", 1024 * MB, 1024 * MB)
CHECKPOINT = make_checkpoint(ToyNet())
SETTINGS = SegmentSettings(device="cpu", precision="fp32", threads=1)
pytestmark = pytest.mark.usefixtures("plenty_of_memory")


def blank(height=300, width=400, bands=3, **kwargs):
    data = np.zeros((height, width, bands), np.uint8)
    return image_from_array(data, name="blank", rgb=bands == 3, axes="yxc", **kwargs)


@settings(max_examples=25)
@given(st.integers(1, 5000), st.integers(1, 5000), st.randoms())
def test_blocks_hold_every_pending_chunk_once_and_nothing_beyond(h, w, random):
    plan = make_plan(blank(h, w, 1), CHECKPOINT, SETTINGS, BUDGET)
    plan = replace(plan, block_chunks=random.randint(1, 4))
    rows, columns = -(-h // STORE_CHUNK), -(-w // STORE_CHUNK)
    pending = np.array(
        [[random.random() < 0.6 for _ in range(columns)] for _ in range(rows)]
    )
    count = np.zeros((rows, columns), int)
    for roi in plan.blocks(pending):
        assert Roi(0, 0, h, w).contains(roi)
        assert roi.y % STORE_CHUNK == roi.x % STORE_CHUNK == 0
        bottom, right = -(-roi.bottom // STORE_CHUNK), -(-roi.right // STORE_CHUNK)
        count[roi.y // STORE_CHUNK : bottom, roi.x // STORE_CHUNK : right] += 1
    assert (count[pending] == 1).all()
    assert count.max(initial=0) <= 1


def test_one_line_tells_windows_time_memory_and_disk():
    line = make_plan(blank(), CHECKPOINT, SETTINGS, BUDGET).summary()
    assert "35 windows" in line
    assert "batch 16, fp32" in line
    assert "on disk" in line


def test_plan_states_the_cost_of_the_overlap():
    """7 x 6 windows of 64 pixels at a distance of 56, where 7 x 5 would touch."""
    settings = replace(SETTINGS, overlap=8)
    line = make_plan(blank(), CHECKPOINT, settings, BUDGET).summary()
    windows = (
        "42 windows that overlap by 8 pixels (1.2 times as many as without overlap)"
    )
    assert windows in line
    assert "overlap" not in make_plan(blank(), CHECKPOINT, SETTINGS, BUDGET).summary()


class FrameNetLikeCrops(FrameNet):
    frames_like_crops = True


@pytest.mark.parametrize(("frame", "warned"), [(128, False), (1088, True)])
def test_frames_much_larger_than_the_training_crops_are_reported(frame, warned):
    """The crops have 64 pixels. Frames of an image are not larger than the image."""
    checkpoint = make_checkpoint(FrameNetLikeCrops(frame, overlap=8))
    warnings = make_plan(blank(), checkpoint, SETTINGS, BUDGET).warnings
    said = [w for w in warnings if "trained on crops of 64 pixels" in w]
    assert bool(said) == warned
    if warned:
        assert "up to 400 pixels" in said[0]


def test_windows_across_blocks_are_counted_once_where_they_can_be_kept():
    image, overlapping = (
        blank(2 * STORE_CHUNK, 2 * STORE_CHUNK),
        replace(SETTINGS, overlap=32, limits=ONE_CHUNK),
    )
    plan = make_plan(image, CHECKPOINT, overlapping, BUDGET)
    unique = len(plan.grid)
    assert plan.windows == unique
    assert plan.computed_twice == 0
    by_hand = sum(
        plan.grid.count(Roi(y, x, STORE_CHUNK, STORE_CHUNK))
        for y in (0, STORE_CHUNK)
        for x in (0, STORE_CHUNK)
    )
    assert plan.at_most == by_hand > unique
    # none, where the blocks go to many processes
    apart = make_plan(image, CHECKPOINT, overlapping, BUDGET, shared=True)
    assert apart.sized.kept == 0
    assert apart.windows == by_hand
    assert apart.computed_twice == pytest.approx(by_hand / unique - 1)
    # none without overlap, as blocks end where windows do
    apart = replace(SETTINGS, limits=ONE_CHUNK)
    assert make_plan(image, CHECKPOINT, apart, BUDGET).sized.kept == 0


@pytest.mark.parametrize("extra", [0, 20, 60, 700])
def test_windows_are_kept_within_the_budget_only(extra):
    wide = make_checkpoint(ToyNet(window=256))
    image = blank(2 * STORE_CHUNK, 9 * STORE_CHUNK, 1)
    overlapping = replace(SETTINGS, overlap=64, limits=ONE_CHUNK)
    profiler = fixed_profiler(batch=lambda size: 50 * MB * size, seconds=0.1)
    limit = MemoryBudget("cpu", (450 + extra) * MB, 64 * MB)
    plan = make_plan(image, wide, overlapping, limit, make_profiler=profiler)
    assert plan.estimate.device_bytes <= limit.device_bytes
    assert len(plan.grid) <= plan.windows <= plan.at_most
    assert (plan.sized.kept == 0) == (plan.windows == plan.at_most)


def test_a_smaller_budget_means_smaller_batches_and_stays_within():
    profiler = fixed_profiler(batch=lambda size: 300 * MB * size, seconds=0.01)
    make = partial(make_plan, make_profiler=profiler)
    plans = {}
    for budget in (600, 1000, 1700, 4000):
        limit = MemoryBudget("cpu", budget * MB, 64 * MB)
        plans[budget] = make(blank(), CHECKPOINT, SETTINGS, limit)
        assert plans[budget].estimate.device_bytes <= budget * MB
    batches = [p.run.batch_size for p in plans.values()]
    assert batches == [1, 2, 4, 8]
    assert plans[4000].sized.cache > plans[600].sized.cache
    # the budget of a cluster worker is for the device that it has
    auto, anywhere = SegmentSettings(threads=1), replace(BUDGET, device="auto")
    given = make(blank(), CHECKPOINT, auto, anywhere)
    assert given.budget == replace(BUDGET, device=find_device("auto").id)


@pytest.mark.parametrize(
    ("window", "threads", "batch"),
    [(64, 1, 16), (256, 2, 8), (256, 16, 16), (512, 2, 2), (1024, 4, 4)],
)
def test_a_cpu_s_threads_have_as_many_windows_as_their_cache_holds(
    window, threads, batch
):
    profiler = fixed_profiler(batch=lambda size: MB * size)
    plenty = MemoryBudget("cpu", 4096 * MB, MB)
    settings = replace(SETTINGS, threads=threads)
    checkpoint = make_checkpoint(ToyNet(window))
    plan = make_plan(blank(), checkpoint, settings, plenty, make_profiler=profiler)
    assert plan.run.batch_size == batch


@pytest.mark.parametrize(("seconds", "ahead"), [(1, 2), (0.005, 7), (0.0, 16)])
def test_a_fast_device_has_more_batches_read_ahead(seconds, ahead):
    profiler = fixed_profiler(seconds=seconds)
    settings = replace(SETTINGS, batch_size=8)
    plenty = MemoryBudget("cpu", 4096 * MB, MB)
    plan = make_plan(blank(), CHECKPOINT, settings, plenty, make_profiler=profiler)
    assert plan.sized.ahead == ahead
    needed = plan.sized.need
    tight = MemoryBudget("cpu", needed.device + needed.host - MB, MB)
    plan = make_plan(blank(), CHECKPOINT, settings, tight, make_profiler=profiler)
    assert plan.sized.need.within(tight)


@pytest.mark.parametrize(
    ("cores", "seconds", "readers"),
    [(1, 0.0, 1), (2, 0.0, 1), (16, 0.0, 8), (64, 0.0, 8), (16, 1, 1)],
)
def test_several_threads_read_for_a_fast_device_with_many_cores(
    monkeypatch, cores, seconds, readers
):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    profiler = fixed_profiler(seconds=seconds)
    settings = replace(SETTINGS, batch_size=8)
    plan = make_plan(blank(), CHECKPOINT, settings, BUDGET, make_profiler=profiler)
    assert plan.sized.readers == readers
    needed = plan.sized.need
    assert needed.within(BUDGET)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = make_plan(blank(), CHECKPOINT, settings, BUDGET, make_profiler=profiler)
    pixels = (readers - 1) * 16 * 64**2 * 3  # a window is resampled from so many, RGB
    assert needed.host - alone.sized.need.host == pixels


@pytest.mark.parametrize(("shared", "chunks"), [(False, 4), (True, 8)])
def test_a_fast_device_has_small_blocks_unless_a_cluster_shares_them(shared, chunks):
    make = partial(make_plan, make_profiler=fixed_profiler(seconds=0.0))
    plenty = MemoryBudget("cpu", 16384 * MB, MB)
    plan = make(blank(), CHECKPOINT, SETTINGS, plenty, shared=shared)
    assert plan.block_chunks == chunks


def test_too_small_a_budget_names_the_one_that_would_do():
    profiler = fixed_profiler(batch=lambda size: 700 * MB * size)
    make = partial(make_plan, make_profiler=profiler)
    with pytest.raises(DeviceError, match="One window needs") as error:
        make(blank(), CHECKPOINT, SETTINGS, MemoryBudget("cpu", 300 * MB, MB))
    assert "bf16" in error.value.hint
    named = error.value.hint.partition("at least ")[2].partition(",")[0]
    enough = MemoryBudget("cpu", parse_bytes(named.replace(" ", "")), MB)
    plan = make(blank(), CHECKPOINT, SETTINGS, enough)
    assert plan.run.batch_size == 1


def test_what_others_have_taken_is_not_promised(monkeypatch):
    memory = psutil.virtual_memory()._replace(available=700 * MB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    plan = make_plan(blank(), CHECKPOINT, SETTINGS, BUDGET)
    assert plan.budget.device_bytes == 700 * MB
    assert "free" in plan.warnings[0]


def test_a_network_is_measured_once_for_all_processes(monkeypatch):
    class Counted(ToyNet):
        runs = 0

        def forward(self, batch):
            if not batch.views["local"].is_meta:
                Counted.runs += 1
            return super().forward(batch)

    checkpoint = make_checkpoint(Counted())
    make_plan(blank(), checkpoint, SETTINGS, BUDGET)
    once = Counted.runs
    make_plan(blank(), make_checkpoint(Counted()), SETTINGS, BUDGET)
    assert once == Counted.runs == 2
    make_plan(blank(), checkpoint, replace(SETTINGS, precision="bf16"), BUDGET)
    assert Counted.runs == 4


@pytest.mark.slow
def test_time_that_other_programs_took_is_not_remembered():
    class Kept(ToyNet):
        """Waits, as if for a core."""

        def forward(self, batch):
            if not batch.views["local"].is_meta:
                time.sleep(1)
            return super().forward(batch)

    how = Profiler(make_checkpoint(Kept()), find_device("cpu"), "fp32", 1)
    assert 0 < how.batch(1).seconds < 1


def test_unknown_device_lists_those_there_are():
    with pytest.raises(DeviceError, match="no device 'tpu'") as error:
        find_device("tpu")
    assert "cpu (" in error.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overlap": 64}, "overlap of 64"),
        ({"region": Roi(900, 900, 10, 10)}, "outside the image"),
        ({"bands": (0, 1, 7)}, "do not fit"),
        ({"scale": 1000.0}, "not usable"),
    ],
)
def test_settings_that_cannot_be(change, message):
    with pytest.raises(PlanError, match=message) as error:
        make_plan(blank(), CHECKPOINT, replace(SETTINGS, **change), BUDGET)
    assert error.value.hint


def test_too_few_bands_and_one_band_for_all():
    with pytest.raises(PlanError, match="takes 3 bands and blank has 2"):
        make_plan(blank(bands=2), CHECKPOINT, SETTINGS, BUDGET)
    plan = make_plan(blank(bands=1), CHECKPOINT, SETTINGS, BUDGET)
    assert plan.run.bands == (0, 0, 0)


@pytest.mark.parametrize(
    ("pixel", "scale"), [(0.5, 1), (0.499, 1), (0.25, 2), (1, 0.5)]
)
def test_scale_is_trained_pixel_size_over_the_images(pixel, scale):
    checkpoint = make_checkpoint(
        ToyNet(), spec=replace(ToyNet().spec, pixel_size=0.5e-6)
    )
    image = blank(pixel_size=(pixel, pixel), unit="micrometer")
    plan = make_plan(image, checkpoint, SETTINGS, BUDGET)
    assert plan.run.scale == pytest.approx(scale)
    assert bool(plan.warnings) == (scale != 1)


def test_planning_the_largest_images_is_quick_and_small():
    grid = WindowGrid.make((1_000_000, 1_000_000), 256, 64, "shift")
    assert len(grid) == 5208**2
    assert grid.count(Roi(500_000, 500_000, 1024, 1024)) == 7 * 7
