"""Sieve over strips of labels: small regions become a part of their largest neighbour.

The result is that of GDAL's sieve filter with 4-connectivity on the whole image: a
region that is smaller than the threshold gets the label of its largest neighbour. If
that is small too, its largest neighbour follows, and so on. Of two neighbours of one
size, the first in the order of the pixels counts. A region without a way to a large one
stays as it is.

The strips are read three times: regions are numbered and counted, their largest
neighbours are found, and labels are replaced. The numbers are the same each time. A
table of all regions lies on disk, so that the memory is that of `ObjectTracker`, of a
strip, and of a million rows of the table.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.vectorize.label_strips import ObjectTracker, Strip
from napari_uhrseg.types import BoolMask, Labels, Roi

IntArray = npt.NDArray[np.int64]
Strips = Callable[[], Iterable[tuple[Roi, Labels]]]
TABLE_ROWS = 1 << 20  # rows of the table that are in memory
NO_LABEL = 0


class RegionTable:
    """Table of regions on disk: 26 bytes for each.

    Attributes
    ----------
    size
        Number of pixels.
    parent
        Number of the region that a region belongs to, since they meet further down.
    neighbour
        Largest neighbour of a small region; -1 without one.
    label, result
        Label before and after the sieve.
    count
        Number of regions.
    """

    def __init__(self, folder: Path) -> None:
        """Create an empty table in files of an existing folder."""
        self._folder = folder
        self.count = 0
        self.size: IntArray = np.zeros(0, np.int64)
        self.parent: IntArray = self.size
        self.neighbour: IntArray = self.size
        self.label: Labels = np.zeros(0, np.uint8)
        self.result: Labels = self.label

    def extend(self, count: int) -> None:
        """Add regions without pixels, up to a count of regions."""
        if count > len(self.size):
            rows = max(TABLE_ROWS, 2 * count)
            for name in ("size", "parent", "neighbour"):
                setattr(self, name, self._mapped(name, np.int64, rows))
            for name in ("label", "result"):
                setattr(self, name, self._mapped(name, np.uint8, rows))
        new = slice(self.count, count)
        self.parent[new] = np.arange(self.count, count)
        self.neighbour[new] = -1
        self.count = count

    def chunks(self) -> Iterator[IntArray]:
        """Yield the numbers of all regions, in ascending order."""
        for first in range(0, self.count, TABLE_ROWS):
            yield np.arange(first, min(first + TABLE_ROWS, self.count))

    def _mapped(self, name: str, dtype: type, rows: int) -> npt.NDArray[Any]:
        path = self._folder / f"{name}.table"
        path.touch()
        with path.open("r+b") as file:
            file.truncate(rows * np.dtype(dtype).itemsize)
        return np.memmap(path, dtype, "r+", shape=(rows,))


def sieve_strips(
    strips: Strips, limits: npt.NDArray[np.float64], height: int, folder: Path
) -> Iterator[float | tuple[Roi, Labels]]:
    """Yield strips in which small regions have the label of their largest neighbour.

    Parameters
    ----------
    strips
        Function that returns the strips of the image, each time the same: rectangles of
        one width, directly below each other, with uint8 labels.
    limits
        (256,) float: for each label, the number of pixels below which a region is
        small. 0 keeps all regions of the label.
    height
        Height of the image, for the progress.
    folder
        Folder for the table of the regions.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    roi, labels
        The strips from top to bottom.

    Raises
    ------
    OSError
        If the disk of the folder is full.
    """
    table = RegionTable(folder)
    for strip, ids in _numbered(strips(), table):
        _count(strip, ids, table)
        yield strip.roi.bottom / height / 3
    _resolve_parents(table)
    for strip, ids in _numbered(strips(), None):
        _find_neighbours(strip, table.parent[ids], table, limits)
        yield (1 + strip.roi.bottom / height) / 3
    _resolve_labels(table, limits)
    for strip, ids in _numbered(strips(), None):
        yield strip.roi, table.result[table.parent[ids]][strip.objects]
        yield (2 + strip.roi.bottom / height) / 3


def _numbered(
    strips: Iterable[tuple[Roi, Labels]], table: RegionTable | None
) -> Iterator[tuple[Strip, IntArray]]:
    """Yield strips with the number of the region of each of their objects.

    Regions without a label are objects, too. A region that begins with several parts
    gets the lowest of their numbers where they meet; the table notes it.
    """
    tracker, count = ObjectTracker(), 0
    opened = np.zeros(0, np.int64)
    none = np.iinfo(np.int64).max
    for roi, labels in strips:
        # the tracker sees no object where the label is 0
        shifted = cast("Labels", labels.astype(np.uint16) + 1)
        strip = tracker.track(roi, shifted)
        ids = np.full(strip.count, none)
        np.minimum.at(ids, strip.carried, opened)
        new = ids == none
        found = int(np.count_nonzero(new))
        ids[new] = np.arange(count, count + found)
        count += found
        if table is not None:
            table.extend(count)
            joined = ids[strip.carried]
            table.parent[opened[opened != joined]] = joined[opened != joined]
        opened = ids[strip.open]
        yield strip, ids


def _count(strip: Strip, ids: IntArray, table: RegionTable) -> None:
    """Add the pixels of a strip to the sizes of its regions."""
    objects = strip.objects.ravel()
    sizes = np.bincount(objects, minlength=strip.count)
    table.size[ids] += sizes
    labels = np.zeros(strip.count, np.uint8)
    labels[objects] = strip.labels.ravel() - 1
    table.label[ids[sizes > 0]] = labels[sizes > 0]


def _resolve_parents(table: RegionTable) -> None:
    """Give each region the lowest number of its parts, and that one all pixels."""
    for some in table.chunks():
        parents = np.asarray(table.parent[some])
        while True:
            above = table.parent[parents]
            if np.array_equal(above, parents):
                break
            parents = above
        table.parent[some] = parents
        part = parents != some
        np.add.at(table.size, parents[part], table.size[some[part]])
        table.size[some[part]] = 0


def _find_neighbours(
    strip: Strip,
    regions: IntArray,
    table: RegionTable,
    limits: npt.NDArray[np.float64],
) -> None:
    """Note the largest neighbour of the small regions of a strip and the row above."""
    own, index = np.unique(regions, return_inverse=True)
    sizes = np.asarray(table.size[own])
    small = sizes < limits[table.label[own]]
    if not small.any():
        return
    here = index[strip.objects]
    above = np.where(strip.above < 0, -1, index[strip.above])[None]
    up = np.concatenate([above, here[:-1]])
    of, to, order = [], [], []
    for first, second, turn, left in (
        (here, up, 0, 0),
        (here[:, 1:], here[:, :-1], 1, 1),
    ):
        differ = (first != second) & (second >= 0)
        differ &= small[first] | small[second]
        rows, columns = np.nonzero(differ)
        at = 2 * (rows * here.shape[1] + columns + left) + turn
        for one, other in ((first, second), (second, first)):
            wanted = small[one[differ]]
            of.append(one[differ][wanted])
            to.append(other[differ][wanted])
            order.append(at[wanted])
    _keep_largest(
        own, sizes, np.concatenate(of), np.concatenate(to), np.concatenate(order), table
    )


def _keep_largest(
    own: IntArray,
    sizes: IntArray,
    of: IntArray,
    to: IntArray,
    order: IntArray,
    table: RegionTable,
) -> None:
    """Note the largest of pairs of neighbours, the first one of equal sizes.

    Parameters
    ----------
    own, sizes
        Numbers and sizes of the regions of a strip.
    of, to
        Pairs of neighbours, as indices of ``own``.
    order
        Position of each pair in the order of the pixels.
    table
        The table of regions.
    """
    ranked = np.lexsort((order, -sizes[to], of))
    of, to = of[ranked], to[ranked]
    best = np.append(True, of[1:] != of[:-1]) if len(of) else np.zeros(0, bool)
    region, found = own[of[best]], own[to[best]]
    before = np.asarray(table.neighbour[region])
    larger = (before < 0) | (table.size[found] > table.size[np.maximum(before, 0)])
    table.neighbour[region[larger]] = found[larger]


def _resolve_labels(table: RegionTable, limits: npt.NDArray[np.float64]) -> None:
    """Follow the largest neighbours to a large region, and note its label.

    Each round doubles the steps that a region has gone. Regions that go in a circle
    never come to a large one.
    """
    for some in table.chunks():
        ends = ~_is_small(table, some, limits) | (table.neighbour[some] < 0)
        table.neighbour[some[ends]] = some[ends]
    for _ in range(int(table.count).bit_length() + 1):
        changed = False
        for some in table.chunks():
            target = np.asarray(table.neighbour[some])
            further = table.neighbour[target]
            moves = further != target
            changed |= bool(moves.any())
            table.neighbour[some[moves]] = further[moves]
        if not changed:
            break
    for some in table.chunks():
        target = np.asarray(table.neighbour[some])
        stays = _is_small(table, target, limits)
        table.result[some] = np.where(stays, table.label[some], table.label[target])


def _is_small(
    table: RegionTable, regions: IntArray, limits: npt.NDArray[np.float64]
) -> BoolMask:
    return np.asarray(table.size[regions] < limits[table.label[regions]])
