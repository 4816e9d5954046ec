"""A log of changes on disk: each is there whole, or not at all, and can be undone.

The journal is a folder of segments, ``00000001.log`` and on. A record is a header,
its checksum and its data; a torn one at the end of the last segment is what a killed
process left, and is cut off when the journal is opened for writing. Undo and redo
are records too, so that the newest record alone says what may not be done yet.

Records form **steps**, which are undone and redone as one. What is kept is bounded by
`LIMIT`: the oldest segments go when there are more bytes than that, and their steps
can no longer be undone. The newest step is kept whatever its size. 64 MB are some
40,000 strokes: days of painting.
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
from napari_uhrseg.types import Labels, Mask, Roi

LIMIT = 64 * 2**20
SEGMENT = 8 * 2**20

Kind = Literal["begin", "part", "undo", "redo"]
_KINDS: tuple[Kind, ...] = ("begin", "part", "undo", "redo")
# checksum of all that follows; number, step, kind, level, roi, sizes of the data
_HEADER = struct.Struct("<4sIQQBBqqqq3I")
_MAGIC = b"uhr1"


@dataclass(frozen=True, slots=True)
class JournalPatch:
    """A rectangle of a change: what was there and what comes.

    Parameters
    ----------
    roi
        Level-0 rectangle inside the image, its corner on multiples of ``2**level``.
    level
        Of ``mask`` and ``ids``.
    mask, ids
        bool and uint8 at that level: the pixels meant, and what they become.
    old
        uint8 of the roi's shape: the corrections before, 0 where nothing is meant.
    """

    roi: Roi
    level: int
    mask: Mask
    ids: Labels
    old: Labels

    def enlarged(self) -> tuple[Mask, Labels]:
        """Mask and ids of the roi's shape, at level 0."""
        height, width = self.old.shape
        mask, ids = self.mask, self.ids
        if self.level:
            scale = 1 << self.level
            mask = mask.repeat(scale, 0).repeat(scale, 1)
            ids = ids.repeat(scale, 0).repeat(scale, 1)
        return mask[:height, :width], ids[:height, :width]


class JournalEntry(NamedTuple):
    """Where a record lies, and the little of it that is kept in memory."""

    number: int
    step: int
    kind: Kind
    segment: int
    offset: int
    roi: Roi


@dataclass(slots=True)
class UndoStep:
    """What is undone at once."""

    id: int
    parts: list[JournalEntry] = field(default_factory=list)

    @property
    def bounds(self) -> Roi:
        return reduce(Roi.union, (p.roi for p in self.parts))


class Journal:
    """The steps of a store, oldest first.

    Parameters
    ----------
    folder
        Made where it is missing and ``write`` is set.
    write
        Whether records may be appended: one process at a time, one thread.

    Attributes
    ----------
    undoable, redoable
        Steps that are done, and steps taken back; the last one is next.
    last
        Number of the newest record; 0 where there is none.
    tail
        The newest records, at most `TAIL`, for carrying out anew.
    """

    TAIL = 64

    def __init__(self, folder: Address, *, write: bool) -> None:
        self._folder = folder
        self.undoable: list[UndoStep] = []
        self.redoable: list[UndoStep] = []
        self.tail: list[JournalEntry] = []
        self.last = 0
        self._replaced: list[UndoStep] = []
        self._sizes: dict[int, int] = {}
        if write:
            folder.mkdir(exist_ok=True)
        segments = sorted(int(f.stem) for f in folder.glob("*.log"))
        for segment in segments:
            self._scan(segment, write=write, newest=segment == segments[-1])

    # -- writing --------------------------------------------------------------

    def append(
        self, kind: Kind, step: int, part: JournalPatch | None = None
    ) -> JournalEntry:
        """A record, on disk when this returns. OSError: it is not there at all.

        A step's id is the number of the record that begins it, `last` + 1.
        """
        blobs = (b"", b"", b"")
        roi, level = Roi(0, 0, 0, 0), 0
        if part is not None:
            roi, level = part.roi, part.level
            blobs = (
                _packed(np.packbits(part.mask)),
                _packed(part.ids),
                _packed(part.old) if part.old.any() else b"",
            )
        number, code = self.last + 1, _KINDS.index(kind)
        sizes = [len(b) for b in blobs]
        place = (roi.y, roi.x, roi.height, roi.width)
        header = _HEADER.pack(_MAGIC, 0, number, step, code, level, *place, *sizes)
        record = header[8:] + b"".join(blobs)
        record = _MAGIC + zlib.crc32(record).to_bytes(4, "little") + record
        segment = max(self._sizes, default=0)
        if not segment or self._sizes[segment] > SEGMENT:
            segment += 1
        entry = JournalEntry(
            number, step, kind, segment, self._sizes.get(segment, 0), roi
        )
        self._write(entry, record)
        self._take(entry)
        return entry

    def _write(self, entry: JournalEntry, record: bytes) -> None:
        path = self._path(entry.segment)
        assert isinstance(path, Path)  # a URL is only read
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
        """Drop the oldest segments while there are more bytes than `LIMIT`.

        To be called when all records are carried out.
        """
        needed = {p.segment for step in self.undoable[-1:] for p in step.parts}
        for segment in sorted(self._sizes)[:-1]:
            if sum(self._sizes.values()) <= LIMIT or segment in needed:
                break
            self._path(segment).unlink()
            del self._sizes[segment]
            self._forget(segment)

    # -- reading --------------------------------------------------------------

    def read(self, entry: JournalEntry) -> JournalPatch:
        """The data of a record."""
        with self._path(entry.segment).open("rb") as file:
            file.seek(entry.offset)
            header = _HEADER.unpack(file.read(_HEADER.size))
            level, sizes = header[5], header[10:]
            mask, ids, old = (file.read(n) for n in sizes)
        roi = entry.roi
        shape = tuple(-(-n // (1 << level)) for n in (roi.height, roi.width))
        bits = np.frombuffer(_unpacked(mask), np.uint8)
        count = shape[0] * shape[1]
        return JournalPatch(
            roi,
            level,
            np.unpackbits(bits, count=count).reshape(shape).astype(bool),
            np.frombuffer(_unpacked(ids), np.uint8).reshape(shape),
            np.frombuffer(_unpacked(old), np.uint8).reshape(roi.height, roi.width)
            if old
            else np.zeros((roi.height, roi.width), np.uint8),
        )

    def step(self, entry: JournalEntry) -> UndoStep | None:
        """The step of one of the newest records; None where its data is gone."""
        steps = (*self.undoable[::-1], *self.redoable[::-1], *self._replaced)
        return next((s for s in steps if s.id == entry.step), None)

    # -- what is there ----------------------------------------------------------

    def _scan(self, segment: int, *, write: bool, newest: bool) -> None:
        """Take up a segment's records as far as they are whole."""
        path = self._path(segment)
        data = path.read_bytes()
        offset = 0
        while (end := _end(data, offset)) is not None:
            header = _HEADER.unpack_from(data, offset)
            number, step, code = header[2:5]
            entry = JournalEntry(
                number, step, _KINDS[code], segment, offset, Roi(*header[6:10])
            )
            self._take(entry)
            offset = end
        self._sizes[segment] = offset
        if offset < len(data) and write and isinstance(path, Path):
            os.truncate(path, offset)
        if offset < len(data) and not newest:
            # damaged from outside: what came before cannot be undone in order
            self.undoable.clear()
            self.redoable.clear()

    def _take(self, entry: JournalEntry) -> None:
        """Bring the steps in line with a record."""
        self.last = entry.number
        self.tail = [*self.tail[1 - self.TAIL :], entry]
        match entry.kind:
            case "begin":
                # their records may still have to be carried out anew
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
    """Where the record at an offset ends; None where none is whole there."""
    start = offset + _HEADER.size
    if start > len(data):
        return None
    header = _HEADER.unpack_from(data, offset)
    end = start + int(sum(header[10:]))
    if header[0] != _MAGIC or end > len(data):
        return None
    return end if zlib.crc32(data[offset + 8 : end]) == header[1] else None


def _packed(array: Labels) -> bytes:
    return bytes(imagecodecs.zstd_encode(np.ascontiguousarray(array).tobytes(), 1))


def _unpacked(data: bytes) -> bytes:
    return bytes(imagecodecs.zstd_decode(data))


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as its contents, where that can be asked."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
