"""Grid of frames: cells that lie on the chunks of the store.

Along one axis, with cells of one or more chunks (run pixels, to the right)::

    cell 0            cell 1            cell 2
    |-----------------|-----------------|----------|        what a frame labels alone
    [=================####]                                 frame 0
                      [####=============####]               frame 1
                                  [.....####=======]        frame 2, moved inward
                      ####              ####                seams, both frames known

Frame i labels its cell and the seam after it. In the seam it is blended with frame
i + 1. The labels of a cell are final when its frame and the frames above and to the
left of it have run. Each frame runs once, in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_uhrseg.engine.tiling.run_pixels import WindowCount, run_region
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.types import InputSpec, Roi
from napari_uhrseg.types.tissue import Spans
from napari_uhrseg.units import counted, formatted

Frame = tuple[int, int]
"""Row and column of a frame, and of its cell."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The frames along one axis.

    Attributes
    ----------
    length
        Run pixels of the image along the axis.
    borders
        Borders of the cells in level-0 pixels.
    starts, ends
        First run pixel that each frame labels (cell and seam), and the one after the
        last.
    input_length
        Run pixels that the network gets for a frame, the same for all frames.
    """

    length: int
    borders: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    input_length: int

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
        """Return the frames that cover an axis.

        Parameters
        ----------
        pixels
            Level-0 pixels of the axis.
        length
            Run pixels of the axis.
        scale
            Level-0 pixels for each run pixel, above 0.
        largest
            Largest number of run pixels that a frame labels.
        overlap
            Width of a seam in run pixels.
        spec
            The model's inputs, which give the divisor and the least size.
        """
        if length <= largest:
            borders: tuple[int, ...] = (0, pixels)
        else:
            cell = cell_chunks(largest, overlap, scale) * STORE_CHUNK
            # a rest that is no longer than a seam belongs to the cell before
            count = max(1, int(np.ceil((length - overlap) / (cell / scale))))
            borders = (*range(0, cell * count, cell), pixels)
        starts = tuple(int(b / scale) for b in borders[:-1])
        ends = tuple(
            min(length, int(np.ceil(b / scale)) + overlap) for b in borders[1:]
        )
        needed = max(e - s for s, e in zip(starts, ends, strict=True))
        step = spec.divisor
        input_length = -(-max(needed, spec.min_side) // step) * step
        return cls(length, borders, starts, ends, input_length)

    def __len__(self) -> int:
        return len(self.starts)

    def input_roi(self, index: int) -> tuple[int, int]:
        """Return the first run pixel and the number of pixels that the network gets.

        The last frame is moved inward.
        """
        last = max(0, self.length - self.input_length)
        return min(self.starts[index], last), self.input_length

    def labelled(self, index: int) -> tuple[int, int]:
        """Return the first run pixel and the number of pixels of cell and seam."""
        return self.starts[index], self.ends[index] - self.starts[index]

    def cell(self, index: int, overlap: int) -> tuple[int, int]:
        """Return the first run pixel and the number of pixels of a cell alone."""
        seam = overlap if index + 1 < len(self) else 0
        return self.starts[index], self.ends[index] - seam - self.starts[index]


@dataclass(frozen=True, slots=True)
class FrameGrid:
    """All frames over an image; a `Tiling`.

    Attributes
    ----------
    rows, columns
        The frames along the two axes.
    overlap
        Width of a seam in run pixels.
    side
        Largest side of a frame in run pixels that was asked for.
    """

    rows: Axis
    columns: Axis
    overlap: int
    side: int

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
        """Return the frames that cover an image.

        Parameters
        ----------
        pixels
            Height and width of the image in level-0 pixels.
        shape
            Height and width of the image in run pixels.
        scale
            Level-0 pixels for each run pixel, above 0.
        largest
            Largest side of a frame in run pixels. A frame is larger if a chunk of the
            store does not fit into it.
        overlap
            Width of a seam in run pixels. With 0, frames do not overlap.
        spec
            The model's inputs, which give the divisor and the least size.
        """
        rows, columns = (
            Axis.make(p, n, scale, largest, overlap, spec)
            for p, n in zip(pixels, shape, strict=True)
        )
        return cls(rows, columns, overlap, largest)

    @property
    def placement(self) -> Literal["frame"]:
        """Return ``"frame"``."""
        return "frame"

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width of the image in run pixels."""
        return self.rows.length, self.columns.length

    @property
    def input_shape(self) -> tuple[int, int]:
        """Return height and width of the network's input for a frame."""
        return self.rows.input_length, self.columns.input_length

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def input_roi(self, frame: Frame) -> Roi:
        """Return the run pixels that the network gets; may reach outside the image."""
        (y, h), (x, w) = (a.input_roi(i) for a, i in self._axes(frame))
        return Roi(y, x, h, w)

    def labelled(self, frame: Frame) -> Roi:
        """Return the run pixels that a frame labels: its cell and the seam after it."""
        (y, h), (x, w) = (a.labelled(i) for a, i in self._axes(frame))
        return Roi(y, x, h, w)

    def cell(self, cell: Frame) -> Roi:
        """Return the run pixels of a cell."""
        (y, h), (x, w) = (a.cell(i, self.overlap) for a, i in self._axes(cell))
        return Roi(y, x, h, w)

    def block(self, cell: Frame) -> Roi:
        """Return the level-0 pixels of a cell, which are whole chunks of the store."""
        (y, bottom), (x, right) = (a.borders[i : i + 2] for a, i in self._axes(cell))
        return Roi(y, x, bottom - y, right - x)

    def cells(self, pending: npt.NDArray[np.bool_]) -> list[Frame]:
        """Return the cells with a pending chunk, row by row."""
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
        """Yield the frames that label a cell, in the order in which they are summed."""
        (row, column), reach = cell, min(1, self.overlap)
        for i in range(max(0, row - reach), row + 1):
            for j in range(max(0, column - reach), column + 1):
                yield i, j

    def cells_of(self, frame: Frame) -> Iterator[Frame]:
        """Yield the cells that a frame labels."""
        (row, column), reach = frame, min(1, self.overlap)
        for i in range(row, min(row + 1 + reach, len(self.rows))):
            for j in range(column, min(column + 1 + reach, len(self.columns))):
                yield i, j

    def count(self, region: Roi) -> int:
        """Return the number of frames that run to label a rectangle of run pixels."""
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

    def labelled_spans(self, region: Roi) -> tuple[Spans, Spans]:
        """Return the run pixels that the rows and columns of frames of `count` label.

        They are first and last pixel (excluded) in the region, (n, 2) int.
        """
        reach = min(1, self.overlap)
        return (
            _spans(self.rows, region.y, region.bottom, reach),
            _spans(self.columns, region.x, region.right, reach),
        )

    def count_run(self, area: Roi, scale: float, block: int, kept: int) -> WindowCount:
        """Return how many frames a run over an area computes: each of them once.

        Parameters
        ----------
        area
            Level-0 pixels to be labelled.
        scale
            Level-0 pixels for each run pixel, above 0.
        block, kept
            Not used: cells are blocks, and borders of frames wait in files.
        """
        region = run_region(area, scale, self.shape)
        total, (height, width) = self.count(region), self.input_shape
        twice = max(0.0, total * height * width / region.area - 1)
        return WindowCount(total, total, twice)

    def describe(self, count: int) -> str:
        """Return a number of frames as text, with their size."""
        height, width = (formatted(side) for side in self.input_shape)
        return f"{counted(count, 'frame')} of {width} x {height} pixels"

    def _axes(self, frame: Frame) -> tuple[tuple[Axis, int], tuple[Axis, int]]:
        return (self.rows, frame[0]), (self.columns, frame[1])


def cell_chunks(largest: int, overlap: int, scale: float) -> int:
    """Return the side of a cell in chunks of the store, at least 1.

    Parameters
    ----------
    largest
        Side of the frame in run pixels.
    overlap
        Width of a seam in run pixels.
    scale
        Level-0 pixels for each run pixel, above 0.
    """
    return max(1, int((largest - overlap) * scale / STORE_CHUNK))


def frame_sides(
    most: int, shape: tuple[int, int], overlap: int, scale: float
) -> Iterator[int]:
    """Yield the possible sides of frames in run pixels, the largest first.

    Parameters
    ----------
    most
        Largest side in run pixels.
    shape
        Height and width of the image in run pixels.
    overlap
        Width of a seam in run pixels.
    scale
        Level-0 pixels for each run pixel, above 0.
    """
    yield most
    for n in range(cell_chunks(min(most, max(shape)), overlap, scale), 0, -1):
        yield int(n * STORE_CHUNK / scale) + overlap


def _count(axis: Axis, first: int, last: int, reach: int) -> int:
    return len(_spans(axis, first, last, reach))


def _spans(axis: Axis, first: int, last: int, reach: int) -> Spans:
    """Return what the frames of an axis label between two run pixels, (n, 2)."""
    starts = np.array(axis.starts)
    touched = np.nonzero((starts < last) & (np.append(starts[1:], last) > first))[0]
    if not len(touched):
        return np.zeros((0, 2), np.int64)
    frames = slice(max(0, touched[0] - reach), touched[-1] + 1)
    ends = np.array(axis.ends)[frames]
    return np.stack([np.maximum(starts[frames], first), np.minimum(ends, last)], 1)
