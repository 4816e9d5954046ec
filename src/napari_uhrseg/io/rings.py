"""The rings of an object's outline, of which there may be millions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.spool import Rows, Spool

Ring = npt.NDArray[np.int32]


class Holes:
    """Rings one after the other in rows: before each a row that says how long it is."""

    __slots__ = ("number", "rows")

    def __init__(self, spool: Spool) -> None:
        self.rows = Rows(spool, np.zeros((0, 3), np.int32))
        self.number = 0

    def add(self, ring: Ring) -> None:
        self.rows.append(np.concatenate([[[len(ring), 0, 0]], ring]).astype(np.int32))
        self.number += 1

    def join(self, other: "Holes") -> None:
        self.rows = self.rows.followed_by(other.rows)
        self.number += other.number

    def rings(self) -> Iterator[Ring]:
        """One by one."""
        waiting: list[Ring] = []  # the rows of a ring that is not whole yet
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


class Rings:
    """The rings of an object, read from disk one by one where they are many.

    int32 (corners, 3) each, the outer one first, not closed: x, y in pixel corners,
    and 1 where more than two boundaries meet (neighbours that are simplified must
    keep that corner). ``corners`` counts those of all rings. To be iterated, as often
    as one likes, before `trace` goes on for the last time.
    """

    def __init__(self, outer: Ring, holes: Holes | None) -> None:
        self._outer, self._holes = outer, holes
        self.corners = len(outer)
        if holes is not None:
            self.corners += holes.rows.count - holes.number

    def __len__(self) -> int:
        return 1 + (self._holes.number if self._holes else 0)

    def __iter__(self) -> Iterator[Ring]:
        yield self._outer
        if self._holes is not None:
            yield from self._holes.rings()


@dataclass(frozen=True, slots=True)
class Outline:
    """One connected object: its class, how many pixels it has, and its rings."""

    class_id: int
    pixels: int
    rings: Rings
