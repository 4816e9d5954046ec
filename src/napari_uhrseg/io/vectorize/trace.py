"""The outlines of connected objects, traced strip by strip without seams.

An outline runs along the sides of pixels with its object on the right hand (as
seen on screen, y downwards)::

    (0,0) → (3,0)          a ring is closed when the strip that holds its lowest
      ↑       ↓            corner has been seen; until then it is a chain that
    (0,2) ← (3,2)          hangs into the next strip with both ends

Where two pixels of an object meet only at a corner, the ring first turns round its
own pixel, which needs no more than the four pixels around the corner. A closed
ring that so passes a corner twice is cut there: then each ring passes it once, and
rings of one object at most touch, as OGC's simple features want it.

An object with too many corners is divided: it ends above a strip, along its straight
edge, and begins anew below. Both sides keep the same corners on that line.

Memory: a strip, 32 MB of corners of what is still open (more go to a temporary file,
see `io.spool`), and 12 bytes for each corner of a single outline, which has at most
`LARGEST` and those of a strip. A background class is open until the last strip.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.vectorize.label_strips import Follower, Numbers, Strip
from napari_uhrseg.io.vectorize.rings import Holes, Outline, Ring
from napari_uhrseg.io.vectorize.spill import Rows, Spool
from napari_uhrseg.types import Labels, Roi

LARGEST = 1_000_000  # corners of an object that is not divided
CUT = 256  # added to the class of what was ended: it is like nothing below it
EAST, SOUTH, WEST, NORTH = range(4)


def trace(strips: Iterable[tuple[Roi, Labels]]) -> Iterator[Outline | Roi]:
    """The outlines of all objects, each when its lowest strip has been seen.

    Takes strips of one width that follow each other downwards, uint8 labels each.
    Yields the place of each strip after its outlines, for the progress. Raises
    OSError where the disk of temporary files is full.
    """
    spool = Spool()
    try:
        yield from _traced(strips, spool)
    finally:
        spool.close()


def _traced(
    strips: Iterable[tuple[Roi, Labels]], spool: Spool
) -> Iterator[Outline | Roi]:
    follower, chains, objects = Follower(), _Chains(spool), _Objects(spool)
    row: Labels | None = None
    roi: Roi | None = None
    for roi, labels in strips:
        if row is None:
            row = np.zeros(roi.width, np.uint8)
        yield from _step(follower, chains, objects, row, roi, labels)
        row = labels[-1].copy()
        spool.relieve((*chains.rows(), *objects.rows()))
        yield roi
    if roi is not None and row is not None:
        # a row without labels closes what is open
        below = Roi(roi.bottom, roi.x, 1, roi.width)
        nothing = np.zeros((1, roi.width), np.uint8)
        yield from _step(follower, chains, objects, row, below, nothing)


def _step(
    follower: Follower,
    chains: "_Chains",
    objects: "_Objects",
    row: Labels,
    roi: Roi,
    labels: Labels,
) -> Iterator[Outline]:
    strip = follower.follow(roi, labels, objects.corners, LARGEST)
    runs = _runs(row.astype(np.int16) + CUT * strip.cut, labels, roi)
    yield from objects.finish(strip, runs, chains.extend(runs))


# -- one strip ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Runs:
    """Straight pieces of boundary in a strip, of all four directions.

    Attributes
    ----------
    start
        (n, 3) as in a ring; of a run that comes in from outside, only x is right.
    direction
    next
        The run that goes on at its end, -1 where that is outside the strip.
    comes
        Whether it comes in from outside the strip.
    owner
        (n, 2) a pixel on its right hand: row (0 for that above the strip), column.
    class_id
        Of that pixel.
    """

    start: Ring
    direction: Numbers
    next: Numbers
    comes: npt.NDArray[np.bool_]
    owner: Numbers
    class_id: Labels


def _runs(above: npt.NDArray[np.int16], labels: Labels, roi: Roi) -> _Runs:
    """All runs that touch the rows of corners from roi.y to roi.bottom - 1."""
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
        (a[rows, columns + 1] % CUT).astype(np.uint8),
    )


def _along(
    owner: npt.NDArray[np.int16],
    differ: npt.NDArray[np.bool_],
    breaks: npt.NDArray[np.bool_],
) -> tuple[Numbers, Numbers, Numbers]:
    """Lines, first and last position of runs along axis 1 with an owner each."""
    edge = differ & (owner > 0)
    goes_on = edge[:, :-1] & edge[:, 1:] & (owner[:, :-1] == owner[:, 1:]) & ~breaks
    begins, ends = edge.copy(), edge
    begins[:, 1:] &= ~goes_on
    ends[:, :-1] &= ~goes_on
    line, first = np.nonzero(begins)
    _, last = np.nonzero(ends)
    return line, first, last + 1


def _next(direction: Numbers, start: Numbers, end: Numbers) -> Numbers:
    """Which run starts where each ends: to the right, else ahead, else to the left.

    Each corner starts at most one run of a direction.
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
    """A piece of ring that hangs into the next strip with both ends.

    ``head`` and ``tail`` are the columns where it comes up from there (northwards)
    and goes down again (southwards).
    """

    corners: Rows
    head: int
    tail: int


@dataclass(frozen=True, slots=True)
class _Path:
    """Runs that follow each other in a strip, from outside it to outside it."""

    corners: Ring
    first: int
    last: int


Closed = tuple[Ring, Numbers, int]  # corners, owner, class


class _Chains:
    """The chains that hang into the next strip."""

    def __init__(self, spool: Spool) -> None:
        self._rows = partial(Rows, spool)
        self._open: list[_Chain] = []

    def rows(self) -> Iterator[Rows]:
        """The corners of all of them."""
        return (chain.corners for chain in self._open)

    def extend(self, runs: _Runs) -> list[Closed]:
        """Take in a strip's runs; the rings that it closes."""
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
        """Tie paths to the chains from above: longer chains, and closed rings."""
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
    ) -> tuple[Rows, int]:
        """The path and what follows it, until it leaves downwards or is closed."""
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
    """What is known of the objects that are open.

    ``corners`` counts those of each so far, int64.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._holes: dict[int, Holes] = {}
        self._pixels = np.zeros(0, np.int64)
        self._divided = np.zeros(0, bool)
        self.corners = np.zeros(0, np.int64)

    def rows(self) -> Iterator[Rows]:
        """The corners of all holes."""
        return (holes.rows for holes in self._holes.values())

    def finish(
        self, strip: Strip, runs: _Runs, closed: list[Closed]
    ) -> Iterator[Outline]:
        """The objects whose outer ring was closed in this strip."""
        numbers = np.concatenate([strip.above[None], strip.objects])
        pixels = np.bincount(strip.objects.ravel() + 1, minlength=strip.count + 1)[1:]
        np.add.at(pixels, strip.carried, self._pixels)
        owners = numbers[runs.owner[~runs.comes, 0], runs.owner[~runs.comes, 1]]
        corners = np.bincount(owners, minlength=strip.count)
        np.add.at(corners, strip.carried, self.corners)
        divided = strip.divided.copy()
        divided[strip.carried[self._divided]] = True
        holes: dict[int, Holes] = {}
        for old, mine in self._holes.items():
            number = int(strip.carried[old])
            if number in holes:
                holes[number].join(mine)
            else:
                holes[number] = mine
        outer: dict[int, tuple[int, Ring]] = {}
        for ring_corners, owner, class_id in closed:
            number = int(numbers[owner[0], owner[1]])
            for ring in _cut(ring_corners):
                if _doubled_area(ring) > 0:
                    outer[number] = class_id, ring
                else:
                    if number not in holes:
                        holes[number] = Holes(self._spool)
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


def _cut(corners: Ring) -> list[Ring]:
    """The ring, or the rings it is where it passes a corner twice.

    It does so only where more than two boundaries meet.
    """
    meeting = np.flatnonzero(corners[:, 2])
    if not len(meeting):
        return [corners]
    keys = corners[meeting, 1].astype(np.int64) << 32 | corners[meeting, 0]
    _, which, passes = np.unique(keys, return_inverse=True, return_counts=True)
    twice = passes[which] > 1
    if not twice.any():
        return [corners]
    # corners that are passed once go along with the last one that is passed twice
    at, which = meeting[twice].tolist(), which[twice].tolist()
    found: list[Ring] = []
    path = [slice(0, at[0])]  # a piece since each corner that is passed twice
    place: dict[int, int] = {}
    on: list[int] = []
    for start, end, key in zip(at, [*at[1:], len(corners)], which, strict=True):
        if key in place:
            since = place[key]
            found.append(_pieced(corners, path[since:]))
            for gone in on[since:]:
                del place[gone]
            del on[since - 1 :], path[since:]
        place[key] = len(path)
        on.append(key)
        path.append(slice(start, end))
    return [*found, _pieced(corners, path)]


def _pieced(corners: Ring, path: list[slice]) -> Ring:
    return np.concatenate([corners[piece] for piece in path])


def _doubled_area(ring: Ring) -> int:
    """Twice the area: positive for an outer ring, negative for a hole."""
    x, y = ring[:, :2].T.astype(np.int64)
    inner = np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])
    return int(inner + x[-1] * y[0] - x[0] * y[-1])
