"""Runner of frames: each frame runs once, and seams are blended afterwards.

::

    prefetch thread                the generator (caller's thread)
    ---------------                -------------------------------
    frame nearest to the    ->     forward pass; labels of its cell -> store, shown
    viewport: its one view         as a preview -> PreviewWritten
                                   borders of its logits -> a file of the run
                                   cells whose frames have all run:
                                   seams blended -> store, marked done -> BlockDone

A frame whose file is there has run, also in an earlier process. The files are
removed with the last cell that needs them.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_uhrseg.engine.cancellation import Viewport
from napari_uhrseg.engine.events import (
    BlockDone,
    BlockFailed,
    PreviewWritten,
    RetriedWithLess,
    SegmentEvent,
)
from napari_uhrseg.engine.inference.nearest_first import NearestFirst
from napari_uhrseg.engine.inference.out_of_memory import (
    FrameTooLargeError,
    fewer_rows,
    retried,
    smaller_frames,
)
from napari_uhrseg.engine.inference.runner import (
    RunContext,
    Runner,
    nearest_run_pixels,
    read_block,
)
from napari_uhrseg.engine.network.device import inference_mode, is_out_of_memory
from napari_uhrseg.engine.network.pixel_batch import PixelBatch
from napari_uhrseg.engine.network.profiling import release_memory
from napari_uhrseg.engine.prefetch import Prefetcher
from napari_uhrseg.engine.tiling.confidence import labels_and_confidence
from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.engine.tiling.frame_logits import FrameLogits
from napari_uhrseg.engine.tiling.frame_schedule import FrameSchedule
from napari_uhrseg.engine.tiling.frame_seams import (
    BorderStore,
    FrameBorders,
    blend,
    border_store,
)
from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK, Status
from napari_uhrseg.types import BoolMask, Labels, Roi
from napari_uhrseg.units import formatted


@dataclass(frozen=True, slots=True)
class FrameInput:
    """Input of a frame.

    Attributes
    ----------
    frame
        Row and column of the frame.
    batch
        View of the frame. None if it has no pixels to label, or could not be read.
    valid
        (h, w) bool: run pixels of the cell that have data. None: all.
    error
        Reason why the frame could not be read; empty if it was read.
    """

    frame: Frame
    batch: PixelBatch | None = None
    valid: BoolMask | None = None
    error: str = ""


class FrameRunner(Runner):
    """Runner of the frames of a plan.

    Memory is that of one frame and its logits, K x height x width float32.

    Parameters
    ----------
    context
        The context of the run.
    grid
        The frames of the whole image.
    """

    def __init__(self, context: RunContext, grid: FrameGrid) -> None:
        super().__init__(context)
        self.grid = grid
        self.rows = context.plan.sized.rows  # None: a frame at once
        self.borders = self._open_borders()
        self.kept: BoolMask | None = None  # chunks done while frames were larger
        self.done = self.lost = self.total = 0  # cells

    def run_pending(self, viewport: Viewport | None) -> Iterator[SegmentEvent]:
        """Yield the events of the run, from the first frame to ``Finished``."""
        while True:
            try:
                failed = yield from self._run_all(viewport)
            except FrameTooLargeError as error:
                yield self._use_less(error)
                continue
            break
        if not failed:
            border_store(self.store.path, self.run.id).clear()
        yield self.finished(self.done, self.lost)

    def _open_borders(self) -> BorderStore:
        return border_store(self.store.path, self.run.id, self.grid)

    def _run_all(
        self, viewport: Viewport | None
    ) -> Generator[SegmentEvent, None, bool]:
        """Run all frames and finish their cells; return whether a frame failed."""
        pending = self.grid.cells(self.pending())
        self.total = len(pending)
        cells = {c for c in pending if not self.outside(self.grid.block(c))}
        for cell in sorted(set(pending) - cells):
            self.write_empty(self.grid.block(cell))
            yield self._block_done(cell, empty=True)
        schedule = FrameSchedule(self.grid, cells, self.borders)
        seen, total = 0, len(schedule.frames)
        # an earlier process may have ended between a frame and its cells
        yield from self._finish_cells(schedule)
        inputs = Prefetcher(
            self._read(schedule.frames, viewport), self.plan.sized.ahead
        )
        with closing(inputs):
            for item in inputs:
                if item.error:
                    schedule.set_failed(item.frame, item.error)
                else:
                    yield from self.run_frame(item, schedule.is_open(item.frame))
                    schedule.set_ran(item.frame)
                if item.batch is None:  # no part of the estimate
                    total -= 1
                else:
                    seen += 1
                    yield self.timer.progress(seen, total)
                yield from self._finish_cells(schedule, item.frame)
        return schedule.failed

    # -- on the prefetch thread ---------------------------------------------

    def _read(
        self, frames: list[Frame], viewport: Viewport | None
    ) -> Iterator[FrameInput]:
        order = NearestFirst([self.grid.block(f) for f in frames], viewport)
        while order:
            yield self.read_frame(frames[order.next()])

    def read_frame(self, frame: Frame) -> FrameInput:
        """Read the view of a frame, if it has pixels to label."""
        input_roi, labelled = self.grid.input_roi(frame), self.grid.labelled(frame)
        background = self.background
        if not self.has_tissue(labelled):
            return FrameInput(frame)
        try:
            if background and background.is_background(self.level0(input_roi)):
                return FrameInput(frame)
            valid = self.valid(labelled)
            if valid is not None:
                if not valid.any():
                    return FrameInput(frame)
                cell = self.grid.cell(frame)
                valid = valid[: cell.height, : cell.width]
            return FrameInput(frame, self.views([input_roi]), valid)
        except ReadError as error:
            return FrameInput(frame, error=str(error))

    # -- on the caller's thread ---------------------------------------------

    def run_frame(self, item: FrameInput, preview: bool) -> Iterator[SegmentEvent]:
        """Run a frame and store its borders.

        Parameters
        ----------
        item
            The frame, which could be read.
        preview
            If True, write the labels of its cell as the frame alone gives them.
        """
        if item.batch is None:
            self.borders[item.frame] = None
            return
        logits = self._logits_of(item.frame, item.batch)
        if preview:
            yield self._preview(item, logits)
        self.borders[item.frame] = FrameBorders.cut(logits, self.grid.overlap)

    def _logits_of(self, frame: Frame, batch: PixelBatch) -> FrameLogits:
        """Return the (K, h, w) logits of the pixels that a frame labels."""
        whole, labelled = self.grid.input_roi(frame), self.grid.labelled(frame)
        try:
            once = self.rows is None
            maps = self.logits(batch).float() if once else self._in_bands(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise FrameTooLargeError(str(error)) from error
        return FrameLogits(
            maps[0], self.grid.input_shape, labelled.shift(-whole.y, -whole.x)
        )

    def _in_bands(self, batch: PixelBatch) -> Tensor:
        """Return logits computed in bands of rows, before they are enlarged."""
        assert self.rows is not None
        with inference_mode(self.device, self.plan.run.precision):
            inputs = batch.normalized(torch.device("cpu"), self._buffers)
            found = self.model.forward_banded(inputs, self.rows)
            return found.float()

    def _use_less(self, error: BaseException) -> RetriedWithLess:
        """Use bands, thinner bands, smaller frames or the CPU, in that order."""
        release_memory()
        rows = fewer_rows(self.rows) if self.model.supports_banded else None
        if rows is not None:
            self.rows = rows
            return retried(error, f"with frames in bands of {rows} rows")
        smaller = smaller_frames(self.grid, self.plan.shape, self.run.scale, self.spec)
        if smaller is None:
            height, width = self.grid.input_shape
            return self.to_cpu(f"a frame of {height} x {width} pixels", error)
        # the smaller frames will replace the labels that these borders belong to
        border_store(self.store.path, self.run.id).clear()
        self.grid = smaller
        self.borders = self._open_borders()
        self.kept = ~self.store.pending(self.run)
        self.done = self.lost = 0
        height, width = smaller.input_shape
        return retried(
            error, f"with frames of {formatted(height)} x {formatted(width)} pixels"
        )

    def write(
        self, roi: Roi, labels: Labels, confidence: Labels, status: Status
    ) -> None:
        """Write a block, but for chunks done while frames were larger.

        Parameters
        ----------
        roi
            The block in level-0 pixels.
        labels, confidence
            (h, w) uint8 of the block.
        status
            Status of the block's chunks.
        """
        if self.kept is None:
            super().write(roi, labels, confidence, status)
            return
        for part in roi.tiles(STORE_CHUNK):
            if not self.kept[part.y // STORE_CHUNK, part.x // STORE_CHUNK]:
                at = part.shift(-roi.y, -roi.x).slices
                super().write(part, labels[at], confidence[at], status)

    def _preview(self, item: FrameInput, logits: FrameLogits) -> PreviewWritten:
        """Write a cell as its own frame labels it; its chunks stay pending."""
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

    def _finish_cells(
        self, schedule: FrameSchedule, frame: Frame | None = None
    ) -> Iterator[SegmentEvent]:
        """Finish the cells whose frames have all run or failed."""
        for cell, error in schedule.complete_cells(frame):
            block = self.grid.block(cell)
            if error:
                self.lost += 1
                self.write_failed(block)
                yield BlockFailed(block, error)
                continue
            empty = self.finish_cell(cell)
            schedule.close(cell)
            yield self._block_done(cell, empty)

    def finish_cell(self, cell: Frame) -> bool:
        """Write the final labels of a cell; return whether it is empty."""
        empty = self.borders[cell] is None
        if empty:
            self.write_empty(self.grid.block(cell))
        else:
            self._blend(cell)
        return empty

    def _block_done(self, cell: Frame, empty: bool) -> BlockDone:
        self.done += 1
        return BlockDone(self.grid.block(cell), self.done, self.total, empty)

    def _blend(self, cell: Frame) -> None:
        """Write the seams into a cell that its own frame has labelled."""
        block = self.grid.block(cell)
        before = read_block(self.store, block)
        labels, confidence = before.labels.copy(), before.confidence.copy()
        for piece in blend(self.grid, cell, self.borders):
            rows, columns = nearest_run_pixels(
                block, self.grid.cell(cell), self.run.scale
            )
            start = self.grid.cell(cell)
            at = piece.roi.shift(-start.y, -start.x)
            ys = np.nonzero((rows >= at.y) & (rows < at.bottom))[0]
            xs = np.nonzero((columns >= at.x) & (columns < at.right))[0]
            to, key = np.ix_(ys, xs), np.ix_(rows[ys] - at.y, columns[xs] - at.x)
            there = labels[to] > 0  # 0: no image there
            labels[to] = np.where(there, self.ids[piece.labels[key]], 0)
            confidence[to] = np.where(there, piece.confidence[key], 0)
        self.write(block, labels, confidence, "done")
