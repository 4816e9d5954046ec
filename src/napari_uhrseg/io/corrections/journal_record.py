"""Records of the journal of corrections: their bytes, and checks of these bytes.

A store may come from anyone, so a correct checksum does not mean that a record is
valid. No size is used before it is compared with the file and with the image.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

import imagecodecs
import numpy as np

from napari_uhrseg.types import BoolMask, Labels, Roi

Kind = Literal["begin", "part", "undo", "redo"]
_KINDS: tuple[Kind, ...] = ("begin", "part", "undo", "redo")
_MORE = 0x80  # bit of the kind: the change continues with the next record
# magic, checksum of the rest; number, step, kind, level, roi, sizes of the data
_HEADER = struct.Struct("<4sIQQBBqqqq3I")
_MAGIC = b"uhr1"
MAX_NUMBER = 2**62
MAX_PIXELS = 2**24  # of a record; a correction is written in parts of 2048 x 2048


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
    mask: BoolMask
    ids: Labels
    old: Labels

    def enlarged(self) -> tuple[BoolMask, Labels]:
        """Return mask and ids at level 0, of the roi's shape."""
        height, width = self.old.shape
        mask, ids = self.mask, self.ids
        if self.level:
            scale = 1 << self.level
            mask = mask.repeat(scale, 0).repeat(scale, 1)
            ids = ids.repeat(scale, 0).repeat(scale, 1)
        return mask[:height, :width], ids[:height, :width]


class RecordHeader(NamedTuple):
    """Header of a record.

    ``more`` is True if the same change continues in the next record; the change is
    complete with the first record for which it is False. ``level``, ``roi`` and
    ``sizes``, the bytes of mask, ids and previous labels, are 0 for undo and redo.
    """

    number: int
    step: int
    kind: Kind
    more: bool
    level: int
    roi: Roi
    sizes: tuple[int, int, int]


def pack_record(
    number: int, step: int, kind: Kind, patch: JournalPatch | None, *, more: bool
) -> bytes:
    """Return the bytes of a record.

    Parameters
    ----------
    number
        Number of the record, from 1.
    step
        Id of its step.
    kind
        Kind of the record.
    patch
        The data of "begin" and "part"; None for "undo" and "redo".
    more
        True if the same change continues in the next record.
    """
    blobs = (b"", b"", b"")
    roi, level = Roi(0, 0, 0, 0), 0
    if patch is not None:
        roi, level = patch.roi, patch.level
        blobs = (
            _compress(np.packbits(patch.mask)),
            _compress(patch.ids),
            _compress(patch.old) if patch.old.any() else b"",
        )
    code = _KINDS.index(kind) | (_MORE if more else 0)
    sizes = [len(b) for b in blobs]
    sides = (roi.y, roi.x, roi.height, roi.width)
    header = _HEADER.pack(_MAGIC, 0, number, step, code, level, *sides, *sizes)
    record = header[8:] + b"".join(blobs)
    return _MAGIC + zlib.crc32(record).to_bytes(4, "little") + record


def scan_records(
    file: BinaryIO, size: int, shape: tuple[int, int]
) -> Iterator[tuple[RecordHeader, int]]:
    """Yield the header and the end of each record, up to the first invalid one.

    Parameters
    ----------
    file
        The file, at its beginning.
    size
        Size of the file in bytes.
    shape
        Height and width of the image in pixels.
    """
    end = 0
    while size - end >= _HEADER.size:
        data = file.read(_HEADER.size)
        header = _parsed(data, shape)
        if header is None or sum(header.sizes) > size - end - _HEADER.size:
            return
        body = file.read(sum(header.sizes))
        if not _is_intact(data, body):
            return
        end += len(data) + len(body)
        yield header, end


def _is_intact(data: bytes, body: bytes) -> bool:
    """Compare the checksum of a record with its header and body."""
    return zlib.crc32(body, zlib.crc32(data[8:])) == int.from_bytes(data[4:8], "little")


def _parsed(data: bytes, shape: tuple[int, int]) -> RecordHeader | None:
    """Return the header; None if no writer makes such a record for the image."""
    magic, _, number, step, code, level, *rest = _HEADER.unpack(data)
    kind, more = code & ~_MORE, bool(code & _MORE)
    if magic != _MAGIC or kind >= len(_KINDS) or not 0 < number < MAX_NUMBER:
        return None
    if min(rest) < 0:
        return None
    roi, sizes = Roi(*rest[:4]), (rest[4], rest[5], rest[6])
    header = RecordHeader(number, step, _KINDS[kind], more, level, roi, sizes)
    if header.kind in ("undo", "redo"):
        return None if any(sizes) or more else header
    inside = roi.height > 0 and roi.width > 0 and Roi(0, 0, *shape).contains(roi)
    if not inside or roi.area > MAX_PIXELS or level > 24:
        return None
    height, width = _mask_shape(roi, level)
    if (height * width) << 2 * level > 4 * MAX_PIXELS:
        return None
    # zstd adds less than this to data that it cannot compress
    return header if max(sizes) <= roi.area + roi.area // 128 + 1024 else None


def read_patch(file: BinaryIO) -> JournalPatch:
    """Return the data of the record at the file's position.

    Raises
    ------
    ValueError
        If the data does not have the size that the header says.
    """
    values = _HEADER.unpack(file.read(_HEADER.size))
    level, roi = values[5], Roi(*values[6:10])
    mask, ids, old = (file.read(n) for n in values[10:])
    shape = _mask_shape(roi, level)
    count = shape[0] * shape[1]
    bits = _decompress(mask, -(-count // 8))
    return JournalPatch(
        roi,
        level,
        np.unpackbits(bits, count=count).reshape(shape).astype(bool),
        _decompress(ids, count).reshape(shape),
        _decompress(old, roi.area).reshape(roi.height, roi.width)
        if old
        else np.zeros((roi.height, roi.width), np.uint8),
    )


def _mask_shape(roi: Roi, level: int) -> tuple[int, int]:
    """Return the shape of mask and ids of a rectangle at a level."""
    return -(-roi.height // (1 << level)), -(-roi.width // (1 << level))


def _compress(array: Labels) -> bytes:
    return bytes(imagecodecs.zstd_encode(np.ascontiguousarray(array).tobytes(), 1))


def _decompress(data: bytes, size: int) -> Labels:
    """Return exactly ``size`` bytes; no larger buffer is allocated."""
    out = bytearray(size)
    try:
        found = imagecodecs.zstd_decode(data, out=out)
    except RuntimeError as error:  # of imagecodecs
        raise ValueError(f"its data cannot be decoded: {error}") from error
    if len(found) != size:
        raise ValueError(f"its data has {len(found)} bytes instead of {size}")
    return np.frombuffer(out, np.uint8)
