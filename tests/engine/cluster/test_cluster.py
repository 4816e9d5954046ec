"""A run on real worker processes, some of which are killed."""

import os
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

import napari_uhrseg
from helpers import cluster_networks
from helpers.cluster_client import segment_and_tell
from helpers.dask_client import connect_quickly
from helpers.forked import forked_process, forked_workers
from helpers.networks import LEGEND
from helpers.onnx_networks import DEEPNESS, export, small_network
from helpers.s3_server import s3_server
from helpers.segmentation import BUDGET, SETTINGS, of_kind
from napari_uhrseg.engine.cluster.client import (
    check_workers,
    local_cluster,
    segment_on_cluster,
)
from napari_uhrseg.engine.cluster.task_queue import TASKS_PER_WORKER
from napari_uhrseg.engine.cluster.worker import ImageRef, RunSpec
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Planned,
    PreviewWritten,
    Progress,
)
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.errors import ClusterError, StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.checkpoint import load_checkpoint
from napari_uhrseg.types import (
    Limits,
    Polygon,
    Roi,
    SegmentSettings,
    Stroke,
    TissueMask,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket():
    with s3_server() as url:
        yield url


@pytest.fixture(scope="module", autouse=True)
def networks():
    with cluster_networks.installed():
        yield


@pytest.fixture(scope="module")
def workers(bucket):  # whose server the workers find by their environment
    """Two workers, as on a machine that lets this process use GPUs 4 and 6.

    The GPUs are made up, the processes are not. All runs are on the CPU.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        patch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
        with forked_workers(), local_cluster(2) as client:
            patch.undo()
            client.register_plugin(cluster_networks.InstallNetworks())
            yield client


@pytest.fixture
def cluster(workers):
    """The two workers; one that a test killed is there again."""
    workers.wait_for_workers(2, timeout=280)
    return workers


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """``noise.tif`` of 2 x 3 chunks, and checkpoints of toys, quick and slow."""
    folder = tmp_path_factory.mktemp("cluster")
    cluster_networks.save_picture(folder / "noise.tif", 1200, 2200)
    cluster_networks.save_picture(folder / "strip.tif", 250, 8000)
    cluster_networks.save(folder / "quick.safetensors", "windows")
    cluster_networks.save(folder / "slow.safetensors", "windows", wait=0.05)
    cluster_networks.save(folder / "frames.safetensors", "frames")
    cluster_networks.save(folder / "slow_frames.safetensors", "frames", wait=0.3)
    return folder


@pytest.fixture
def image(files):
    return open_image(files / "noise.tif")


@pytest.fixture
def store(image, tmp_path):
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as made:
        yield made


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory):
    """All levels as one machine makes them, by checkpoint and settings."""
    made = {}

    def labels(name: str, settings: SegmentSettings = SETTINGS):
        if (name, settings) not in made:
            image = open_image(files / "noise.tif")
            checkpoint = cluster_networks.load_checkpoint(files / f"{name}.safetensors")
            path = tmp_path_factory.mktemp("alone") / "labels.zarr"
            with LabelStore.create(path, image, LEGEND) as store:
                list(segment(image, checkpoint, store, settings, BUDGET))
                made[name, settings] = everything(store)
        return made[name, settings]

    return labels


def everything(store: LabelStore) -> list[np.ndarray]:
    """All that a run writes, but for who wrote it."""
    levels = [*store.prediction, *store.confidence]
    return [*(level[:] for level in levels), store.chunk_status() & 3]


def assert_same(store: LabelStore, expected: list[np.ndarray]) -> None:
    for found, wanted in zip(everything(store), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    top = store.prediction[-1][:]
    np.testing.assert_array_equal(store.coarsest_displayed(), top)


def test_cluster_windows_equal_one_machine(cluster, files, image, store, alone):
    store.coarsest_displayed()  # kept in step from here on
    checkpoint = files / "quick.safetensors"
    events = list(
        segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET)
    )
    assert isinstance(events[0], Planned)
    assert len(of_kind(events, BlockDone)) == 6
    assert [e.done for e in of_kind(events, BlockDone)] == list(range(1, 7))
    last = of_kind(events, Progress)[-1]
    assert last.done == last.total
    assert events[-1] == Finished(store.runs[0], 6, 0, events[-1].seconds)
    assert_same(store, alone("quick"))


def test_cluster_frames_equal_one_machine(cluster, files, image, store, alone):
    checkpoint = files / "frames.safetensors"
    events = list(
        segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET)
    )
    assert len(of_kind(events, PreviewWritten)) == len(of_kind(events, BlockDone)) == 6
    assert isinstance(events[-1], Finished)
    assert_same(store, alone("frames"))
    assert not (store.path / "frames" / "1").exists()


@pytest.mark.parametrize("name", ["quick", "frames"])
def test_cluster_keeps_labels_outside_region(cluster, files, image, store, alone, name):
    shape = Polygon(((100, 100), (900, 900), (500, 2100)))
    settings = SegmentSettings(
        region=shape, device="cpu", precision="fp32", batch_size=4, threads=1
    )
    checkpoint = files / f"{name}.safetensors"
    list(segment_on_cluster(cluster, image, checkpoint, store, settings, BUDGET))
    assert_same(store, alone(name, settings))


@pytest.mark.parametrize("name", ["quick", "frames"])
def test_cluster_labels_only_tissue(cluster, files, image, store, alone, name):
    pixels = np.zeros(TissueMask.shape_of(image.shape), bool)
    pixels[50:300, 100:900] = True  # the lower right half of the blocks has none
    mask = TissueMask.of(pixels, image.shape)
    settings = replace(SETTINGS, tissue=mask)
    checkpoint = files / f"{name}.safetensors"
    events = list(
        segment_on_cluster(cluster, image, checkpoint, store, settings, BUDGET)
    )
    assert events[0].plan.left_out > 0
    assert isinstance(events[-1], Finished)
    assert events[-1].left_out == events[0].plan.left_out
    assert_same(store, alone(name, settings))
    inside = mask.inside(Roi(0, 0, *image.shape))
    assert not (store.prediction[0][:] > 0)[~inside].any()
    assert (store.prediction[0][:] > 0)[inside].all()


def test_cluster_runs_onnx_network(cluster, files, image, tmp_path):
    path = export(small_network(), tmp_path / "net.onnx", DEEPNESS)
    legend, settings = read_card(path).legend, replace(SETTINGS, scale=1)
    labels = []
    for name in ("alone", "cluster"):
        with LabelStore.create(tmp_path / f"{name}.zarr", image, legend) as made:
            if name == "alone":
                run = segment(image, load_checkpoint(path), made, settings, BUDGET)
            else:
                run = segment_on_cluster(cluster, image, path, made, settings, BUDGET)
            assert isinstance(list(run)[-1], Finished)
            labels.append(made.prediction[0][:])
    assert len(np.unique(labels[0])) == 3
    np.testing.assert_array_equal(*labels)


def client_process(
    cluster, files, store: Path | str, name: str
) -> AbstractContextManager:
    """Yield a process that segments, and what it sends after each block."""
    checkpoint = files / f"{name}.safetensors"
    address = cluster.scheduler.address
    return forked_process(
        segment_and_tell, address, files / "noise.tif", checkpoint, store
    )


@pytest.mark.parametrize("name", ["slow", "slow_frames"])
def test_cluster_run_of_killed_client_resumes_on_one_machine(
    cluster, files, image, tmp_path, alone, name
):
    path = tmp_path / "labels.zarr"
    LabelStore.create(path, image, LEGEND).close()
    with (
        client_process(cluster, files, path, name) as (_, done),
        LabelStore.open(path) as watching,
    ):
        while done.recv() < 2:
            pass
        # from elsewhere the run is seen as it comes
        assert 2 <= np.count_nonzero(watching.chunk_status()) < 6
        assert watching.read_labels(Roi(0, 0, *image.shape)).any()
    checkpoint = cluster_networks.load_checkpoint(files / f"{name}.safetensors")
    with LabelStore.open(path, write=True) as store:
        rest = list(segment(image, checkpoint, store, SETTINGS, BUDGET))
        assert 0 < len(of_kind(rest, BlockDone)) <= 4
        assert len(store.runs) == 1
        assert_same(store, alone(name.replace("slow_", "").replace("slow", "quick")))


@pytest.mark.parametrize("name", ["quick", "frames"])
def test_cluster_runs_on_object_store(cluster, files, bucket, alone, name):
    fsspec.filesystem("s3").put(str(files / "noise.tif"), f"{bucket}/{name}.tif")
    image = open_image(f"{bucket}/{name}.tif")
    with LabelStore.create(f"{bucket}/{name}.zarr", image, LEGEND) as store:
        checkpoint = files / f"{name}.safetensors"
        list(segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET))
        assert_same(store, alone(name))
        assert not (store.path / "frames").exists()


def test_cluster_run_of_killed_client_resumes_on_object_store(
    cluster, files, image, bucket, alone
):
    url = f"{bucket}/killed.zarr"
    LabelStore.create(url, image, LEGEND).close()
    with client_process(cluster, files, url, "slow") as (_, done):
        while done.recv() < 2:
            pass
    # less than the default, and far more than one access of a busy machine
    limits = Limits(stale_lock_s=8.0)
    with LabelStore.open(url, write=True, limits=limits) as store:
        checkpoint = files / "slow.safetensors"
        rest = list(
            segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET)
        )
        assert 0 < len(of_kind(rest, BlockDone)) <= 4
        assert len(store.runs) == 1
        assert_same(store, alone("quick"))


def test_cluster_resumes_run_of_one_machine(cluster, files, image, store, alone):
    checkpoint = cluster_networks.load_checkpoint(files / "quick.safetensors")
    run = segment(image, checkpoint, store, SETTINGS, BUDGET)
    for event in run:
        if isinstance(event, BlockDone) and event.done == 2:
            break
    run.close()
    # a third may have been on its way to the disk; what the store says counts
    left = np.count_nonzero(store.pending(store.runs[-1]))
    assert left
    rest = list(
        segment_on_cluster(cluster, image, checkpoint.path, store, SETTINGS, BUDGET)
    )
    assert len(of_kind(rest, BlockDone)) == left
    assert len(store.runs) == 1
    assert_same(store, alone("quick"))


def test_cluster_run_continues_while_user_corrects(cluster, files, image, store, alone):
    checkpoint = files / "quick.safetensors"
    painted = Roi(10, 10, 5, 5)
    stroke = Stroke(painted, np.ones((5, 5), bool), np.full((5, 5), 2, np.uint8))
    corrections = None
    for event in segment_on_cluster(
        cluster, image, checkpoint, store, SETTINGS, BUDGET
    ):
        if isinstance(event, BlockDone) and corrections is None:
            corrections = Corrections.open(store)
            corrections.apply(stroke)
    assert corrections is not None
    corrections.close()
    assert isinstance(event, Finished)
    assert (store.read_labels(painted) == 2).all()
    np.testing.assert_array_equal(store.prediction[0][:], alone("quick")[0])


def test_cluster_starts_with_blocks_in_viewport(cluster, files, tmp_path):
    strip = open_image(files / "strip.tif")
    with LabelStore.create(tmp_path / "strip.zarr", strip, LEGEND) as store:
        events = segment_on_cluster(
            cluster, strip, files / "quick.safetensors", store, SETTINGS, BUDGET,
            viewport=lambda: Roi(0, 7990, 10, 10),
        )  # fmt: skip
        places = [7 - e.roi.x // 1024 for e in events if isinstance(e, BlockDone)]
    assert sorted(places) == list(range(8))
    # Block n is sent once all but three of those before it are done. Those that are
    # on the cluster at the same time end in any order.
    ahead = TASKS_PER_WORKER * 2 - 1
    assert all(place <= done + ahead for done, place in enumerate(places))


@pytest.mark.parametrize("name", ["slow", "slow_frames"])
def test_cluster_paused_run_submits_no_blocks_and_resumes(
    cluster, files, image, store, alone, name
):
    """To pause is to ask for no more events, as the window does."""
    checkpoint = files / f"{name}.safetensors"
    run = segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET)
    for event in run:
        if isinstance(event, BlockDone | PreviewWritten):
            break
    end = time.monotonic() + 60
    while any(cluster.processing().values()) and time.monotonic() < end:
        time.sleep(0.05)  # what is on its way is finished
    begun = [
        store.read_labels(roi).any() for roi in Roi(0, 0, *store.shape).tiles(1024)
    ]
    assert sum(begun) == TASKS_PER_WORKER * 2 < len(begun)
    time.sleep(0.5)
    again = [
        store.read_labels(roi).any() for roi in Roi(0, 0, *store.shape).tiles(1024)
    ]
    assert again == begun
    rest = list(run)
    assert isinstance(rest[-1], Finished)
    assert not of_kind(rest, BlockFailed)
    assert_same(store, alone(name.replace("slow_", "").replace("slow", "quick")))


def test_cluster_last_block_may_take_longer_than_no_worker_timeout(cluster, tmp_path):
    """They are there, only busy, and nothing is left to send them."""
    limits = Limits(worker_poll_s=0.05, no_worker_s=0.2)
    settings = replace(SETTINGS, limits=limits)
    image = open_image(cluster_networks.save_picture(tmp_path / "one.tif", 600, 600))
    slow = cluster_networks.save(tmp_path / "net.safetensors", "windows", wait=0.2).path
    with LabelStore.create(tmp_path / "labels.zarr", image, LEGEND) as store:
        events = list(segment_on_cluster(cluster, image, slow, store, settings, BUDGET))
    assert len(of_kind(events, BlockDone)) == 1
    assert isinstance(events[-1], Finished)


def test_cluster_closed_run_can_be_resumed(cluster, files, image, store):
    checkpoint = files / "slow.safetensors"
    run = segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET)
    for event in run:
        if isinstance(event, BlockDone):
            break
    run.close()
    done = np.count_nonzero(store.chunk_status())
    assert 0 < done < 6
    time.sleep(0.5)  # what was under way has no token any more
    assert np.count_nonzero(store.chunk_status()) == done
    rest = list(segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET))
    assert len(of_kind(rest, BlockDone)) == 6 - done


def test_cluster_resumed_run_skips_finished_frames(cluster, files, image, store, alone):
    checkpoint = files / "frames.safetensors"
    run = segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET)
    ran = 0
    for event in run:
        ran += isinstance(event, PreviewWritten)
        if ran == 3:
            break
    run.close()
    rest = list(segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET))
    assert len(of_kind(rest, PreviewWritten)) <= 3
    assert_same(store, alone("frames"))


def test_cluster_stop_does_not_wait_for_blocks(cluster, files, image, store):
    asked = []
    events = []
    for event in segment_on_cluster(
        cluster, image, files / "slow_frames.safetensors", store, SETTINGS, BUDGET,
        stop=lambda: bool(asked),
    ):  # fmt: skip
        events.append(event)
        if isinstance(event, PreviewWritten):
            asked.append(True)
    assert len(of_kind(events, PreviewWritten)) == 1
    assert not of_kind(events, Finished)


def test_cluster_worker_with_two_threads_runs_one_block_at_a_time(
    cluster, files, image, store, alone
):
    two = replace(SETTINGS, threads=2)
    checkpoint = files / "quick.safetensors"
    events = list(segment_on_cluster(cluster, image, checkpoint, store, two, BUDGET))
    assert len(of_kind(events, BlockDone)) == 6
    assert_same(store, alone("quick", two))


def test_cluster_replaces_other_run_only_on_request(cluster, files, image, store):
    checkpoint = files / "quick.safetensors"
    list(segment_on_cluster(cluster, image, checkpoint, store, SETTINGS, BUDGET))
    other = replace(SETTINGS, overlap=64)
    with pytest.raises(StoreError, match="other settings"):
        list(segment_on_cluster(cluster, image, checkpoint, store, other, BUDGET))
    again = list(
        segment_on_cluster(
            cluster, image, checkpoint, store, other, BUDGET, replace_other=True
        )
    )
    assert len(of_kind(again, BlockDone)) == 6
    assert (store.chunk_status() >> 2 == 2).all()


def test_cluster_without_scheduler_raises(files, image, store, monkeypatch):
    connect_quickly(monkeypatch)
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        with pytest.raises(ClusterError, match="no scheduler at"):
            list(
                segment_on_cluster(
                    address, image, files / "quick.safetensors", store, SETTINGS
                )
            )
    assert not store.runs


def test_cluster_names_files_that_workers_cannot_access(cluster, files, image, store):
    missing = files / "missing.safetensors"
    with pytest.raises(ClusterError, match=r"cannot access .*missing\.safetensors"):
        list(segment_on_cluster(cluster, image, missing, store, SETTINGS, BUDGET))


class OldWorker:
    """Client of a cluster with one worker, which has an old version of the package."""

    def wait_for_workers(self, count, timeout):
        pass

    def run(self, task, spec, on_error):
        return {"tcp://10.0.0.2:1": replace(task(spec), version="0.0.1")}


def test_cluster_rejects_worker_with_other_version(files, image):
    spec = RunSpec(
        token="",
        version=napari_uhrseg.__version__,
        source=ImageRef(image.path, image.fingerprint, None, ()),
        checkpoint=files / "quick.safetensors",
        store=None,
        settings=SETTINGS,
        budget=BUDGET,
    )
    with pytest.raises(ClusterError, match=r"has napari-uhrseg 0\.0\.1") as error:
        check_workers(OldWorker(), spec)
    assert "Install the same" in error.value.hint


def test_cluster_rejects_image_without_file(cluster, files, picture, tmp_path):
    image = picture(300, 300)
    with (
        LabelStore.create(tmp_path / "array.zarr", image, LEGEND) as store,
        pytest.raises(ClusterError, match="not a file"),
    ):
        list(segment_on_cluster(cluster, image, files / "quick.safetensors", store))


def test_local_cluster_gives_each_worker_a_gpu(cluster):
    seen = cluster.run(lambda: (os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]))
    processes, gpus = zip(*seen.values(), strict=True)
    assert len(set(processes)) == 2
    assert sorted(gpus) == ["4", "6"]


@pytest.mark.parametrize("name", ["slow", "slow_frames"])
def test_cluster_reruns_blocks_of_killed_worker(
    cluster, files, image, store, alone, name
):
    checkpoint = files / f"{name}.safetensors"
    killed, events = 0, []
    for event in segment_on_cluster(
        cluster, image, checkpoint, store, SETTINGS, BUDGET
    ):
        events.append(event)
        if isinstance(event, BlockDone | PreviewWritten) and not killed:
            killed = next(iter(cluster.run(os.getpid).values()))
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert not of_kind(events, BlockFailed)
    assert_same(store, alone(name.replace("slow_", "").replace("slow", "quick")))
