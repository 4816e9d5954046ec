"""Journal of corrections on disk: each change is recorded completely or not at all.

The journal is a folder of segments, ``00000001.log`` and so on, with records (see
`journal_record`). A change of several records is valid only with its last record. An
incomplete change at the end of the last segment is the rest of a killed process;
opening for writing removes it. Undo and redo are records too, so the newest records
alone show which changes the arrays may lack.

Records form steps, which are undone and redone as one. The size of the journal is
bounded: if it is larger, the oldest segments are removed, and their steps cannot be
undone any more. The newest step is kept whatever its size. The default of 64 MB is
some 40,000 strokes.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from napari_uhrseg.io.corrections.journal_record import (
    JournalPatch,
    Kind,
    pack_record,
    read_patch,
    scan_records,
)
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import Limits, Roi

T = TypeVar("T")


class JournalEntry(NamedTuple):
    """Position of a record on disk, and the part of it that is kept in memory."""

    number: int
    step: int
    kind: Kind
    segment: int
    offset: int
    roi: Roi


@dataclass(slots=True)
class UndoStep:
    """Records that are undone together."""

    id: int
    parts: list[JournalEntry] = field(default_factory=list)

    @property
    def bounds(self) -> Roi:
        """Bounding box of all records, in level-0 pixels."""
        return reduce(Roi.union, (p.roi for p in self.parts))


class Journal:
    """Recorded steps of a store, oldest first.

    Parameters
    ----------
    folder
        The journal's folder; `load` creates it for writing.
    shape
        Height and width of the image in pixels.
    limits
        ``journal_bytes`` and ``journal_segment_bytes`` are used.

    Attributes
    ----------
    undoable, redoable
        Steps that can be undone, and undone steps; the last one is next.
    last
        Number of the newest record; 0 if there is none.
    tail
        The newest records, to be executed again after a kill: at least `TAIL`, if
        there are as many.
    incomplete
        True if `load` found bytes that are no complete change.
    damaged
        True if older records are missing or damaged, so that the steps before them
        cannot be undone.
    """

    TAIL = 64

    def __init__(
        self, folder: PathOrUrl, shape: tuple[int, int], limits: Limits
    ) -> None:
        self._folder, self._shape, self._limits = folder, shape, limits
        self.undoable: list[UndoStep] = []
        self.redoable: list[UndoStep] = []
        self.tail: list[JournalEntry] = []
        self.last = 0
        self.incomplete = self.damaged = False
        self._replaced: list[UndoStep] = []
        self._sizes: dict[int, int] = {}

    def load(self, *, write: bool) -> None:
        """Read all records.

        ``write`` allows `append`, to one process at a time and one of its threads.
        """
        if write:
            self._folder.mkdir(exist_ok=True)
        names = (f.name for f in self._folder.glob("*.log"))
        segments = sorted(
            int(n[:8]) for n in names if re.fullmatch(r"[0-9]{8}\.log", n)
        )
        for segment in segments:
            self._scan(segment, write=write, newest=segment == segments[-1])

    # -- writing --------------------------------------------------------------

    def append(self, kind: Kind, step: int, part: JournalPatch | None = None) -> None:
        """Write a record to disk.

        Parameters
        ----------
        kind
            "begin" starts a step, "part" continues it; "undo" and "redo" have no data.
        step
            Id of the step: the number of its first record, which is `last` + 1 for
            "begin".
        part
            The data of "begin" and "part".

        Raises
        ------
        OSError
            If the disk is full or cannot be written. The record is then not in the
            journal.
        """
        self._append([(kind, part)], step)

    def append_step(self, patches: Iterable[JournalPatch]) -> int:
        """Write the records of a new step, all of them or none.

        Returns
        -------
        Number of records; 0 if there are no patches.

        Raises
        ------
        OSError
            If the disk is full or cannot be written. No record is then in the
            journal.
        """
        remaining = iter(patches)
        first = next(remaining, None)
        if first is None:
            return 0
        parts: Iterator[tuple[Kind, JournalPatch]] = (("part", p) for p in remaining)
        return self._append(chain([("begin", first)], parts), self.last + 1)

    def _append(
        self, records: Iterable[tuple[Kind, JournalPatch | None]], step: int
    ) -> int:
        segment = max(self._sizes, default=0)
        if not segment or self._sizes[segment] > self._limits.journal_segment_bytes:
            segment += 1
        path, start = self._path(segment), self._sizes.get(segment, 0)
        assert isinstance(path, Path)  # corrections in an object store are read-only
        entries: list[JournalEntry] = []
        offset = start
        with path.open("ab", buffering=0) as file:
            try:
                file.truncate(start)  # an earlier error may have left bytes
                for (kind, patch), more in _with_next(records):
                    number = self.last + 1 + len(entries)
                    data = pack_record(number, step, kind, patch, more=more)
                    roi = Roi(0, 0, 0, 0) if patch is None else patch.roi
                    entries.append(
                        JournalEntry(number, step, kind, segment, offset, roi)
                    )
                    _write_all(file, data)
                    offset += len(data)
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(start)
                raise
        if segment not in self._sizes:
            _sync_folder(path.parent)
        self._sizes[segment] = offset
        self._update(entries)
        return len(entries)

    def trim(self) -> None:
        """Remove the oldest segments while the journal is larger than its limit.

        All records must have been executed.
        """
        needed = {p.segment for step in self.undoable[-1:] for p in step.parts}
        for segment in sorted(self._sizes)[:-1]:
            if (
                sum(self._sizes.values()) <= self._limits.journal_bytes
                or segment in needed
            ):
                break
            self._path(segment).unlink()
            del self._sizes[segment]
            self._forget(segment)

    # -- reading --------------------------------------------------------------

    def read(self, entry: JournalEntry) -> JournalPatch:
        """Return the data of a record."""
        with self._path(entry.segment).open("rb") as file:
            file.seek(entry.offset)
            return read_patch(file)

    def step(self, entry: JournalEntry) -> UndoStep | None:
        """Return the step of one of the newest records; None if its data is removed."""
        steps = (*self.undoable[::-1], *self.redoable[::-1], *self._replaced)
        return next((s for s in steps if s.id == entry.step), None)

    # -- loading ----------------------------------------------------------------

    def _scan(self, segment: int, *, write: bool, newest: bool) -> None:
        """Read the changes of a segment up to the first incomplete one."""
        path = self._path(segment)
        size, whole, offset = path.stat().st_size, 0, 0
        change: list[JournalEntry] = []
        with path.open("rb") as file:
            for header, end in scan_records(file, size, self._shape):
                expected = change[-1].number if change else self.last
                if header.number <= expected:
                    break
                if expected and header.number > expected + 1:
                    self._lose_history()
                change.append(
                    JournalEntry(header.number, header.step, header.kind, segment,
                                 offset, header.roi)
                )  # fmt: skip
                offset = end
                if not header.more:
                    self._update(change)
                    change, whole = [], end
        self._sizes[segment] = whole
        if whole == size:
            return
        self.incomplete = True
        if write and isinstance(path, Path):
            os.truncate(path, whole)
        if not newest:
            # damaged by another program: earlier steps cannot be undone in order
            self._lose_history()

    def _lose_history(self) -> None:
        self.damaged = True
        self.undoable.clear()
        self.redoable.clear()

    def _update(self, change: list[JournalEntry]) -> None:
        """Update the steps for the records of a change."""
        self.tail = [*self.tail[-self.TAIL :], *change]
        for entry in change:
            self.last = entry.number
            self._update_steps(entry)

    def _update_steps(self, entry: JournalEntry) -> None:
        match entry.kind:
            case "begin":
                # their records may have to be executed again
                recent = {e.step for e in self.tail}
                steps = (*self._replaced, *self.redoable)
                self._replaced = [s for s in steps if s.id in recent]
                self.redoable.clear()
                self.undoable.append(UndoStep(entry.step, [entry]))
            case "part":
                if self.undoable and self.undoable[-1].id == entry.step:
                    self.undoable[-1].parts.append(entry)
            case "undo":
                if self.undoable and self.undoable[-1].id == entry.step:
                    self.redoable.append(self.undoable.pop())
            case "redo":
                if self.redoable and self.redoable[-1].id == entry.step:
                    self.undoable.append(self.redoable.pop())

    def _forget(self, segment: int) -> None:
        for steps in (self.undoable, self.redoable, self._replaced):
            steps[:] = [s for s in steps if all(p.segment != segment for p in s.parts)]
        self.tail = [e for e in self.tail if e.segment != segment]

    def _path(self, segment: int) -> PathOrUrl:
        return self._folder / f"{segment:08d}.log"


def _with_next(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Yield each item, and True if another one follows."""
    iterator = iter(items)
    for item in iterator:
        for following in iterator:
            yield item, True
            item = following
        yield item, False


def _write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _sync_folder(folder: Path) -> None:
    """Force the name of a new file to the disk, on systems that support it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
