"""The client's side of a run on a cluster: which task next, and what came of it.

::

    nearest to the focus -> claimed -> two tasks a worker in flight -> adopted, told
"""

import itertools
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_uhrseg.engine.cancellation import Cancelled, Stop, Viewport
from napari_uhrseg.engine.cluster import worker
from napari_uhrseg.engine.cluster.worker import RunSpec, TaskResult
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    Progress,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.background_mask import region_mask
from napari_uhrseg.engine.inference.runner import nearest
from napari_uhrseg.engine.planning.plan import Plan
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.engine.tiling.seam_blending import border_store
from napari_uhrseg.errors import ClusterError
from napari_uhrseg.io.labels.chunk_status import Status
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, Roi

if TYPE_CHECKING:
    from distributed import Client, Future

TASKS_PER_WORKER = 2  # tasks in flight: one at work, one at hand
WORKER_POLL_S = 1.0  # seconds between two looks at how many workers there are
NO_WORKER_TIMEOUT_S = 120.0  # seconds without any worker before a run gives up
STOP_POLL_S = 0.1  # seconds between two looks at whether to stop
RESULT_TIMEOUT_S = 60.0  # seconds to fetch a result that is there
WORKERS_DIED = (
    "The workers that ran it died, one after the other. Their logs say why; often it "
    "is too little memory."
)
SCHEDULER_LOST = (
    "The scheduler cannot be reached any more.",
    "Start it again and segment again: what is done stays.",
)


class WorkersDied(ClusterError):
    """A task killed its workers, or they were unlucky: nobody could do it."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """A task that has ended; ``lost`` says why, where its workers died."""

    key: Any
    result: TaskResult | None
    lost: str = ""


class TaskQueue:
    """The tasks of one run that are on the cluster."""

    def __init__(self, client: "Client", spec: RunSpec, stop: Stop | None) -> None:
        self._client, self._order, self._stop = client, spec, stop
        self._futures: dict[Any, Future] = {}
        self._landed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._workers, self._looked, self._met = 1, 0.0, time.monotonic()

    def __len__(self) -> int:
        return len(self._futures)

    def room(self) -> bool:
        """Whether another task should be sent."""
        self._look()
        return len(self._futures) < TASKS_PER_WORKER * max(1, self._workers)

    def _look(self) -> None:
        """How many workers there are now, where the last look is a while ago."""
        if time.monotonic() <= self._looked + WORKER_POLL_S:
            return
        try:
            self._workers = len(self._client.nthreads())
        except OSError as error:
            raise ClusterError(*SCHEDULER_LOST) from error
        self._looked = time.monotonic()
        if self._workers:
            self._met = self._looked

    def send(
        self,
        key: Any,
        task: Callable[..., TaskResult | None],
        *arguments: object,
        first: bool = False,
    ) -> None:
        """Put a task on the cluster; ``first``: before those that wait there."""
        self._futures[key] = future = self._client.submit(
            task,
            self._order,
            *arguments,
            key=f"{task.__name__}-{self._order.token[:8]}-{next(self._numbers)}",
            pure=False,
            priority=1 if first else 0,
        )
        future.add_done_callback(lambda _: self._landed.put(key))

    def next_outcome(self) -> TaskOutcome | None:
        """The next task that has ended; None where a moment passed without.

        Raises
        ------
        Cancelled
            ``stop()`` is true.
        ClusterError
            The scheduler or all workers are gone, do not fit, or may not write.
        UhrSegError
            What a task raised: it would end a run on one machine, too.
        """
        if self._stop is not None and self._stop():
            raise Cancelled
        try:
            key = self._landed.get(timeout=STOP_POLL_S)
        except queue.Empty:
            self._look()  # `room` is not asked where nothing is left to send
            if time.monotonic() > self._met + NO_WORKER_TIMEOUT_S:
                raise ClusterError(
                    "The cluster has had no workers for "
                    f"{NO_WORKER_TIMEOUT_S:.0f} seconds.",
                    "Start workers and segment again: what is done stays.",
                ) from None
            return None
        return self._outcome(key, self._futures.pop(key))

    def _outcome(self, key: Any, future: "Future") -> TaskOutcome:
        try:
            result: TaskResult | None = result_or_error(future)
        except WorkersDied as error:
            return TaskOutcome(key, None, error.message)
        if result is None:  # nobody asked to stop: the worker found no token
            raise ClusterError(
                f"A worker may not write {self._order.store} any more: another "
                "process has taken it over.",
                "Let that one finish, or segment again: what is done stays.",
            )
        return TaskOutcome(key, result)

    def close(self) -> None:
        """Take back what waits, and let what runs end at its next layer."""
        with suppress(Exception):  # the scheduler may be gone
            self._client.run(worker.stop, self._order.token, on_error="ignore")
            self._client.cancel(list(self._futures.values()))


def result_or_error(future: "Future") -> Any:
    """What a task returned, or what it raised, in words.

    Raises
    ------
    WorkersDied
        One worker after the other that took the task.
    ClusterError, UhrSegError
        As `TaskQueue.next_outcome` says.
    """
    from distributed import KilledWorker

    try:
        return future.result(timeout=RESULT_TIMEOUT_S)
    except KilledWorker as error:
        raise WorkersDied(
            WORKERS_DIED, "Give them less to do, or more memory."
        ) from error
    except (CancelledError, OSError, TimeoutError) as error:
        raise ClusterError(*SCHEDULER_LOST) from error
    except ImportError as error:
        raise ClusterError(
            f"A worker cannot run this package: {error}.",
            "Install the same napari-uhrseg on all workers.",
        ) from error


class WindowClient:
    """Running the blocks of a plan of windows."""

    def __init__(
        self, tasks: TaskQueue, plan: Plan, store: LabelStore, viewport: Viewport | None
    ) -> None:
        self.tasks, self.plan, self.store, self.viewport = tasks, plan, store, viewport
        self.run = plan.run
        self.started = time.monotonic()
        self.done = self.failed = 0

    def events(self) -> Iterator[SegmentEvent]:
        """Run what is pending, the nearest to the focus first."""
        blocks = self.plan.blocks(self.store.pending(self.run))
        total, seen = sum(self._count(b) for b in blocks), 0
        choose = NearestFirst([b.center for b in blocks], self.viewport)
        while choose or len(self.tasks):
            while choose and self.tasks.room():
                block = blocks[choose.next()]
                self.store.clear_status(block)
                self.tasks.send(block, worker.label_block, block)
            landed = self.tasks.next_outcome()
            if landed is None:
                continue
            yield from self.adopted(landed, landed.key, len(blocks))
            if any(isinstance(e, BlockDone) and not e.empty for e in _events(landed)):
                seen += self._count(landed.key)
                yield self.progress(seen, total)
            else:  # what was not run is off the clock
                total -= self._count(landed.key)
        yield Finished(self.run, self.done, self.failed, self.seconds())

    def adopted(
        self, landed: TaskOutcome, block: Roi, total: int
    ) -> Iterator[SegmentEvent]:
        """Take what a task wrote into the store; the events it left, counted."""
        if landed.lost:
            yield self.fail(block, landed.lost)
            return
        assert landed.result is not None
        for part in landed.result.parts:
            self.store.commit(part, self.run.id)
        for event in landed.result.events:
            match event:
                case BlockDone(roi=roi, empty=empty):
                    self.done += 1
                    yield BlockDone(roi, self.done, total, empty)
                case BlockFailed():
                    self.failed += 1
                    yield event
                case _:
                    yield event

    def fail(self, block: Roi, reason: str) -> BlockFailed:
        """A block that nobody could do."""
        self.keep(block, "failed")
        self.failed += 1
        return BlockFailed(block, reason)

    def keep(self, block: Roi, status: Status) -> None:
        """Mark a block that keeps the labels it had."""
        labels = read_array(self.store.prediction[0], block.slices)
        confidence = read_array(self.store.confidence[0], block.slices)
        self.store.write(Block(block, labels, confidence), self.run.id, status)

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def progress(self, seen: int, total: int) -> Progress:
        left = self.seconds() * (total - seen) / max(1, seen)
        return Progress(seen, max(total, seen), left)

    def _count(self, block: Roi) -> int:
        return self.plan.grid.count(self.plan.run_region(block))


class FrameClient(WindowClient):
    """Running the frames of a plan, and the cells that they complete."""

    def events(self) -> Iterator[SegmentEvent]:
        grid = self.plan.grid
        assert isinstance(grid, FrameGrid)
        self.grid = grid
        self.strips = border_store(self.store.path, self.run.id, grid)
        pending = grid.cells(self.store.pending(self.run))
        self.total = len(pending)
        self.open = set(pending)
        self.sent: set[Frame] = set()  # cells that are being finished
        self.ran = set(self.strips)
        self.lost: dict[Frame, str] = {}
        for cell in pending:
            block = grid.block(cell)
            inside = region_mask(self.run.region, block)
            if inside is not None and not inside.any():
                self.open.discard(cell)
                self.keep(block, "empty")
                self.done += 1
                yield BlockDone(block, self.done, self.total, empty=True)
        needed = {f for cell in self.open for f in grid.frames_of(cell)}
        frames = sorted(needed - self.ran)
        choose = NearestFirst([grid.block(f).center for f in frames], self.viewport)
        seen, total = 0, len(frames)
        # an earlier process may have ended between a frame and its cells
        yield from self._settle(self.open)
        while choose or len(self.tasks):
            while choose and self.tasks.room():
                self._send(frames[choose.next()])
            landed = self.tasks.next_outcome()
            if landed is None:
                continue
            kind, frame = landed.key
            if kind == "cell":
                yield from self._finished(landed, frame)
                continue
            yield from self._labelled(landed, frame)
            seen += 1
            yield self.progress(seen, total)
            yield from self._settle(set(grid.cells_of(frame)))
        if not self.lost:
            border_store(self.store.path, self.run.id).clear()
        yield Finished(self.run, self.done, self.failed, self.seconds())

    def _send(self, frame: Frame) -> None:
        block, shown = self.grid.block(frame), frame in self.open
        if shown:
            self.store.clear_status(block)
        self.tasks.send(("frame", frame), worker.label_frame, block, frame, shown)

    def _labelled(self, landed: TaskOutcome, frame: Frame) -> Iterator[SegmentEvent]:
        """A frame has run; one that could not be read is told by its cells."""
        if landed.lost:
            self.lost[frame] = landed.lost
            return
        for event in _events(landed):
            if isinstance(event, BlockFailed):
                self.lost[frame] = event.reason
                return
        self.ran.add(frame)
        yield from self.adopted(landed, self.grid.block(frame), self.total)

    def _settle(self, cells: set[Frame]) -> Iterator[SegmentEvent]:
        """Have those open cells finished whose frames have all run or failed."""
        for cell in sorted(cells & self.open - self.sent):
            frames = list(self.grid.frames_of(cell))
            if not all(f in self.ran or f in self.lost for f in frames):
                continue
            errors = [self.lost[f] for f in frames if f in self.lost]
            if errors:
                self.open.discard(cell)
                yield self.fail(self.grid.block(cell), errors[0])
                continue
            self.sent.add(cell)
            block = self.grid.block(cell)
            self.store.clear_status(block)
            self.tasks.send(("cell", cell), worker.finish_cell, block, cell, first=True)

    def _finished(self, landed: TaskOutcome, cell: Frame) -> Iterator[SegmentEvent]:
        self.open.discard(cell)
        yield from self.adopted(landed, self.grid.block(cell), self.total)
        for frame in self.grid.frames_of(cell):
            # no open cell waits for its borders any more
            if not self.open.intersection(self.grid.cells_of(frame)):
                with suppress(KeyError, FileNotFoundError):
                    del self.strips[frame]


class NearestFirst:
    """Hands out indices, the one nearest to the focus first; true while there are."""

    def __init__(
        self, centers: list[tuple[float, float]], viewport: Viewport | None
    ) -> None:
        self._centers = np.array(centers).reshape(-1, 2)
        self._waiting = np.ones(len(centers), bool)
        self._focus = viewport

    def __bool__(self) -> bool:
        return bool(self._waiting.any())

    def next(self) -> int:
        view = self._focus() if self._focus else None
        index = nearest(self._centers, self._waiting, view)
        self._waiting[index] = False
        return index


def _events(landed: TaskOutcome) -> tuple[SegmentEvent, ...]:
    return landed.result.events if landed.result else ()
