"""The rings of an object's outline, of which there may be millions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.vectorize.spill import Rows, Spool

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


@dataclass(frozen=True, slots=True)
class Outline:
    """One connected object, or a piece of one.

    Attributes
    ----------
    class_id, pixels
        Its class, and how many pixels it has.
    rings
        int32 (corners, 3) each, the outer one first, not closed: x, y in pixel
        corners, and 1 where more than two boundaries meet (neighbours that are
        simplified must keep that corner).
    divided
        Whether the object had too many corners and this is a piece of it.
    """

    class_id: int
    pixels: int
    rings: tuple[Ring, ...]
    divided: bool = False

    @property
    def corners(self) -> int:
        """Those of all rings."""
        return sum(map(len, self.rings))
