"""Boundary tracing of connected objects, strip by strip without seams.

An outline follows the sides of pixels (crack following) with its object on the right
(on screen, y downwards)::

    (0,0) → (3,0)          a ring is closed when the strip that holds its lowest
      ↑       ↓            corner has been seen; until then it is a chain that
    (0,2) ← (3,2)          hangs into the next strip with both ends

Where two pixels of an object meet only at a corner, the ring turns towards its own
pixel, so only the four pixels around the corner matter. A closed ring that passes a
corner twice is split there. Rings of one object then touch at most, as required by
OGC Simple Features.

An object with too many corners is divided along the straight edge between two strips.
Both pieces have the same corners on that line.

Memory: a strip, 32 MB of corners of unfinished objects (more are written to a
temporary file, see `spill`), and 12 bytes per corner of a single outline. An outline
has at most `VectorLimits.max_corners` corners and those of a strip. A background class
is unfinished until the last strip.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.vectorize.label_strips import IntArray, ObjectTracker, Strip
from napari_uhrseg.io.vectorize.limits import VectorLimits
from napari_uhrseg.io.vectorize.rings import (
    HoleRings,
    Outline,
    Ring,
    doubled_area,
    split_ring,
)
from napari_uhrseg.io.vectorize.spill import SpillableArray, SpillFile
from napari_uhrseg.types import Labels, Roi

DIVIDED = 256  # added to the class above a division: it equals no class below
EAST, SOUTH, WEST, NORTH = range(4)


def trace_outlines(
    strips: Iterable[tuple[Roi, Labels]], limits: VectorLimits = VectorLimits()
) -> Iterator[Outline | Roi]:
    """Trace the outlines of all objects.

    Parameters
    ----------
    strips
        Rectangles of one width, from top to bottom, with uint8 labels each.
    limits
        Corners in memory, and corners of an object.

    Yields
    ------
    Outline
        Each object, after its lowest strip.
    Roi
        Each strip, after its objects, to report progress.

    Raises
    ------
    OSError
        If the disk of temporary files is full.
    """
    spill_file = SpillFile(limits)
    try:
        yield from _traced(strips, spill_file)
    finally:
        spill_file.close()


def _traced(
    strips: Iterable[tuple[Roi, Labels]], spill_file: SpillFile
) -> Iterator[Outline | Roi]:
    tracker, chains, objects = (
        ObjectTracker(),
        _Chains(spill_file),
        _Objects(spill_file),
    )
    row: Labels | None = None
    roi: Roi | None = None
    for roi, labels in strips:
        if row is None:
            row = np.zeros(roi.width, np.uint8)
        yield from _step(tracker, chains, objects, row, roi, labels)
        row = labels[-1].copy()
        spill_file.spill_if_full((*chains.rows(), *objects.rows()))
        yield roi
    if roi is not None and row is not None:
        # a row without labels closes all objects
        below = Roi(roi.bottom, roi.x, 1, roi.width)
        nothing = np.zeros((1, roi.width), np.uint8)
        yield from _step(tracker, chains, objects, row, below, nothing)


def _step(
    tracker: ObjectTracker,
    chains: "_Chains",
    objects: "_Objects",
    row: Labels,
    roi: Roi,
    labels: Labels,
) -> Iterator[Outline]:
    strip = tracker.track(roi, labels, objects.corners, objects.max_corners)
    runs = _runs(row.astype(np.int16) + DIVIDED * strip.cut, labels, roi)
    yield from objects.finish(strip, runs, chains.extend(runs))


# -- one strip ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Runs:
    """Straight pieces of boundary in a strip, in all four directions.

    Attributes
    ----------
    start
        (n, 3), first corner as in a ring. Only x is valid for a run that enters from
        outside the strip.
    direction
        (n,), `EAST`, `SOUTH`, `WEST` or `NORTH`.
    next
        (n,), index of the run that continues it, -1 if that is outside the strip.
    comes
        (n,), True for runs that enter from outside the strip.
    owner
        (n, 2), row and column of a pixel on its right. Row 0 is above the strip.
    class_id
        (n,), class of that pixel.
    """

    start: Ring
    direction: IntArray
    next: IntArray
    comes: npt.NDArray[np.bool_]
    owner: IntArray
    class_id: Labels


def _runs(above: npt.NDArray[np.int16], labels: Labels, roi: Roi) -> _Runs:
    """Return all runs that touch the rows of corners from roi.y to roi.bottom - 1."""
    height, width = labels.shape
    a = np.zeros((height + 1, width + 2), np.int16)
    a[0, 1:-1], a[1:, 1:-1] = above, labels
    nw, ne, sw, se = a[:-1, :-1], a[:-1, 1:], a[1:, :-1], a[1:, 1:]
    meeting = (nw != ne).astype(np.uint8) + (ne != se) + (se != sw) + (sw != nw) > 2

    up, down = a[:-1, 1:-1], a[1:, 1:-1]  # of each row of corners
    left, right = a[:, :-1].T, a[:, 1:].T  # of each column of corners
    east = _along(down, up != down, meeting[:, 1:-1])
    west = _along(up, up != down, meeting[:, 1:-1])
    # pixel row r lies between the rows of corners r - 1 and r
    south = _along(left, left != right, meeting.T)
    north = _along(right, left != right, meeting.T)

    y, x0, x1 = east
    parts = [(y, x0, y, x1, y + 1, x0)]
    x, y0, y1 = south
    parts.append((y0 - 1, x, y1 - 1, x, y0, x - 1))
    y, x0, x1 = west
    parts.append((y, x1, y, x0, y, x0))
    x, y0, y1 = north
    parts.append((y1 - 1, x, y0 - 1, x, y0, x))
    counts = [len(part[0]) for part in parts]
    ys, xs, end_ys, end_xs, rows, columns = np.concatenate(
        [np.stack(part) for part in parts], 1
    )
    direction = np.repeat(np.arange(4), counts)
    inside = (ys >= 0) & (ys < height)
    flag = np.zeros(len(ys), bool)
    flag[inside] = meeting[ys[inside], xs[inside]]
    return _Runs(
        np.stack([xs + roi.x, ys + roi.y, flag], 1).astype(np.int32),
        direction,
        _next(direction, ys * (width + 1) + xs, end_ys * (width + 1) + end_xs),
        ~inside,
        np.stack([rows, columns], 1),
        (a[rows, columns + 1] % DIVIDED).astype(np.uint8),
    )


def _along(
    owner: npt.NDArray[np.int16],
    differ: npt.NDArray[np.bool_],
    breaks: npt.NDArray[np.bool_],
) -> tuple[IntArray, IntArray, IntArray]:
    """Return line, first and last position of the runs along axis 1."""
    edge = differ & (owner > 0)
    continues = edge[:, :-1] & edge[:, 1:] & (owner[:, :-1] == owner[:, 1:]) & ~breaks
    begins, ends = edge.copy(), edge
    begins[:, 1:] &= ~continues
    ends[:, :-1] &= ~continues
    line, first = np.nonzero(begins)
    _, last = np.nonzero(ends)
    return line, first, last + 1


def _next(direction: IntArray, start: IntArray, end: IntArray) -> IntArray:
    """Return the run that continues each run: right, else ahead, else left.

    Each corner starts at most one run per direction.
    """
    found = np.full(len(start), -1, np.int64)
    for d in (EAST, SOUTH, WEST, NORTH):
        mine = np.flatnonzero(direction == d)
        for turn in (-1, 0, 1):  # the last to be found wins
            others = np.flatnonzero(direction == (d + turn) % 4)
            others = others[np.argsort(start[others])]
            at = np.searchsorted(start[others], end[mine])
            ok = at < len(others)
            ok[ok] = start[others[at[ok]]] == end[mine[ok]]
            found[mine[ok]] = others[at[ok]]
    return found


# -- from strip to strip ------------------------------------------------------


@dataclass(slots=True)
class _Chain:
    """Part of a ring whose two ends continue in the next strip.

    ``head`` is the column where it enters from there (northwards), ``tail`` the
    column where it leaves (southwards).
    """

    corners: SpillableArray
    head: int
    tail: int


@dataclass(frozen=True, slots=True)
class _Path:
    """Consecutive runs of a strip that enter and leave it."""

    corners: Ring
    first: int
    last: int


Closed = tuple[Ring, IntArray, int]  # corners, owner, class


class _Chains:
    """The chains that continue in the next strip."""

    def __init__(self, spill_file: SpillFile) -> None:
        self._rows = partial(SpillableArray, spill_file)
        self._open: list[_Chain] = []

    def rows(self) -> Iterator[SpillableArray]:
        """Yield the corners of all chains."""
        return (chain.corners for chain in self._open)

    def extend(self, runs: _Runs) -> list[Closed]:
        """Add the runs of a strip; return the rings that it closes."""
        follow = runs.next.tolist()
        seen = bytearray(len(follow))

        def walk(i: int) -> list[int]:
            order = []
            while i >= 0 and not seen[i]:
                seen[i] = 1
                order.append(i)
                i = follow[i]
            return order

        paths = []
        for i in np.flatnonzero(runs.comes).tolist():
            order = walk(i)
            paths.append(_Path(runs.start[order[1:]], i, order[-1]))
        closed = self._join(runs, paths)
        for i in range(len(follow)):
            if not seen[i]:
                closed.append(_closed(runs, runs.start[walk(i)], i))
        return closed

    def _join(self, runs: _Runs, paths: list[_Path]) -> list[Closed]:
        """Join paths with the chains from above; return the closed rings."""
        column, direction = runs.start[:, 0].tolist(), runs.direction.tolist()
        above = {chain.head: chain for chain in self._open}
        from_above = {column[p.first]: p for p in paths if direction[p.first] == SOUTH}
        self._open = []
        for path in paths:
            if direction[path.first] == NORTH:
                rows, last = self._follow(path, above, from_above, column, direction)
                self._open.append(_Chain(rows, column[path.first], column[last]))
        closed = []
        while from_above:
            _, path = from_above.popitem()
            rows, _ = self._follow(path, above, from_above, column, direction)
            closed.append(_closed(runs, rows.table(), path.last))
        return closed

    def _follow(
        self,
        path: _Path,
        above: dict[int, _Chain],
        from_above: dict[int, _Path],
        column: list[int],
        direction: list[int],
    ) -> tuple[SpillableArray, int]:
        """Return the path with its continuation, until it leaves or is closed."""
        rows = self._rows(path.corners)
        while direction[path.last] == NORTH:
            chain = above.pop(column[path.last])
            rows = rows.followed_by(chain.corners)
            below = from_above.pop(chain.tail, None)
            if below is None:
                break
            path = below
            rows.append(path.corners)
        return rows, path.last


def _closed(runs: _Runs, corners: Ring, run: int) -> Closed:
    return corners, runs.owner[run], int(runs.class_id[run])


# -- objects ------------------------------------------------------------------


class _Objects:
    """State of the unfinished objects.

    ``corners`` is the number of corners of each so far, int64.
    """

    def __init__(self, spill_file: SpillFile) -> None:
        self._spill_file = spill_file
        self._holes: dict[int, HoleRings] = {}
        self._pixels = np.zeros(0, np.int64)
        self._divided = np.zeros(0, bool)
        self.corners = np.zeros(0, np.int64)
        self.max_corners = spill_file.limits.max_corners

    def rows(self) -> Iterator[SpillableArray]:
        """Yield the corners of all holes."""
        return (holes.rows for holes in self._holes.values())

    def finish(
        self, strip: Strip, runs: _Runs, closed: list[Closed]
    ) -> Iterator[Outline]:
        """Yield the objects whose outer ring was closed in this strip."""
        numbers = np.concatenate([strip.above[None], strip.objects])
        pixels = np.bincount(strip.objects.ravel() + 1, minlength=strip.count + 1)[1:]
        np.add.at(pixels, strip.carried, self._pixels)
        owners = numbers[runs.owner[~runs.comes, 0], runs.owner[~runs.comes, 1]]
        corners = np.bincount(owners, minlength=strip.count)
        np.add.at(corners, strip.carried, self.corners)
        divided = strip.divided.copy()
        divided[strip.carried[self._divided]] = True
        holes: dict[int, HoleRings] = {}
        for old, mine in self._holes.items():
            number = int(strip.carried[old])
            if number in holes:
                holes[number].join(mine)
            else:
                holes[number] = mine
        outer: dict[int, tuple[int, Ring]] = {}
        for ring_corners, owner, class_id in closed:
            number = int(numbers[owner[0], owner[1]])
            for ring in split_ring(ring_corners):
                if doubled_area(ring) > 0:
                    outer[number] = class_id, ring
                else:
                    if number not in holes:
                        holes[number] = HoleRings(self._spill_file)
                    holes[number].add(ring)
        for number, (class_id, ring) in outer.items():
            inner = holes.pop(number).rings() if number in holes else ()
            yield Outline(
                class_id, int(pixels[number]), (ring, *inner), bool(divided[number])
            )
        rank = {int(number): i for i, number in enumerate(strip.open)}
        self._holes = {rank[number]: mine for number, mine in holes.items()}
        self._pixels, self.corners = pixels[strip.open], corners[strip.open]
        self._divided = divided[strip.open]
