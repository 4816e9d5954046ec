"""Tasks of a cluster's workers: plan a run, run a block or a frame, blend a seam.

A worker keeps the network and the runner of the run that it works for, so that a task
is small: it names a rectangle. A process runs one task at a time.
"""

import platform
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version as version_of
from os import environ
from pathlib import Path
from typing import Any

from napari_uhrseg._version import __version__
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Progress,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.frame_runner import FrameRunner
from napari_uhrseg.engine.inference.runner import RunContext
from napari_uhrseg.engine.inference.segment import make_runner
from napari_uhrseg.engine.inference.window_runner import WindowRunner
from napari_uhrseg.engine.network.device import MemoryBudget, find_device
from napari_uhrseg.engine.planning.plan import Plan, make_plan, with_estimate
from napari_uhrseg.engine.tiling.frame_grid import Frame
from napari_uhrseg.errors import ClusterError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.worker_store import TokenRevoked, WorkerResult, WorkerStore
from napari_uhrseg.io.labels.write_lock import read_write_token
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.readers.common import is_zarr
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import Legend, Roi, SegmentSettings


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Reference to an image that a worker opens by its path."""

    path: PathOrUrl
    fingerprint: str
    series: int | None
    plane: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Data that workers need for a run: some kilobytes, sent with each task.

    Attributes
    ----------
    token
        Right to write the store; see `io.labels.write_lock`.
    version
        Version of this package on the client.
    source
        The image.
    checkpoint
        Path of the checkpoint.
    store
        Path of the label store. None if only a plan is needed.
    settings, budget
        Settings and memory budget as for ``segment()``.
    plan
        The plan of the run as the store recorded it. None until there is one.
    """

    token: str
    version: str
    source: ImageRef
    checkpoint: Path
    store: PathOrUrl | None
    settings: SegmentSettings
    budget: MemoryBudget | None
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """Versions and paths of a worker, which the client checks before it sends tasks."""

    host: str
    version: str
    python: str
    torch: str
    gpu: str
    missing: tuple[PathOrUrl, ...]
    other_store: bool


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Result of a task: chunks to commit, in order, and events to yield."""

    parts: tuple[WorkerResult, ...]
    events: tuple[SegmentEvent, ...]


_busy = threading.Lock()
_stopped: set[str] = set()


def worker_info(spec: RunSpec) -> WorkerInfo:
    """Return the versions of this worker, and the files that it cannot access."""
    paths = (spec.source.path, spec.checkpoint, spec.store)
    missing = tuple(p for p in paths if p is not None and not _is_seen(p))
    token = spec.token if spec.store is None else read_write_token(spec.store)
    return WorkerInfo(
        host=socket.gethostname(),
        version=__version__,
        python=".".join(platform.python_version_tuple()[:2]),
        torch=version_of("torch"),
        gpu=environ.get("CUDA_VISIBLE_DEVICES", ""),
        missing=missing,
        other_store=not missing and token != spec.token,
    )


def _is_seen(path: PathOrUrl) -> bool:
    """Return whether this worker can access a path."""
    try:
        # a folder of an object store exists only by its contents
        return path.exists() or is_zarr(path)
    except Exception:  # noqa: BLE001  a package or credentials may be missing
        return False


def stop(token: str) -> None:
    """End the tasks of a run. The network polls this between its layers."""
    _stopped.add(token)


def ignore_interrupts() -> None:
    """Ignore SIGINT: Ctrl-C reaches all processes, and only the client handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def plan_on_worker(spec: RunSpec) -> tuple[Plan, Legend]:
    """Return the plan for this worker's device, and the network's classes."""
    with _busy:
        image, checkpoint = _image(spec.source), _checkpoint(spec.checkpoint)
        plan = make_plan(image, checkpoint, spec.settings, spec.budget, shared=True)
        # blocks of 1, 2, 4 or 8 chunks a side own whole chunks of coarser levels
        side = 1 << (plan.block_chunks.bit_length() - 1)
        if side != plan.block_chunks:
            plan = with_estimate(replace(plan, block_chunks=side))
        return plan, checkpoint.card.legend


def label_block(spec: RunSpec, roi: Roi) -> TaskResult | None:
    """Run a block of windows and write it; return None if it was stopped."""
    return _result(spec, roi, lambda runner: runner.events(None))


def label_frame(
    spec: RunSpec, roi: Roi, frame: Frame, shown: bool
) -> TaskResult | None:
    """Run a frame and store its borders; return None if it was stopped.

    Parameters
    ----------
    spec
        The run.
    roi
        Level-0 pixels of the frame's cell.
    frame
        Row and column of the frame.
    shown
        If True, also write the labels of the cell.
    """
    return _result(
        spec, roi, lambda runner: runner.on_device(_run_frame(runner, frame, shown))
    )


def finish_cell(spec: RunSpec, roi: Roi, cell: Frame) -> TaskResult | None:
    """Blend the seams into a cell whose frames have all run.

    Parameters
    ----------
    spec
        The run.
    roi
        Level-0 pixels of the cell.
    cell
        Row and column of the cell.

    Returns
    -------
    TaskResult or None
        None if the task was stopped.
    """
    return _result(
        spec, roi, lambda runner: runner.on_device(_finish_cell(runner, cell))
    )


def _run_frame(
    runner: FrameRunner, frame: Frame, shown: bool
) -> Iterator[SegmentEvent]:
    item = runner.read_frame(frame)
    if item.error:
        yield BlockFailed(runner.grid.block(frame), item.error)
    else:
        yield from runner.run_frame(item, shown)


def _finish_cell(runner: FrameRunner, cell: Frame) -> Iterator[SegmentEvent]:
    empty = runner.finish_cell(cell)
    yield BlockDone(runner.grid.block(cell), 0, 0, empty)


def _result(
    spec: RunSpec, roi: Roi, run: Callable[[Any], Iterator[SegmentEvent]]
) -> TaskResult | None:
    with _busy:
        if spec.token in _stopped:
            return None
        runner, store = _runner(spec)
        store.set_block(roi)
        try:
            events = [e for e in run(runner) if not isinstance(e, Progress | Finished)]
        except TokenRevoked:
            return None
        if spec.token in _stopped:  # between the layers of the network
            return None
        return TaskResult(store.results(), tuple(events))


_runners: dict[str, tuple[FrameRunner | WindowRunner, WorkerStore]] = {}


def _runner(spec: RunSpec) -> tuple[FrameRunner | WindowRunner, WorkerStore]:
    """Return the runner of a run. It replaces that of any other run."""
    if spec.token not in _runners:
        if spec.version != __version__:
            raise ClusterError(
                f"The worker on {socket.gethostname()} has napari-uhrseg "
                f"{__version__}, this is {spec.version}.",
                "Install the same version there and here.",
            )
        _runners.clear()
        _runners[spec.token] = _make_runner(spec)
    return _runners[spec.token]


def _make_runner(spec: RunSpec) -> tuple[FrameRunner | WindowRunner, WorkerStore]:
    assert spec.plan is not None
    assert spec.store is not None
    run, checkpoint = spec.plan.run, _checkpoint(spec.checkpoint)
    if checkpoint.hash != run.checkpoint_hash:
        raise ClusterError(
            f"{spec.checkpoint} is another file on {socket.gethostname()}.",
            "Give the workers the same checkpoint at the same path.",
        )
    kind = spec.plan.device.id.partition(":")[0]
    plan = replace(spec.plan, device=find_device(kind))
    store = WorkerStore(spec.store, spec.token)
    context = RunContext(
        _image(spec.source),
        checkpoint,
        store,
        plan,
        run,
        spec.settings.threads,
        lambda: spec.token in _stopped,
        previews=False,  # the client shows whole blocks
    )
    return make_runner(context), store


@lru_cache(maxsize=4)
def _image(source: ImageRef) -> Image:
    image = open_image(source.path, series=source.series)
    if source.plane:
        image = image.with_plane(**dict(source.plane))
    if image.fingerprint != source.fingerprint:
        raise ClusterError(
            f"{source.path} is another file on {socket.gethostname()}.",
            "Workers must have the same files at the same paths.",
        )
    return image


def _checkpoint(path: Path) -> Checkpoint:
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return _loaded(path, changed)


@lru_cache(maxsize=1)
def _loaded(path: Path, changed: int) -> Checkpoint:
    return load_checkpoint(path)
