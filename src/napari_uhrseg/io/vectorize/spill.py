"""Rows of whole numbers that grow from both ends, and move to disk where they are many.

An image's background may be one object with millions of holes: they lie in a temporary
file until the object is complete. Each piece that is written is megabytes, so that what
is kept of it, its place, is nothing beside it.
"""

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.int32]

HELD = 1 << 25  # bytes of all rows together that stay in memory
OVERHEAD = 128  # bytes of an array beside its data
READ = 1 << 16  # rows read at once
COLUMNS = 3


class Rows:
    """Rows (n, 3) of int32, in order; partly on disk once `Spool.relieve` says so."""

    __slots__ = ("_parts", "count", "held", "spool")

    def __init__(self, spool: "Spool", table: Table) -> None:
        self._parts: deque[Table | tuple[int, int]] = deque([table])
        self.spool = spool
        self.count = len(table)
        self.held = table.nbytes + OVERHEAD

    def append(self, table: Table) -> None:
        self._parts.append(table)
        self.count += len(table)
        self.held += table.nbytes + OVERHEAD

    def followed_by(self, other: "Rows") -> "Rows":
        """Both in order; the one of more parts is not moved, and both are used up."""
        first, second = self._parts, other._parts
        if len(first) >= len(second):
            first.extend(second)
        else:
            second.extendleft(reversed(first))
            self._parts = second
        self.count += other.count
        self.held += other.held
        return self

    def spill(self, file: BinaryIO) -> None:
        """Put what is in memory on disk, each run of parts as one."""
        parts: deque[Table | tuple[int, int]] = deque()
        here: list[Table] = []
        for part in (*self._parts, None):
            if isinstance(part, np.ndarray):
                here.append(part)
                continue
            if here:
                table = np.concatenate(here)
                parts.append((file.seek(0, 2), len(table)))
                file.write(table.tobytes())
                here.clear()
            if part is not None:
                parts.append(part)
        self._parts, self.held = parts, 0

    def tables(self) -> Iterator[Table]:
        """The rows in order, in pieces; those on disk of at most `READ`."""
        for part in self._parts:
            if isinstance(part, np.ndarray):
                yield part
                continue
            start, count = part
            for first in range(0, count, READ):
                yield self.spool.read(start, first, min(READ, count - first))

    def table(self) -> Table:
        """All rows at once."""
        return np.concatenate(list(self.tables()))


class Spool:
    """The temporary file of many `Rows`; made when it is needed, gone when closed."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None

    def relieve(self, every: Iterable[Rows]) -> None:
        """Where these hold more than `HELD`, put the largest on disk until it is half.

        Raises OSError where the disk is full.
        """
        rows = list(every)
        held = sum(r.held for r in rows)
        if held <= HELD:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="napari-uhrseg-")  # noqa: SIM115
        for row in sorted(rows, key=lambda r: -r.held):
            if held <= HELD // 2:
                break
            held -= row.held
            row.spill(self._file)

    def read(self, start: int, first: int, count: int) -> Table:
        """Some rows of those that begin at a byte of the file."""
        assert self._file is not None
        each = COLUMNS * np.dtype(np.int32).itemsize
        self._file.seek(start + first * each)
        data = self._file.read(count * each)
        return np.frombuffer(data, np.int32).reshape(count, COLUMNS)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
