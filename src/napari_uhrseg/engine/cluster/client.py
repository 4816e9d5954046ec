"""Segmentation on a cluster of dask.distributed, with the labels of one machine.

A worker makes the plan. The client submits blocks (or frames) and marks the results.
`io.labels.worker_store` describes which process writes which data. Client and workers
have image, checkpoint and store at the same paths.

Labels are those of one machine with the same batch size and threads, bit for bit on the
CPU. If a worker dies, other workers run its blocks. The client's memory is at most half
a megabyte for each of two blocks a worker.
"""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from logging import CRITICAL, ERROR, getLogger
from os import environ
from pathlib import Path
from platform import python_version_tuple
from typing import TYPE_CHECKING, Any

from napari_uhrseg._version import __version__
from napari_uhrseg.engine.cancellation import Cancelled, Stop, Viewport
from napari_uhrseg.engine.cluster import worker
from napari_uhrseg.engine.cluster.block_tasks import (
    BlockClient,
    FrameClient,
    WindowClient,
)
from napari_uhrseg.engine.cluster.task_queue import (
    STOP_POLL_S,
    TaskQueue,
    result_or_error,
)
from napari_uhrseg.engine.cluster.worker import ImageRef, RunSpec, WorkerInfo
from napari_uhrseg.engine.events import Planned, SegmentEvent
from napari_uhrseg.engine.inference.segment import as_begun, begin
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.planning.plan import Plan
from napari_uhrseg.engine.tiling.tiling import by_tiling
from napari_uhrseg.errors import ClusterError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.write_lock import revoke_write_token
from napari_uhrseg.types import Legend, SegmentSettings
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from distributed import Client

CONNECT_TIMEOUT_S = 10.0  # seconds to find a scheduler
CLOSE_TIMEOUT_S = 2.0  # seconds to say goodbye to a scheduler that may be dead
FIRST_WORKER_TIMEOUT_S = 60.0  # seconds until one must be there


def segment_on_cluster(
    cluster: "Client | str",
    image: Image,
    checkpoint: Path | str,
    store: LabelStore,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
    *,
    viewport: Viewport | None = None,
    stop: Stop | None = None,
    replace_other: bool = False,
) -> Iterator[SegmentEvent]:
    """Segment the image into the store as ``segment()`` does, on many machines.

    Image, checkpoint and store must have the same absolute paths on all workers. Each
    function can continue a run of the other.

    Parameters
    ----------
    cluster
        A client of dask.distributed, or a scheduler's address, ``tcp://…``.
    image
        An image opened from a path.
    checkpoint
        Path of the checkpoint.
    store
        Label store, open for writing here.
    settings
        Settings as for ``segment()``. The device is that of each worker.
    budget
        Memory that a run may use on one worker. None: the default of the device.
    viewport
        Function as for ``segment()``. Each worker has two blocks, so other blocks may
        come before one that has just come into sight.
    stop
        Polled while tasks run. If it returns True, the run ends.
    replace_other
        If True, overwrite the labels of a run with other settings.

    Yields
    ------
    SegmentEvent
        As for ``segment()``. Closing the generator cancels the tasks that wait.

    Raises
    ------
    ClusterError
        If there is no scheduler or no worker, or if workers have other versions or
        cannot access the files. Other errors are those of ``segment()``.
    """
    spec = _order(image, checkpoint, settings, budget)
    spec = replace(spec, token=store.issue_write_token(), store=store.path)
    try:
        with connected(cluster) as client:
            yield from _run(client, spec, store, viewport, stop, replace_other)
    except Cancelled:
        return
    finally:
        revoke_write_token(store.path)


def plan_on_cluster(
    cluster: "Client | str",
    image: Image,
    checkpoint: Path | str,
    settings: SegmentSettings | None = None,
    budget: MemoryBudget | None = None,
) -> Plan:
    """Return the plan of `segment_on_cluster`, which a worker makes.

    Raises the errors of `segment_on_cluster`.

    Parameters
    ----------
    cluster
        A client of dask.distributed, or a scheduler's address, ``tcp://…``.
    image
        An image opened from a path.
    checkpoint
        Path of the checkpoint.
    settings
        Settings as for ``segment()``.
    budget
        Memory that a run may use on one worker. None: the default of the device.
    """
    with connected(cluster) as client:
        return _planned(client, _order(image, checkpoint, settings, budget), None)[0]


def _order(
    image: Image,
    checkpoint: Path | str,
    settings: SegmentSettings | None,
    budget: MemoryBudget | None,
) -> RunSpec:
    if image.path is None:
        raise ClusterError(
            f"{image.name} is not a file, so workers cannot open it.",
            "Save it to a file that they can access, or segment on this machine.",
        )
    return RunSpec(
        token="",
        version=__version__,
        source=ImageRef(
            image.path.absolute(),
            image.fingerprint,
            image.series_number if len(image.series) > 1 else None,
            tuple(image.plane.items()),
        ),
        checkpoint=Path(checkpoint).absolute(),
        store=None,
        settings=settings or SegmentSettings(),
        budget=budget,
    )


def _planned_as_begun(
    client: "Client", spec: RunSpec, store: LabelStore, stop: Stop | None
) -> tuple[RunSpec, Plan, Legend]:
    """Return the plan with the settings of the run that it continues."""
    plan, network = _planned(client, spec, stop)
    begun = as_begun(spec.settings, plan.run, network, store)
    if begun != spec.settings:
        spec = replace(spec, settings=begun)
        plan, network = _planned(client, spec, stop)
    return spec, plan, network


def _run(
    client: "Client",
    spec: RunSpec,
    store: LabelStore,
    viewport: Viewport | None,
    stop: Stop | None,
    replace_other: bool,
) -> Iterator[SegmentEvent]:
    spec, plan, network = _planned_as_begun(client, spec, store, stop)
    yield Planned(plan)
    plan, run = begin(plan, network, store, replace_other, spec.settings)
    # the run as recorded, with the batch that the plan settled on
    plan = replace(plan, run=replace(run, batch_size=plan.run.batch_size))
    tasks = TaskQueue(client, replace(spec, plan=plan), stop)
    blocks: BlockClient = by_tiling(
        plan.grid,
        windows=lambda _: WindowClient(tasks, plan, store, viewport),
        frames=lambda grid: FrameClient(tasks, plan, store, viewport, grid),
    )
    try:
        yield from blocks.events()
    finally:
        tasks.close()


def _planned(client: "Client", spec: RunSpec, stop: Stop | None) -> tuple[Plan, Legend]:
    """Return a worker's plan, with the time of all workers, and the network's classes.

    Raises Cancelled and the errors of `segment_on_cluster`.
    """
    workers = check_workers(client, spec)
    future = client.submit(worker.plan_on_worker, spec, pure=False)
    while not future.done():
        if stop is not None and stop():
            raise Cancelled
        time.sleep(STOP_POLL_S)
    plan, legend = result_or_error(future)
    seconds = plan.estimate.seconds / len(workers)
    return replace(
        plan,
        estimate=replace(plan.estimate, seconds=seconds),
        warnings=plan.warnings + _warnings(workers),
    ), legend


@contextmanager
def connected(cluster: "Client | str") -> Iterator["Client"]:
    """Yield a client of the scheduler, and close it at the end if it was made here.

    Raises ClusterError if there is no scheduler, or the extra is missing.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ClusterError(
            "Running on a cluster needs dask.distributed.",
            'Install it: pip install "napari-uhrseg[cluster]".',
        ) from error
    if isinstance(cluster, Client):
        yield cluster
        return
    try:
        _check_reachable(cluster)
        client = Client(
            cluster,
            timeout=CONNECT_TIMEOUT_S,
            set_as_default=False,
            name="napari-uhrseg",
        )
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise ClusterError(
            f"There is no scheduler at {cluster!r}.",
            "Give the address that `dask scheduler` prints, such as "
            "tcp://192.168.1.5:8786, and see that this machine can reach it.",
        ) from error
    try:
        yield client
    finally:
        # the attempt to reach a scheduler that died would be printed as a traceback
        logger = getLogger("distributed.client")
        level = logger.level
        logger.setLevel(CRITICAL)
        client.close(timeout=CLOSE_TIMEOUT_S)
        logger.setLevel(level)


def _check_reachable(address: str) -> None:
    """Raise OSError or ValueError if there is no such protocol, or no TCP server.

    A client that cannot connect waits, and prints a traceback when it is deleted.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    scheme, location = parse_address(address)
    get_backend(scheme)  # raises ValueError for an unknown one
    if scheme in ("tcp", "tls"):
        host_and_port = parse_host_port(location)
        socket.create_connection(host_and_port, CONNECT_TIMEOUT_S).close()


@contextmanager
def local_cluster(workers: int) -> Iterator["Client"]:
    """Start worker processes on this machine, with a GPU each if there are GPUs.

    On the CPU, workers share the cores by ``OMP_NUM_THREADS``.

    Raises
    ------
    ClusterError
        If dask.distributed is not installed.
    """
    import torch

    try:
        from distributed import Client, Nanny, Scheduler, SpecCluster
    except ImportError as error:
        raise ClusterError(
            "Running on several workers needs dask.distributed.",
            'Install it: pip install "napari-uhrseg[cluster]".',
        ) from error
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    every = range(torch.cuda.device_count())
    gpus = visible.split(",") if visible else [str(i) for i in every]
    env = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // workers))}
    spec = {}
    for number in range(workers):
        own = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if every else {}
        # the budget bounds the memory, not the nanny
        options = {"nthreads": 1, "memory_limit": 0, "silence_logs": ERROR}
        spec[number] = {"cls": Nanny, "options": {**options, "env": env | own}}
    scheduler = {
        "cls": Scheduler,
        "options": {
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            "host": "127.0.0.1",
            "port": 0,
        },
    }
    with (
        SpecCluster(workers=spec, scheduler=scheduler, silence_logs=ERROR) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.run(worker.ignore_interrupts)
        yield client


def check_workers(client: "Client", spec: RunSpec) -> dict[str, WorkerInfo]:
    """Return the versions and paths of each worker, by address.

    Raises
    ------
    ClusterError
        If there is no worker, or one has other versions or cannot access the files.
    """
    from distributed import TimeoutError as NoneThere

    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_TIMEOUT_S)
    except (NoneThere, TimeoutError) as error:
        raise ClusterError(
            f"No worker joined in {formatted(FIRST_WORKER_TIMEOUT_S, '.0f')} seconds.",
            "Start some: CUDA_VISIBLE_DEVICES=0 dask worker ADDRESS --nthreads 1.",
        ) from error
    found = client.run(worker.worker_info, spec, on_error="return")
    for address, said in found.items():
        _check(address, said, spec)
    return dict(found)


def _check(address: str, said: Any, spec: RunSpec) -> None:
    who = f"The worker {address}"
    if isinstance(said, WorkerInfo):
        who += f" on {said.host}"
    python = ".".join(python_version_tuple()[:2])
    same = "Install the same versions there and here."
    match said:
        case ImportError() | AttributeError():
            raise ClusterError(f"{who} lacks this package: {said}.", same)
        case BaseException():
            raise ClusterError(f"{who} does not answer: {said!r}.", "See its log.")
        case WorkerInfo(version=version) if version != __version__:
            raise ClusterError(
                f"{who} has napari-uhrseg {version}, this is {__version__}.", same
            )
        case WorkerInfo(python=there) if there != python:
            raise ClusterError(f"{who} runs Python {there}, this is {python}.", same)
        case WorkerInfo(missing=missing) if missing:
            raise ClusterError(
                f"{who} cannot access {missing[0]}.",
                "Put image and store where all workers can access them: on a file "
                "system mounted at the same path, or at a URL (s3://…). The checkpoint "
                "is a file at the same path on each.",
            )
        case WorkerInfo(other_store=True):
            raise ClusterError(
                f"{who} has another folder at {spec.store}.",
                "Put the store on a file system that all workers share.",
            )


def _warnings(workers: dict[str, WorkerInfo]) -> tuple[str, ...]:
    found = []
    torches = sorted({w.torch for w in workers.values()})
    if len(torches) > 1:
        found.append(
            f"Workers have torch {' and '.join(torches)}: labels may differ in the "
            "last bits from worker to worker."
        )
    shared = Counter((w.host, w.gpu) for w in workers.values() if w.gpu)
    for (host, gpu), count in shared.items():
        if count > 1:
            found.append(f"{count} workers share the GPU {gpu} of {host}.")
    return tuple(found)
