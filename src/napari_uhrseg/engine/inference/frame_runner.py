"""Running a plan of frames: each runs once, and seams are blended afterwards.

::

    read-ahead thread              the generator (caller's thread)
    -----------------              -------------------------------
    frame nearest to the    ->     forward; labels of its cell -> store, shown as a
    view: its one view             preview -> PreviewWritten
                                   borders of its logits -> a file of the run
                                   cells whose frames have all run:
                                   seams blended -> store, marked done -> BlockDone

A frame whose file is there has run, also in an earlier process. The files are
removed with the last cell that needs them.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    Finished,
    PreviewWritten,
    RetriedWithLess,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.background_mask import BackgroundMask
from napari_uhrseg.engine.inference.runner import RunContext, Runner, nearest
from napari_uhrseg.engine.network.device import inference_mode, is_out_of_memory
from napari_uhrseg.engine.network.profiling import release_memory
from napari_uhrseg.engine.planning.batch_size import BAND_ROWS
from napari_uhrseg.engine.prefetch import Prefetcher
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid, frame_sides
from napari_uhrseg.engine.tiling.frame_logits import FrameLogits
from napari_uhrseg.engine.tiling.merge import labels_and_confidence
from napari_uhrseg.engine.tiling.seam_blending import (
    BorderStore,
    FrameBorders,
    blend,
    border_store,
)
from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.labels.chunk_status import Status
from napari_uhrseg.io.labels.store import STORE_CHUNK
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import Labels, Mask, Roi


@dataclass(frozen=True, slots=True)
class _Item:
    """One frame: its view, and which run pixels of its cell hold image."""

    frame: Frame
    batch: Batch | None = None
    valid: Mask | None = None
    error: str = ""


class _FrameTooLarge(Exception):
    """Memory ran out in a frame."""


class FrameRunner(Runner):
    """Holds one frame and its logits, K x height x width float32."""

    def __init__(self, work: RunContext, grid: FrameGrid) -> None:
        super().__init__(work)
        self.grid = grid
        self.rows = work.plan.sized.rows  # None: a frame at once
        self.strips = self._strips()
        self.kept: Mask | None = None  # chunks done while frames were larger
        self.failed: dict[Frame, str] = {}  # why a frame could not be read
        self.open: set[Frame] = set()  # cells still to be done
        self.done = self.lost = self.total = 0  # cells

    def work(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        while True:
            try:
                yield from self._all(viewport)
            except _FrameTooLarge as error:
                yield self._less(error)
                continue
            break
        if not self.failed:
            border_store(self.store.path, self.run.id).clear()
        yield Finished(self.run, self.done, self.lost, self.seconds())

    def _strips(self) -> BorderStore:
        return border_store(self.store.path, self.run.id, self.grid)

    def _all(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        pending = self.grid.cells(self.pending())
        self.total = len(pending)
        self.open = {c for c in pending if not self.outside(self.grid.block(c))}
        for cell in sorted(set(pending) - self.open):
            self.write_empty(self.grid.block(cell))
            yield self._block_done(cell, empty=True)
        needed = {frame for cell in self.open for frame in self.grid.frames_of(cell)}
        frames = sorted(needed - set(self.strips))
        seen, total = 0, len(frames)
        # an earlier process may have ended between a frame and its cells
        yield from self._settle(self.open)
        items = Prefetcher(self._read(frames, viewport), self.plan.sized.ahead)
        with closing(items):
            for item in items:
                yield from self._run(item)
                if item.batch is None:  # what was not run is off the clock
                    total -= 1
                else:
                    seen += 1
                    yield self.progress(seen, total)
                yield from self._settle(set(self.grid.cells_of(item.frame)))

    # -- on the read-ahead thread -------------------------------------------

    def _read(self, frames: list[Frame], viewport: Viewport | None) -> Iterator[_Item]:
        background = self.background()
        waiting = np.ones(len(frames), bool)
        centers = np.array([self.grid.block(f).center for f in frames]).reshape(-1, 2)
        for _ in frames:
            index = nearest(centers, waiting, viewport() if viewport else None)
            waiting[index] = False
            try:
                yield self._read_frame(frames[index], background)
            except ReadError as error:
                yield _Item(frames[index], error=str(error))

    def _read_frame(self, frame: Frame, background: BackgroundMask | None) -> _Item:
        input_roi, labelled = self.grid.input_roi(frame), self.grid.labelled(frame)
        if background and background.is_background(self.level0(input_roi)):
            return _Item(frame)
        valid = self.valid(labelled)
        if valid is not None:
            if not valid.any():
                return _Item(frame)
            cell = self.grid.cell(frame)
            valid = valid[: cell.height, : cell.width]
        return _Item(frame, self.views([input_roi]), valid)

    # -- on the caller's thread ---------------------------------------------

    def _run(self, item: _Item) -> Iterator[SegmentEvent]:
        """Run a frame, show the labels of its cell and keep its borders."""
        if item.error:
            self.failed[item.frame] = item.error
            return
        if item.batch is None:
            self.strips[item.frame] = None
            return
        logits = self._labelled(item.frame, item.batch)
        if item.frame in self.open:
            yield self._show(item, logits)
        self.strips[item.frame] = FrameBorders.cut(logits, self.grid.overlap)

    def _labelled(self, frame: Frame, batch: Batch) -> FrameLogits:
        """The (K, h, w) logits of what the frame labels."""
        fed, labelled = self.grid.input_roi(frame), self.grid.labelled(frame)
        try:
            once = self.rows is None
            maps = self.logits(batch).float() if once else self._coarse(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise _FrameTooLarge(str(error)) from error
        return FrameLogits(maps[0], self.grid.fed, labelled.shift(-fed.y, -fed.x))

    def _coarse(self, batch: Batch) -> Tensor:
        """The same in bands, not enlarged yet."""
        assert self.rows is not None
        with inference_mode(self.device, self.plan.run.precision):
            found = self.model.forward_banded(batch, self.rows)
            return found.float()

    def _less(self, error: BaseException) -> RetriedWithLess:
        """Bands, thinner bands, smaller frames, the CPU: in that order."""
        release_memory()
        if self.rows is None and self.model.supports_banded:
            self.rows = BAND_ROWS[0]
            return self.retried(error, f"with frames in bands of {self.rows} rows")
        if self.rows is not None and self.rows > BAND_ROWS[-1]:
            self.rows = max(n for n in BAND_ROWS if n < self.rows)
            return self.retried(error, f"with frames in bands of {self.rows} rows")
        smaller = self._smaller()
        if smaller is None:
            height, width = self.grid.fed
            return self.to_cpu(f"a frame of {height} x {width} pixels", error)
        # theirs will not be the labels that lie there, once the smaller ones have run
        border_store(self.store.path, self.run.id).clear()
        self.grid = smaller
        self.strips = self._strips()
        self.kept = ~self.store.pending(self.run)
        self.failed, self.done, self.lost = {}, 0, 0
        height, width = smaller.fed
        return self.retried(error, f"with frames of {height:,} x {width:,} pixels")

    def _smaller(self) -> FrameGrid | None:
        """The next smaller frames there can be."""
        grid, scale = self.grid, self.run.scale
        most = max(grid.fed)
        for side in frame_sides(most, grid.shape, grid.overlap, scale):
            found = FrameGrid.make(
                self.plan.shape, grid.shape, scale, side, grid.overlap, self.spec
            )
            if max(found.fed) < most:
                return found
        return None

    def write(
        self, roi: Roi, labels: Labels, confidence: Labels, status: Status
    ) -> None:
        """What was done while frames were larger stays as it is."""
        if self.kept is None:
            super().write(roi, labels, confidence, status)
            return
        whole = roi.align(STORE_CHUNK)
        for y in range(whole.y, whole.bottom, STORE_CHUNK):
            for x in range(whole.x, whole.right, STORE_CHUNK):
                if not self.kept[y // STORE_CHUNK, x // STORE_CHUNK]:
                    part = Roi(y, x, STORE_CHUNK, STORE_CHUNK).intersect(roi)
                    at = part.shift(-roi.y, -roi.x).slices
                    super().write(part, labels[at], confidence[at], status)

    def _show(self, item: _Item, logits: FrameLogits) -> PreviewWritten:
        """Write a cell as its own frame sees it; its chunks stay pending."""
        cell, block = self.grid.cell(item.frame), self.grid.block(item.frame)
        with torch.inference_mode():
            labels, confidence = labels_and_confidence(
                logits.crop(cell.height, cell.width)
            )
        labels = self.ids[labels]
        if item.valid is not None:
            labels[~item.valid] = 0
            confidence[~item.valid] = 0
        labels, confidence = (
            self.at_level0(a, block, cell) for a in (labels, confidence)
        )
        self.write(block, labels, confidence, "unfinished")
        return PreviewWritten(block)

    def _settle(self, cells: set[Frame]) -> Iterator[SegmentEvent]:
        """Finish those open cells whose frames have all run or failed."""
        for cell in sorted(cells & self.open):
            frames = list(self.grid.frames_of(cell))
            if not all(f in self.failed or f in self.strips for f in frames):
                continue
            self.open.discard(cell)
            block = self.grid.block(cell)
            errors = [self.failed[f] for f in frames if f in self.failed]
            if errors:
                self.lost += 1
                self.write_failed(block)
                yield BlockFailed(block, errors[0])
                continue
            empty = self.strips[cell] is None
            if empty:
                self.write_empty(block)
            else:
                self._blend(cell)
            for frame in frames:  # no open cell waits for its borders any more
                if not self.open.intersection(self.grid.cells_of(frame)):
                    del self.strips[frame]
            yield self._block_done(cell, empty)

    def _block_done(self, cell: Frame, empty: bool) -> BlockDone:
        self.done += 1
        return BlockDone(self.grid.block(cell), self.done, self.total, empty)

    def _blend(self, cell: Frame) -> None:
        """Put the seams into a cell that its own frame has labelled."""
        block = self.grid.block(cell)
        before = self.stored(block)
        labels, confidence = before.labels.copy(), before.confidence.copy()
        for piece in blend(self.grid, cell, self.strips):
            rows, columns = self.run_pixels(block, self.grid.cell(cell))
            start = self.grid.cell(cell)
            at = piece.roi.shift(-start.y, -start.x)
            ys = np.nonzero((rows >= at.y) & (rows < at.bottom))[0]
            xs = np.nonzero((columns >= at.x) & (columns < at.right))[0]
            to, key = np.ix_(ys, xs), np.ix_(rows[ys] - at.y, columns[xs] - at.x)
            there = labels[to] > 0  # 0: no image there
            labels[to] = np.where(there, self.ids[piece.labels[key]], 0)
            confidence[to] = np.where(there, piece.confidence[key], 0)
        self.write(block, labels, confidence, "done")
