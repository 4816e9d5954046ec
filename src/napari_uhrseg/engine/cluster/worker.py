"""What a worker of a cluster does for a run: plan it, run a block, a frame, a seam.

A worker keeps the network and its job for the run it works for, so that a task is
small: which rectangle. One task at a time in a process, whatever its threads.
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
from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Progress,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.background_mask import BackgroundMask
from napari_uhrseg.engine.inference.frame_runner import FrameRunner
from napari_uhrseg.engine.inference.runner import RunContext
from napari_uhrseg.engine.inference.window_runner import WindowRunner
from napari_uhrseg.engine.network.device import MemoryBudget, find_device
from napari_uhrseg.engine.planning.plan import Plan, make_plan, with_estimate
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.errors import ClusterError, ReadError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.worker_store import TokenRevoked, WorkerResult, WorkerStore
from napari_uhrseg.io.labels.write_lock import read_write_token
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.paths import Address
from napari_uhrseg.io.readers import is_zarr
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import Legend, Roi, SegmentSettings


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image as a worker can open it."""

    path: Address
    fingerprint: str
    series: int | None
    plane: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All that a worker must know; sent with each task, some kilobytes.

    ``plan`` is None until a worker has made one; its run is then the recorded one.
    ``store`` is None where a plan is all that is wanted.
    """

    token: str
    version: str
    source: ImageRef
    checkpoint: Path
    store: Address | None
    settings: SegmentSettings
    budget: MemoryBudget | None
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says of itself before it gets work."""

    host: str
    version: str
    python: str
    torch: str
    gpu: str
    missing: tuple[Address, ...]
    other_store: bool


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What came of a task: parts to adopt in order, and what to tell."""

    parts: tuple[WorkerResult, ...]
    events: tuple[SegmentEvent, ...]


_busy = threading.Lock()
_stopped: set[str] = set()


def worker_info(spec: RunSpec) -> WorkerInfo:
    """The versions of the worker that runs it, and which files it does not see."""
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


def _is_seen(path: Address) -> bool:
    """Whether it is there for this worker, who may lack a package or credentials."""
    try:
        # a folder of an object store is what lies in it
        return path.exists() or is_zarr(path)
    except Exception:  # noqa: BLE001  whatever stands in the way
        return False


def stop(token: str) -> None:
    """End the tasks of an order: the network asks between its layers."""
    _stopped.add(token)


def ignore_interrupts() -> None:
    """Ctrl-C goes to a whole group of processes: the client alone acts on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def plan_on_worker(spec: RunSpec) -> tuple[Plan, Legend]:
    """The plan as this worker's device makes it, and the network's classes."""
    with _busy:
        image, checkpoint = _image(spec.source), _checkpoint(spec.checkpoint)
        plan = make_plan(image, checkpoint, spec.settings, spec.budget, shared=True)
        # blocks of 1, 2, 4 or 8 chunks a side own whole chunks of coarser levels
        side = 1 << (plan.block_chunks.bit_length() - 1)
        if side != plan.block_chunks:
            plan = with_estimate(replace(plan, block_chunks=side))
        return plan, checkpoint.card.legend


def label_block(spec: RunSpec, roi: Roi) -> TaskResult | None:
    """Run a block of windows and write it; None where it was stopped."""
    return _result(spec, roi, lambda job: job.events(None))


def label_frame(
    spec: RunSpec, roi: Roi, frame: Frame, shown: bool
) -> TaskResult | None:
    """Run a frame and keep its borders; ``shown``: write its cell, ``roi``, too."""
    return _result(spec, roi, lambda job: job.only(_FrameRunner.label, frame, shown))


def finish_cell(spec: RunSpec, roi: Roi, cell: Frame) -> TaskResult | None:
    """Blend the seams into a cell, ``roi``, whose frames have all run."""
    return _result(spec, roi, lambda job: job.only(_FrameRunner.finish, cell))


class _WindowRunner(WindowRunner):
    """Windows of one block after the other; what is found out once is kept."""

    def background(self) -> BackgroundMask | None:
        return _background(self.image) if self.run.skip_background else None

    def is_preview_due(self) -> bool:
        return False  # blocks are shown by the client, when they are whole


class _FrameRunner(FrameRunner):
    """Frames and cells one by one, as the client says."""

    def background(self) -> BackgroundMask | None:
        return _background(self.image) if self.run.skip_background else None

    def only(
        self, part: Callable[..., Iterator[SegmentEvent]], *arguments: object
    ) -> Iterator[SegmentEvent]:
        """The events of ``label`` or ``finish``, with all that ``events`` sets up."""
        self._part = part(self, *arguments)
        return self.events(None)

    def run_pending(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        yield from self._part

    def label(self, frame: Frame, shown: bool) -> Iterator[SegmentEvent]:
        self.open = {frame} if shown else set()
        try:
            item = self.read_frame(frame, self.background())
        except ReadError as error:
            yield BlockFailed(self.grid.block(frame), str(error))
            return
        yield from self.run_frame(item)

    def finish(self, cell: Frame) -> Iterator[SegmentEvent]:
        empty = self.finish_cell(cell)
        yield BlockDone(self.grid.block(cell), 0, 0, empty)


def _result(
    spec: RunSpec, roi: Roi, run: Callable[[Any], Iterator[SegmentEvent]]
) -> TaskResult | None:
    with _busy:
        if spec.token in _stopped:
            return None
        job, store = _job(spec)
        store.set_block(roi)
        try:
            events = [e for e in run(job) if not isinstance(e, Progress | Finished)]
        except TokenRevoked:
            return None
        if spec.token in _stopped:  # between the layers of the network
            return None
        return TaskResult(store.results(), tuple(events))


_jobs: dict[str, tuple[_WindowRunner | _FrameRunner, WorkerStore]] = {}


def _job(spec: RunSpec) -> tuple[_WindowRunner | _FrameRunner, WorkerStore]:
    """The job of an order; those of others make way, as a device has one network."""
    if spec.token not in _jobs:
        if spec.version != __version__:
            raise ClusterError(
                f"The worker on {socket.gethostname()} has napari-uhrseg "
                f"{__version__}, this is {spec.version}.",
                "Install the same version there and here.",
            )
        _jobs.clear()
        _jobs[spec.token] = _made(spec)
    return _jobs[spec.token]


def _made(spec: RunSpec) -> tuple[_WindowRunner | _FrameRunner, WorkerStore]:
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
    work = RunContext(
        _image(spec.source),
        checkpoint,
        store,
        plan,
        run,
        spec.settings.threads,
        lambda: spec.token in _stopped,
    )
    if isinstance(plan.grid, FrameGrid):
        return _FrameRunner(work, plan.grid), store
    return _WindowRunner(work, plan.grid), store


@lru_cache(maxsize=4)
def _image(source: ImageRef) -> Image:
    image = open_image(source.path, series=source.series)
    if source.plane:
        image = image.with_plane(**dict(source.plane))
    if image.fingerprint != source.fingerprint:
        raise ClusterError(
            f"{source.path} is another file on {socket.gethostname()}.",
            "Workers must see the same files at the same paths.",
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


@lru_cache(maxsize=4)
def _background(image: Image) -> BackgroundMask | None:
    return BackgroundMask.of(image)
