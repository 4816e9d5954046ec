"""Arrays that spill to a temporary file when they become large.

The background of an image may be one object with millions of holes. They are written
to a temporary file until the object is complete. Only the position of each written
piece stays in memory. Pieces have megabytes, so the positions are negligible.
"""

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from napari_uhrseg.io.vectorize.limits import VectorLimits

Table = npt.NDArray[np.int32]

OVERHEAD = 128  # bytes of an array beside its data
COLUMNS = 3


class SpillableArray:
    """Rows (n, 3) of int32 that grow at either end, in memory or in a spill file."""

    __slots__ = ("_parts", "count", "memory", "spill_file")

    def __init__(self, spill_file: "SpillFile", table: Table) -> None:
        self._parts: deque[Table | tuple[int, int]] = deque([table])
        self.spill_file = spill_file
        self.count = len(table)
        self.memory = table.nbytes + OVERHEAD

    def append(self, table: Table) -> None:
        """Add rows at the end."""
        self._parts.append(table)
        self.count += len(table)
        self.memory += table.nbytes + OVERHEAD

    def followed_by(self, other: "SpillableArray") -> "SpillableArray":
        """Return the rows of both, in order. Neither may be used afterwards."""
        first, second = self._parts, other._parts
        if len(first) >= len(second):
            first.extend(second)
        else:
            second.extendleft(reversed(first))
            self._parts = second
        self.count += other.count
        self.memory += other.memory
        return self

    def spill(self, file: BinaryIO) -> None:
        """Write the parts in memory to the file; adjacent parts become one."""
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
        self._parts, self.memory = parts, 0

    def tables(self) -> Iterator[Table]:
        """Yield the rows in order, in pieces of bounded size."""
        each = self.spill_file.limits.spill_rows
        for part in self._parts:
            if isinstance(part, np.ndarray):
                yield part
                continue
            start, count = part
            for first in range(0, count, each):
                yield self.spill_file.read(start, first, min(each, count - first))

    def table(self) -> Table:
        """Return all rows as one array."""
        return np.concatenate(list(self.tables()))


class SpillFile:
    """Temporary file shared by many `SpillableArray`.

    The file is created on first use and removed by `close`.
    """

    def __init__(self, limits: VectorLimits = VectorLimits()) -> None:
        self.limits = limits
        self._file: BinaryIO | None = None

    def spill_if_full(self, every: Iterable[SpillableArray]) -> None:
        """Spill the largest arrays if all together exceed the memory limit.

        Spilling stops at half of the limit. Raises OSError if the disk is full.
        """
        rows = list(every)
        in_memory = sum(r.memory for r in rows)
        if in_memory <= self.limits.spill_bytes:
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="napari-uhrseg-")  # noqa: SIM115
        for row in sorted(rows, key=lambda r: -r.memory):
            if in_memory <= self.limits.spill_bytes // 2:
                break
            in_memory -= row.memory
            row.spill(self._file)

    def read(self, start: int, first: int, count: int) -> Table:
        """Read rows of a table in the file.

        Parameters
        ----------
        start
            Offset of the table in bytes.
        first
            Index of the first row.
        count
            Number of rows.

        Returns
        -------
        Rows (count, 3), int32.
        """
        assert self._file is not None
        each = COLUMNS * np.dtype(np.int32).itemsize
        self._file.seek(start + first * each)
        data = self._file.read(count * each)
        return np.frombuffer(data, np.int32).reshape(count, COLUMNS)

    def close(self) -> None:
        """Close and remove the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
