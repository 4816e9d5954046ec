"""Schedule of a run of frames, on one machine or on a cluster.

A cell is open until its final labels are written. It is complete when all frames that
label it have run or failed. Its seams are then blended from the borders of its frames.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from napari_uhrseg.engine.tiling.frame_grid import Frame, FrameGrid
from napari_uhrseg.engine.tiling.frame_seams import BorderMap


class FrameSchedule:
    """Frames that must run, and cells that are complete by the frames that ran.

    Parameters
    ----------
    grid
        The frames of the whole image.
    cells
        Cells to be labelled.
    borders
        Borders of the frames that have run, also in an earlier process.
    """

    def __init__(
        self, grid: FrameGrid, cells: Iterable[Frame], borders: BorderMap
    ) -> None:
        self._grid, self._borders = grid, borders
        self._open = set(cells)
        self._incomplete = set(self._open)
        self._ran = set(borders)
        self._failed: dict[Frame, str] = {}
        needed = {frame for cell in self._open for frame in grid.frames_of(cell)}
        self.frames = sorted(needed - self._ran)

    @property
    def failed(self) -> bool:
        """Return whether a frame has failed."""
        return bool(self._failed)

    def is_open(self, cell: Frame) -> bool:
        """Return whether a cell is to be labelled and not finished."""
        return cell in self._open

    def set_ran(self, frame: Frame) -> None:
        """Record that a frame has run and that its borders are stored."""
        self._ran.add(frame)

    def set_failed(self, frame: Frame, reason: str) -> None:
        """Record why a frame could not run."""
        self._failed[frame] = reason

    def complete_cells(self, frame: Frame | None = None) -> Iterator[tuple[Frame, str]]:
        """Yield each cell once, when it is complete.

        Parameters
        ----------
        frame
            The frame that ran or failed last. None: frames of an earlier process.

        Yields
        ------
        cell : Frame
        reason : str
            Reason why a frame of the cell failed; the cell is no longer open. Empty if
            all have run; the caller finishes the cell and then closes it.
        """
        cells = self._incomplete
        if frame is not None:
            cells = cells.intersection(self._grid.cells_of(frame))
        for cell in sorted(cells):
            frames = list(self._grid.frames_of(cell))
            if not all(f in self._ran or f in self._failed for f in frames):
                continue
            self._incomplete.discard(cell)
            errors = [self._failed[f] for f in frames if f in self._failed]
            if errors:
                self._open.discard(cell)
            yield cell, errors[0] if errors else ""

    def close(self, cell: Frame) -> None:
        """Record that a cell is finished; remove borders that no open cell needs."""
        self._open.discard(cell)
        for frame in self._grid.frames_of(cell):
            if not self._open.intersection(self._grid.cells_of(frame)):
                with suppress(KeyError, FileNotFoundError):
                    del self._borders[frame]
