"""Where frames lie: one global grid of cells on the chunks of the store.

Along one axis, with cells of one or more chunks (run pixels, to the right)::

    cell 0            cell 1            cell 2
    |-----------------|-----------------|----------|        what a frame finishes
    [=================####]                                 frame 0
                      [####=============####]               frame 1
                                  [.....####=======]        frame 2, moved inward
                      ####              ####                seams, both frames known

Frame i labels its cell and the seam after it; in the seam it is blended with frame
i + 1. What a cell holds is known when its frame and the frames above and to the
left of it have run: each frame runs once, whatever the order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.labels.store import STORE_CHUNK
from napari_uhrseg.types import InputSpec, Roi

Frame = tuple[int, int]
"""Row and column of a frame, and of its cell."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The frames along one axis.

    ``borders`` of the cells in level-0 pixels, ``starts`` and ``ends`` of what the
    frames label (cell and seam) in run pixels, ``fed`` the pixels that the network
    is fed, the same for each frame.
    """

    length: int
    borders: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    fed: int

    @classmethod
    def make(
        cls,
        pixels: int,
        length: int,
        scale: float,
        largest: int,
        overlap: int,
        spec: InputSpec,
    ) -> "Axis":
        """``pixels`` of level 0 are ``length`` run pixels; frames of ``largest``."""
        if length <= largest:
            borders: tuple[int, ...] = (0, pixels)
        else:
            cell = cell_chunks(largest, overlap, scale) * STORE_CHUNK
            # what is no longer than a seam belongs to the cell before
            count = max(1, int(np.ceil((length - overlap) / (cell / scale))))
            borders = (*range(0, cell * count, cell), pixels)
        starts = tuple(int(b / scale) for b in borders[:-1])
        ends = tuple(
            min(length, int(np.ceil(b / scale)) + overlap) for b in borders[1:]
        )
        needed = max(e - s for s, e in zip(starts, ends, strict=True))
        step = spec.divisor
        fed = -(-max(needed, spec.minimum) // step) * step
        return cls(length, borders, starts, ends, fed)

    def __len__(self) -> int:
        return len(self.starts)

    def input_roi(self, index: int) -> tuple[int, int]:
        """First run pixel and number of pixels fed; moved inward at the end."""
        return min(self.starts[index], max(0, self.length - self.fed)), self.fed

    def labelled(self, index: int) -> tuple[int, int]:
        """First run pixel and number of pixels of the cell and the seam after it."""
        return self.starts[index], self.ends[index] - self.starts[index]

    def cell(self, index: int, overlap: int) -> tuple[int, int]:
        """First run pixel and number of pixels of the cell alone."""
        seam = overlap if index + 1 < len(self) else 0
        return self.starts[index], self.ends[index] - seam - self.starts[index]


@dataclass(frozen=True, slots=True)
class FrameGrid:
    """All frames over an image."""

    rows: Axis
    columns: Axis
    overlap: int

    @classmethod
    def make(
        cls,
        pixels: tuple[int, int],
        shape: tuple[int, int],
        scale: float,
        largest: int,
        overlap: int,
        spec: InputSpec,
    ) -> "FrameGrid":
        """Frames of at most ``largest`` run pixels a side, if a chunk fits into one.

        Parameters
        ----------
        pixels, shape
            Of the image, in level-0 and in run pixels.
        overlap
            Width of a seam in run pixels; 0 leaves frames side by side.
        """
        rows, columns = (
            Axis.make(p, n, scale, largest, overlap, spec)
            for p, n in zip(pixels, shape, strict=True)
        )
        return cls(rows, columns, overlap)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the image in run pixels."""
        return self.rows.length, self.columns.length

    @property
    def fed(self) -> tuple[int, int]:
        """Height and width of what the network is fed for one frame."""
        return self.rows.fed, self.columns.fed

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def input_roi(self, frame: Frame) -> Roi:
        """The run pixels fed; may reach outside a small image."""
        (y, h), (x, w) = (a.input_roi(i) for a, i in self._axes(frame))
        return Roi(y, x, h, w)

    def labelled(self, frame: Frame) -> Roi:
        """The run pixels whose labels are taken from the frame."""
        (y, h), (x, w) = (a.labelled(i) for a, i in self._axes(frame))
        return Roi(y, x, h, w)

    def cell(self, cell: Frame) -> Roi:
        """The run pixels that the labels of a cell are taken from."""
        (y, h), (x, w) = (a.cell(i, self.overlap) for a, i in self._axes(cell))
        return Roi(y, x, h, w)

    def block(self, cell: Frame) -> Roi:
        """The level-0 pixels of a cell, whole chunks of the store."""
        (y, bottom), (x, right) = (a.borders[i : i + 2] for a, i in self._axes(cell))
        return Roi(y, x, bottom - y, right - x)

    def cells(self, pending: npt.NDArray[np.bool_]) -> list[Frame]:
        """The cells with a pending chunk, row by row."""
        found = []
        for row in range(len(self.rows)):
            for column in range(len(self.columns)):
                roi = self.block((row, column)).align(STORE_CHUNK)
                y, x, h, w = (
                    v // STORE_CHUNK for v in (roi.y, roi.x, roi.height, roi.width)
                )
                if pending[y : y + h, x : x + w].any():
                    found.append((row, column))
        return found

    def frames_of(self, cell: Frame) -> Iterator[Frame]:
        """The frames that a cell's labels come from, in the order they are summed."""
        (row, column), reach = cell, min(1, self.overlap)
        for i in range(max(0, row - reach), row + 1):
            for j in range(max(0, column - reach), column + 1):
                yield i, j

    def cells_of(self, frame: Frame) -> Iterator[Frame]:
        """The cells that take labels from a frame."""
        (row, column), reach = frame, min(1, self.overlap)
        for i in range(row, min(row + 1 + reach, len(self.rows))):
            for j in range(column, min(column + 1 + reach, len(self.columns))):
                yield i, j

    def count(self, region: Roi) -> int:
        """Frames to run for the cells that hold a rectangle of run pixels."""
        return int(
            np.prod(
                [
                    _count(axis, first, last, min(1, self.overlap))
                    for axis, first, last in (
                        (self.rows, region.y, region.bottom),
                        (self.columns, region.x, region.right),
                    )
                ]
            )
        )

    def _axes(self, frame: Frame) -> tuple[tuple[Axis, int], tuple[Axis, int]]:
        return (self.rows, frame[0]), (self.columns, frame[1])


def cell_chunks(largest: int, overlap: int, scale: float) -> int:
    """Chunks a side of a cell whose frame is of ``largest`` pixels; at least one."""
    return max(1, int((largest - overlap) * scale / STORE_CHUNK))


def frame_sides(
    most: int, shape: tuple[int, int], overlap: int, scale: float
) -> Iterator[int]:
    """The sides that frames can have, the largest first."""
    yield most
    for n in range(cell_chunks(min(most, max(shape)), overlap, scale), 0, -1):
        yield int(n * STORE_CHUNK / scale) + overlap


def _count(axis: Axis, first: int, last: int, reach: int) -> int:
    starts = np.array(axis.starts)
    touched = np.nonzero((starts < last) & (np.append(starts[1:], last) > first))[0]
    if not len(touched):
        return 0
    return int(touched[-1] - max(0, touched[0] - reach) + 1)
