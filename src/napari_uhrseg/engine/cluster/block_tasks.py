"""Blocks of windows, and frames with their cells, as tasks of a cluster.

::

    nearest to the viewport -> status cleared -> task submitted -> chunks committed
    -> events
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.cluster import worker
from napari_uhrseg.engine.cluster.task_queue import TaskOutcome, TaskQueue
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.background_mask import is_outside
from napari_uhrseg.engine.inference.nearest_first import NearestFirst
from napari_uhrseg.engine.inference.runner import RunTimer, read_block
from napari_uhrseg.engine.planning.plan import Plan
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.engine.tiling.frame_schedule import FrameSchedule
from napari_uhrseg.engine.tiling.frame_seams import border_store
from napari_uhrseg.io.labels.chunk_status import Status
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Roi


class BlockClient(ABC):
    """Base class of the clients that run a plan on the cluster.

    Parameters
    ----------
    tasks
        The tasks on the cluster.
    plan
        The plan of the run, with the run as the store recorded it.
    store
        Open for writing.
    viewport
        Returns the level-0 rectangle in sight.
    """

    def __init__(
        self, tasks: TaskQueue, plan: Plan, store: LabelStore, viewport: Viewport | None
    ) -> None:
        self.tasks, self.plan, self.store, self.viewport = tasks, plan, store, viewport
        self.run = plan.run
        self.timer = RunTimer()
        self.done = self.failed = 0

    @abstractmethod
    def events(self) -> Iterator[SegmentEvent]:
        """Run all pending blocks, the nearest to the viewport first."""

    def adopted(
        self, outcome: TaskOutcome, block: Roi, total: int
    ) -> Iterator[SegmentEvent]:
        """Commit the chunks of a task to the store; yield its events with counts.

        Parameters
        ----------
        outcome
            The task.
        block
            Level-0 pixels of the task.
        total
            Number of blocks of the run.

        Yields
        ------
        SegmentEvent
            Events of the task, or ``BlockFailed`` if its workers died.
        """
        if outcome.lost:
            yield self.fail(block, outcome.lost)
            return
        assert outcome.result is not None
        for part in outcome.result.parts:
            self.store.commit(part, self.run.id)
        for event in outcome.result.events:
            match event:
                case BlockDone(roi=roi, empty=empty):
                    self.done += 1
                    yield BlockDone(roi, self.done, total, empty)
                case BlockFailed():
                    self.failed += 1
                    yield event
                case _:
                    yield event

    def finished(self) -> Finished:
        """Return the last event of the run."""
        plan, seconds = self.plan, self.timer.seconds()
        left_out, area = plan.left_out, plan.left_out_area
        return Finished(self.run, self.done, self.failed, seconds, left_out, area)

    def fail(self, block: Roi, reason: str) -> BlockFailed:
        """Mark a block that no worker could run."""
        self.keep(block, "failed")
        self.failed += 1
        return BlockFailed(block, reason)

    def keep(self, block: Roi, status: Status) -> None:
        """Set the status of a block that keeps its labels."""
        self.store.write(read_block(self.store, block), self.run.id, status)


class WindowClient(BlockClient):
    """Client that runs the blocks of a plan of windows."""

    def events(self) -> Iterator[SegmentEvent]:
        """Run all pending blocks, the nearest to the viewport first."""
        blocks = self.plan.blocks(self.store.pending(self.run))
        total, seen = sum(self._count(b) for b in blocks), 0
        choose = NearestFirst(blocks, self.viewport)
        while choose or len(self.tasks):
            while choose and self.tasks.room():
                block = blocks[choose.next()]
                self.store.clear_status(block)
                self.tasks.submit(block, worker.label_block, block)
            outcome = self.tasks.next_outcome()
            if outcome is None:
                continue
            yield from self.adopted(outcome, outcome.key, len(blocks))
            if any(isinstance(e, BlockDone) and not e.empty for e in _events(outcome)):
                seen += self._count(outcome.key)
                yield self.timer.progress(seen, total)
            else:  # blocks that did not run do not count in the estimate
                total -= self._count(outcome.key)
        yield self.finished()

    def _count(self, block: Roi) -> int:
        return self.plan.count(block)


class FrameClient(BlockClient):
    """Client that runs the frames of a plan, and finishes their cells."""

    def __init__(
        self,
        tasks: TaskQueue,
        plan: Plan,
        store: LabelStore,
        viewport: Viewport | None,
        grid: FrameGrid,
    ) -> None:
        super().__init__(tasks, plan, store, viewport)
        self.grid = grid

    def events(self) -> Iterator[SegmentEvent]:
        """Run all pending frames, the nearest to the viewport first."""
        grid = self.grid
        borders = border_store(self.store.path, self.run.id, grid)
        pending = grid.cells(self.store.pending(self.run))
        self.total = len(pending)
        cells = {c for c in pending if not is_outside(self.run.region, grid.block(c))}
        for cell in sorted(set(pending) - cells):
            self.keep(grid.block(cell), "empty")
            self.done += 1
            yield BlockDone(grid.block(cell), self.done, self.total, empty=True)
        self.schedule = FrameSchedule(grid, cells, borders)
        # an earlier process may have ended between a frame and its cells
        yield from self._finish_cells()
        yield from self._run_frames(self.schedule.frames)
        if not self.schedule.failed:
            border_store(self.store.path, self.run.id).clear()
        yield self.finished()

    def _run_frames(self, frames: list[Frame]) -> Iterator[SegmentEvent]:
        """Run frames, and the cells that they complete."""
        choose = NearestFirst([self.grid.block(f) for f in frames], self.viewport)
        seen = 0
        while choose or len(self.tasks):
            while choose and self.tasks.room():
                self._send(frames[choose.next()])
            outcome = self.tasks.next_outcome()
            if outcome is None:
                continue
            kind, frame = outcome.key
            if kind == "cell":
                yield from self.adopted(outcome, self.grid.block(frame), self.total)
                self.schedule.close(frame)
                continue
            yield from self._labelled(outcome, frame)
            seen += 1
            yield self.timer.progress(seen, len(frames))
            yield from self._finish_cells(frame)

    def _send(self, frame: Frame) -> None:
        block, shown = self.grid.block(frame), self.schedule.is_open(frame)
        if shown:
            self.store.clear_status(block)
        self.tasks.submit(("frame", frame), worker.label_frame, block, frame, shown)

    def _labelled(self, outcome: TaskOutcome, frame: Frame) -> Iterator[SegmentEvent]:
        """Record that a frame has run, or why it failed."""
        unread = [e.reason for e in _events(outcome) if isinstance(e, BlockFailed)]
        if outcome.lost or unread:
            self.schedule.set_failed(frame, outcome.lost or unread[0])
            return
        self.schedule.set_ran(frame)
        yield from self.adopted(outcome, self.grid.block(frame), self.total)

    def _finish_cells(self, frame: Frame | None = None) -> Iterator[SegmentEvent]:
        """Send the cells whose frames have all run; mark those with failed frames."""
        for cell, error in self.schedule.complete_cells(frame):
            block = self.grid.block(cell)
            if error:
                yield self.fail(block, error)
                continue
            self.store.clear_status(block)
            self.tasks.submit(
                ("cell", cell), worker.finish_cell, block, cell, first=True
            )


def _events(outcome: TaskOutcome) -> tuple[SegmentEvent, ...]:
    return outcome.result.events if outcome.result else ()
