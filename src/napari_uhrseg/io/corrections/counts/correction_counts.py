"""Exact counts of corrected pixels, by class, in a small grid of cells."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import zarr

from napari_uhrseg.atomic import replacing
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store_files import chunk_files
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import CorrectedRegion, Labels, Roi

MAX_CELLS = 512  # cells per side of the grid

Counts = npt.NDArray[np.uint32]


class CorrectionCounts:
    """Number of corrected pixels of each class in each cell.

    Memory is at most 1 MB for each painted class.

    Parameters
    ----------
    shape
        Height and width of the image in pixels.
    cell
        Smallest side of a cell in level-0 pixels. It is doubled until at most 512
        cells cover the longer side.
    """

    def __init__(self, shape: tuple[int, int], cell: int) -> None:
        self._shape = shape
        self.cell = cell
        while -(-max(shape) // self.cell) > MAX_CELLS:
            self.cell *= 2
        self._cells = tuple(-(-n // self.cell) for n in shape)
        self._grids: dict[int, Counts] = {}

    def add(self, roi: Roi, labels: Labels, sign: int = 1) -> None:
        """Add the non-zero pixels of a rectangle to the counts, or subtract them.

        Parameters
        ----------
        roi
            Level-0 rectangle inside the image.
        labels
            uint8 of the roi's shape.
        sign
            1 adds, -1 subtracts.

        Raises
        ------
        ValueError
            If a cell would have fewer than 0 pixels, or more than it can have.
        """
        for cell in roi.tiles(self.cell):
            part = labels[cell.shift(-roi.y, -roi.x).slices]
            if not part.any():
                continue
            at = cell.y // self.cell, cell.x // self.cell
            counts = np.bincount(part.ravel())
            for value in (np.flatnonzero(counts[1:]) + 1).tolist():
                if value not in self._grids:
                    self._grids[value] = np.zeros(self._cells, np.uint32)
                count = int(self._grids[value][at]) + sign * int(counts[value])
                if not 0 <= count <= self.cell**2:
                    raise ValueError(f"{count} pixels in a cell of side {self.cell}")
                self._grids[value][at] = count

    @classmethod
    def from_array(cls, level: zarr.Array, root: PathOrUrl, cell: int) -> Self:
        """Count an array of labels on disk. Only chunks with a file are read.

        Parameters
        ----------
        level
            Level 0 of the corrections.
        root
            Folder of the group with which the level was opened.
        cell
            Smallest side of a cell in level-0 pixels.

        Returns
        -------
        Counts of all classes in the array.
        """
        made = cls((level.shape[0], level.shape[1]), cell)
        side = level.chunks[0]
        for (row, column), _ in chunk_files(root, level):
            roi = Roi(row * side, column * side, side, side)
            roi = roi.intersect(Roi(0, 0, *made._shape))
            made.add(roi, read_array(level, roi.slices))
        return made

    def by_class(self, aliases: Mapping[int, int]) -> dict[int, int]:
        """Return the pixels by displayed class id, without classes of 0 pixels."""
        sums = {c: int(g.sum(dtype=np.int64)) for c, g in self._grids.items()}
        return resolved(sums, aliases)

    def in_cell(self, cell: Roi) -> dict[int, int]:
        """Return the pixels of each class in a cell."""
        at = cell.y // self.cell, cell.x // self.cell
        found = {c: int(grid[at]) for c, grid in sorted(self._grids.items())}
        return {c: n for c, n in found.items() if n}

    def groups(self) -> tuple[CorrectedRegion, ...]:
        """Return the 8-connected groups of cells; classes are not merged in them."""
        from skimage.measure import label, regionprops

        if not self._grids:
            return ()
        taken = np.zeros(self._cells, bool)
        for grid in self._grids.values():
            taken |= grid != 0
        regions, count = label(taken, connectivity=2, return_num=True)
        each = self._pixels_by_class(regions, count)
        boxes = [r.bbox for r in regionprops(regions)]
        parts: list[list[Roi]] = [[] for _ in range(count)]
        for number, row, first, last in runs_of_cells(regions):
            parts[number - 1].append(self._roi(row, first, row + 1, last + 1))
        return tuple(
            CorrectedRegion(
                self._roi(*box), {c: n for c, n in pixels.items() if n}, tuple(own)
            )
            for box, pixels, own in zip(boxes, each, parts, strict=True)
        )

    def _pixels_by_class(
        self, regions: npt.NDArray[Any], count: int
    ) -> list[dict[int, int]]:
        """Return the pixels of each class for the regions 1 to ``count``."""
        each: list[dict[int, int]] = [{} for _ in range(count)]
        for class_id, grid in sorted(self._grids.items()):
            sums = np.bincount(regions.ravel(), grid.ravel(), minlength=count + 1)
            for number in np.flatnonzero(sums[1:]).tolist():
                each[number][class_id] = int(sums[number + 1])
        return each

    def _roi(self, top: int, left: int, bottom: int, right: int) -> Roi:
        """Return the pixels of a box of cells."""
        sides = (top, left, bottom - top, right - left)
        roi = Roi(*(self.cell * n for n in sides))
        return roi.intersect(Roi(0, 0, *self._shape))

    # -- snapshots ----------------------------------------------------------------

    def save(self, path: Path, position: int) -> None:
        """Write the counts and the number of the last journal record in them."""
        sparse = {
            str(c): np.stack([np.flatnonzero(g), g.ravel()[np.flatnonzero(g)]])
            for c, g in self._grids.items()
        }
        memory = io.BytesIO()
        np.savez(memory, position=np.int64(position), **sparse)  # type: ignore[arg-type]
        with replacing(path, path.with_suffix(".new")) as part:
            part.write_bytes(memory.getvalue())

    @classmethod
    def load(
        cls, path: PathOrUrl, shape: tuple[int, int], cell: int
    ) -> tuple[Self, int] | None:
        """Load saved counts.

        Parameters
        ----------
        path
            The file that `save` wrote.
        shape
            Height and width of the image in pixels.
        cell
            Smallest side of a cell in level-0 pixels.

        Returns
        -------
        The counts and the number of the last record in them; None if the file is
        missing or damaged.
        """
        made = cls(shape, cell)
        try:
            with np.load(io.BytesIO(path.read_bytes())) as file:
                values: dict[str, npt.NDArray] = dict(file)
            position = int(values.pop("position"))
            for name, (index, counts) in values.items():
                grid = np.zeros(made._cells, np.uint32)
                grid.ravel()[index] = counts
                made._grids[int(name)] = grid
        # a truncated file makes numpy and zipfile raise many kinds of errors
        except Exception:  # noqa: BLE001
            return None
        return made, position


def runs_of_cells(
    regions: npt.NDArray[np.integer],
) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, row, first and last column of each run of equal cells in a row."""
    edge = np.zeros((len(regions), 1), regions.dtype)
    before = np.hstack([edge, regions[:, :-1]])
    after = np.hstack([regions[:, 1:], edge])
    rows, firsts = np.nonzero((regions != before) & (regions > 0))
    lasts = np.nonzero((regions != after) & (regions > 0))[1]
    for row, first, last in zip(
        rows.tolist(), firsts.tolist(), lasts.tolist(), strict=True
    ):
        yield int(regions[row, first]), row, first, last


def resolved(counts: Mapping[int, int], aliases: Mapping[int, int]) -> dict[int, int]:
    """Return the counts with merged classes added to their displayed class, if any."""
    out: dict[int, int] = {}
    for class_id, count in counts.items():
        if count:
            shown = aliases.get(class_id, class_id)
            out[shown] = out.get(shown, 0) + count
    out.pop(0, None)  # a deleted class
    return dict(sorted(out.items()))
