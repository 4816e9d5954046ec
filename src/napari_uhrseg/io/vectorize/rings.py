"""Rings of the outline of an object, which may have millions of holes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.vectorize.spill import SpillableArray, SpillFile

Ring = npt.NDArray[np.int32]


class HoleRings:
    """Rings of holes in one array; a row with the length precedes each ring."""

    __slots__ = ("number", "rows")

    def __init__(self, spill_file: SpillFile) -> None:
        self.rows = SpillableArray(spill_file, np.zeros((0, 3), np.int32))
        self.number = 0

    def add(self, ring: Ring) -> None:
        """Append a ring."""
        self.rows.append(np.concatenate([[[len(ring), 0, 0]], ring]).astype(np.int32))
        self.number += 1

    def join(self, other: "HoleRings") -> None:
        """Append the rings of another object, which must not be used afterwards."""
        self.rows = self.rows.followed_by(other.rows)
        self.number += other.number

    def rings(self) -> Iterator[Ring]:
        """Yield the rings one by one."""
        waiting: list[Ring] = []  # rows of an incomplete ring
        have, wanted = 0, 1
        for table in self.rows.tables():
            waiting.append(table)
            have += len(table)
            if have < wanted:
                continue
            rows, at = np.concatenate(waiting), 0
            while at < have and have - at > rows[at, 0]:
                end = at + 1 + int(rows[at, 0])
                yield rows[at + 1 : end]
                at = end
            waiting, have = [rows[at:]], have - at
            wanted = 1 + int(rows[at, 0]) if have else 1


@dataclass(frozen=True, slots=True)
class Outline:
    """Outline of one connected object, or of a piece of one.

    Attributes
    ----------
    class_id
        Class of the object.
    pixels
        Number of its pixels.
    rings
        int32 (corners, 3) each, the outer ring first, not closed: x and y of the
        corner in pixels, and 1 where more than two boundaries meet (a node, which
        simplification must keep).
    divided
        True if the object had too many corners and this is a piece of it.
    """

    class_id: int
    pixels: int
    rings: tuple[Ring, ...]
    divided: bool = False

    @property
    def corners(self) -> int:
        """Number of corners of all rings."""
        return sum(map(len, self.rings))


def split_ring(corners: Ring) -> list[Ring]:
    """Split a ring at the corners that it passes twice.

    These are corners where more than two boundaries meet.
    """
    meeting = np.flatnonzero(corners[:, 2])
    if not len(meeting):
        return [corners]
    keys = corners[meeting, 1].astype(np.int64) << 32 | corners[meeting, 0]
    _, which, passes = np.unique(keys, return_inverse=True, return_counts=True)
    twice = passes[which] > 1
    if not twice.any():
        return [corners]
    # corners that are passed once belong to the last one that is passed twice
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


def doubled_area(ring: Ring) -> int:
    """Return twice the area (shoelace formula); negative for a hole."""
    x, y = ring[:, :2].T.astype(np.int64)
    inner = np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])
    return int(inner + x[-1] * y[0] - x[0] * y[-1])
