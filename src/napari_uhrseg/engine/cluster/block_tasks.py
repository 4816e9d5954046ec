"""Blocks of windows, and frames with their cells, as tasks of a cluster.

::

    nearest to the viewport -> status cleared -> task submitted -> chunks committed
    -> events
"""

import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.cluster import worker
from napari_uhrseg.engine.cluster.task_queue import TaskOutcome, TaskQueue
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
from napari_uhrseg.io.labels.chunk_status import Status
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, Roi


class WindowClient:
    """Runs the blocks of a plan of windows on the cluster.

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
        self.started = time.monotonic()
        self.done = self.failed = 0

    def events(self) -> Iterator[SegmentEvent]:
        """Run all pending blocks, the nearest to the viewport first."""
        blocks = self.plan.blocks(self.store.pending(self.run))
        total, seen = sum(self._count(b) for b in blocks), 0
        choose = NearestFirst([b.center for b in blocks], self.viewport)
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
                yield self.progress(seen, total)
            else:  # blocks that did not run do not count in the estimate
                total -= self._count(outcome.key)
        yield Finished(self.run, self.done, self.failed, self.seconds())

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

    def fail(self, block: Roi, reason: str) -> BlockFailed:
        """Mark a block that no worker could run."""
        self.keep(block, "failed")
        self.failed += 1
        return BlockFailed(block, reason)

    def keep(self, block: Roi, status: Status) -> None:
        """Set the status of a block that keeps its labels."""
        labels = read_array(self.store.prediction[0], block.slices)
        confidence = read_array(self.store.confidence[0], block.slices)
        self.store.write(Block(block, labels, confidence), self.run.id, status)

    def seconds(self) -> float:
        """Return the seconds since the run started."""
        return time.monotonic() - self.started

    def progress(self, seen: int, total: int) -> Progress:
        """Return the progress of the run, with the time left."""
        left = self.seconds() * (total - seen) / max(1, seen)
        return Progress(seen, max(total, seen), left)

    def _count(self, block: Roi) -> int:
        return self.plan.grid.count(self.plan.run_region(block))


class FrameClient(WindowClient):
    """Runs the frames of a plan on the cluster, and finishes their cells."""

    def events(self) -> Iterator[SegmentEvent]:
        """Run all pending frames, the nearest to the viewport first."""
        grid = self.plan.grid
        assert isinstance(grid, FrameGrid)
        self.grid = grid
        self.borders = border_store(self.store.path, self.run.id, grid)
        pending = grid.cells(self.store.pending(self.run))
        self.total = len(pending)
        self.open = set(pending)
        self.sent: set[Frame] = set()  # cells that are being finished
        self.ran = set(self.borders)
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
            outcome = self.tasks.next_outcome()
            if outcome is None:
                continue
            kind, frame = outcome.key
            if kind == "cell":
                yield from self._finished(outcome, frame)
                continue
            yield from self._labelled(outcome, frame)
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
        self.tasks.submit(("frame", frame), worker.label_frame, block, frame, shown)

    def _labelled(self, outcome: TaskOutcome, frame: Frame) -> Iterator[SegmentEvent]:
        """Note that a frame has run. One that could not be read fails its cells."""
        if outcome.lost:
            self.lost[frame] = outcome.lost
            return
        for event in _events(outcome):
            if isinstance(event, BlockFailed):
                self.lost[frame] = event.reason
                return
        self.ran.add(frame)
        yield from self.adopted(outcome, self.grid.block(frame), self.total)

    def _settle(self, cells: set[Frame]) -> Iterator[SegmentEvent]:
        """Finish the open cells whose frames have all run or failed."""
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
            self.tasks.submit(
                ("cell", cell), worker.finish_cell, block, cell, first=True
            )

    def _finished(self, outcome: TaskOutcome, cell: Frame) -> Iterator[SegmentEvent]:
        self.open.discard(cell)
        yield from self.adopted(outcome, self.grid.block(cell), self.total)
        for frame in self.grid.frames_of(cell):
            # no open cell needs its borders any more
            if not self.open.intersection(self.grid.cells_of(frame)):
                with suppress(KeyError, FileNotFoundError):
                    del self.borders[frame]


class NearestFirst:
    """Indices in order of distance to the viewport. True while some are left."""

    def __init__(
        self, centers: list[tuple[float, float]], viewport: Viewport | None
    ) -> None:
        self._centers = np.array(centers).reshape(-1, 2)
        self._waiting = np.ones(len(centers), bool)
        self._focus = viewport

    def __bool__(self) -> bool:
        return bool(self._waiting.any())

    def next(self) -> int:
        """Return the index nearest to the viewport, and remove it."""
        view = self._focus() if self._focus else None
        index = nearest(self._centers, self._waiting, view)
        self._waiting[index] = False
        return index


def _events(outcome: TaskOutcome) -> tuple[SegmentEvent, ...]:
    return outcome.result.events if outcome.result else ()
