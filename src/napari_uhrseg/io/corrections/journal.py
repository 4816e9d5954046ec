"""Journal of corrections on disk: each change is recorded completely or not at all.

The journal is a folder of segments, ``00000001.log`` and so on. A record is a header
with a checksum, and its data. An incomplete record at the end of the last segment is
the rest of a killed process; opening for writing removes it. Undo and redo are records
too, so the newest records alone show which changes the arrays may lack.

Records form steps, which are undone and redone as one. The size of the journal is
bounded: if it is larger, the oldest segments are removed, and their steps cannot be
undone any more. The newest step is kept whatever its size. The default of 64 MB is
some 40,000 strokes.
"""

import os
import struct
import zlib
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Literal, NamedTuple

import imagecodecs
import numpy as np

from napari_uhrseg.io.paths import Address
from napari_uhrseg.types import Labels, Limits, Mask, Roi

Kind = Literal["begin", "part", "undo", "redo"]
_KINDS: tuple[Kind, ...] = ("begin", "part", "undo", "redo")
# magic, checksum of the rest; number, step, kind, level, roi, sizes of the data
_HEADER = struct.Struct("<4sIQQBBqqqq3I")
_MAGIC = b"uhr1"


@dataclass(frozen=True, slots=True)
class JournalPatch:
    """Rectangle of a change, with its previous and its new labels.

    Parameters
    ----------
    roi
        Level-0 rectangle inside the image, its corner on multiples of ``2**level``.
    level
        Pyramid level of ``mask`` and ``ids``, at least 0.
    mask
        bool at that level: the pixels to change.
    ids
        uint8 at that level: their new class ids.
    old
        uint8 of the roi's shape: the previous corrections, 0 outside the mask.
    """

    roi: Roi
    level: int
    mask: Mask
    ids: Labels
    old: Labels

    def enlarged(self) -> tuple[Mask, Labels]:
        """Return mask and ids at level 0, of the roi's shape."""
        height, width = self.old.shape
        mask, ids = self.mask, self.ids
        if self.level:
            scale = 1 << self.level
            mask = mask.repeat(scale, 0).repeat(scale, 1)
            ids = ids.repeat(scale, 0).repeat(scale, 1)
        return mask[:height, :width], ids[:height, :width]


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
    limits
        ``journal_bytes`` and ``journal_segment_bytes`` are used.

    Attributes
    ----------
    undoable, redoable
        Steps that can be undone, and undone steps; the last one is next.
    last
        Number of the newest record; 0 if there is none.
    tail
        The newest records, at most `TAIL`, to be executed again after a kill.
    """

    TAIL = 64

    def __init__(self, folder: Address, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self.undoable: list[UndoStep] = []
        self.redoable: list[UndoStep] = []
        self.tail: list[JournalEntry] = []
        self.last = 0
        self._replaced: list[UndoStep] = []
        self._sizes: dict[int, int] = {}

    def load(self, *, write: bool) -> None:
        """Read all records.

        ``write`` allows `append`, to one process at a time and one of its threads.
        """
        if write:
            self._folder.mkdir(exist_ok=True)
        segments = sorted(int(f.stem) for f in self._folder.glob("*.log"))
        for segment in segments:
            self._scan(segment, write=write, newest=segment == segments[-1])

    # -- writing --------------------------------------------------------------

    def append(
        self, kind: Kind, step: int, part: JournalPatch | None = None
    ) -> JournalEntry:
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
        blobs = (b"", b"", b"")
        roi, level = Roi(0, 0, 0, 0), 0
        if part is not None:
            roi, level = part.roi, part.level
            blobs = (
                _compress(np.packbits(part.mask)),
                _compress(part.ids),
                _compress(part.old) if part.old.any() else b"",
            )
        number, code = self.last + 1, _KINDS.index(kind)
        sizes = [len(b) for b in blobs]
        sides = (roi.y, roi.x, roi.height, roi.width)
        header = _HEADER.pack(_MAGIC, 0, number, step, code, level, *sides, *sizes)
        record = header[8:] + b"".join(blobs)
        record = _MAGIC + zlib.crc32(record).to_bytes(4, "little") + record
        segment = max(self._sizes, default=0)
        if not segment or self._sizes[segment] > self._limits.journal_segment_bytes:
            segment += 1
        entry = JournalEntry(
            number, step, kind, segment, self._sizes.get(segment, 0), roi
        )
        self._write(entry, record)
        self._update(entry)
        return entry

    def _write(self, entry: JournalEntry, record: bytes) -> None:
        path = self._path(entry.segment)
        assert isinstance(path, Path)  # corrections in an object store are read-only
        with path.open("ab", buffering=0) as file:
            try:
                view = memoryview(record)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(entry.offset)
                raise
        if entry.segment not in self._sizes:
            _sync_folder(path.parent)
        self._sizes[entry.segment] = entry.offset + len(record)

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
            header = _HEADER.unpack(file.read(_HEADER.size))
            level, sizes = header[5], header[10:]
            mask, ids, old = (file.read(n) for n in sizes)
        roi = entry.roi
        shape = tuple(-(-n // (1 << level)) for n in (roi.height, roi.width))
        bits = np.frombuffer(_decompress(mask), np.uint8)
        count = shape[0] * shape[1]
        return JournalPatch(
            roi,
            level,
            np.unpackbits(bits, count=count).reshape(shape).astype(bool),
            np.frombuffer(_decompress(ids), np.uint8).reshape(shape),
            np.frombuffer(_decompress(old), np.uint8).reshape(roi.height, roi.width)
            if old
            else np.zeros((roi.height, roi.width), np.uint8),
        )

    def step(self, entry: JournalEntry) -> UndoStep | None:
        """Return the step of one of the newest records; None if its data is removed."""
        steps = (*self.undoable[::-1], *self.redoable[::-1], *self._replaced)
        return next((s for s in steps if s.id == entry.step), None)

    # -- loading ----------------------------------------------------------------

    def _scan(self, segment: int, *, write: bool, newest: bool) -> None:
        """Read the records of a segment up to the first incomplete one."""
        path = self._path(segment)
        data = path.read_bytes()
        offset = 0
        while (end := _end(data, offset)) is not None:
            header = _HEADER.unpack_from(data, offset)
            number, step, code = header[2:5]
            entry = JournalEntry(
                number, step, _KINDS[code], segment, offset, Roi(*header[6:10])
            )
            self._update(entry)
            offset = end
        self._sizes[segment] = offset
        if offset < len(data) and write and isinstance(path, Path):
            os.truncate(path, offset)
        if offset < len(data) and not newest:
            # damaged by another program: earlier steps cannot be undone in order
            self.undoable.clear()
            self.redoable.clear()

    def _update(self, entry: JournalEntry) -> None:
        """Update the steps for a record."""
        self.last = entry.number
        self.tail = [*self.tail[1 - self.TAIL :], entry]
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

    def _path(self, segment: int) -> Address:
        return self._folder / f"{segment:08d}.log"


def _end(data: bytes, offset: int) -> int | None:
    """Return the end of the record at an offset; None if it is incomplete."""
    start = offset + _HEADER.size
    if start > len(data):
        return None
    header = _HEADER.unpack_from(data, offset)
    end = start + int(sum(header[10:]))
    if header[0] != _MAGIC or end > len(data):
        return None
    return end if zlib.crc32(data[offset + 8 : end]) == header[1] else None


def _compress(array: Labels) -> bytes:
    return bytes(imagecodecs.zstd_encode(np.ascontiguousarray(array).tobytes(), 1))


def _decompress(data: bytes) -> bytes:
    return bytes(imagecodecs.zstd_decode(data))


def _sync_folder(folder: Path) -> None:
    """Force the name of a new file to the disk, on systems that support it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
