"""Writer of tiled TIFF pyramids, tile by tile.

The libraries write a file in one call that can neither be cancelled nor report
progress, and GDAL's COG driver needs a complete file as its input. This module writes
only the container: directories before all pixels, as required by Cloud Optimized
GeoTIFF, then the tiles, smallest level first.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_uhrseg.io.export.label_pyramid import Pyramid
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.types import Labels, Roi

TILE = 512  # px, side of a tile
SHORT, LONG, LONG8 = 3, 4, 16  # TIFF's types
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 11: 4, 12: 8, 13: 4, 16: 8, 18: 8}


@dataclass(frozen=True, slots=True)
class Tag:
    """TIFF tag: data type, number of values, and little-endian bytes."""

    kind: int
    count: int
    data: bytes


Tags = Mapping[int, Tag]


def short(*values: int) -> Tag:
    """Return a tag of 16-bit integers."""
    return Tag(SHORT, len(values), struct.pack(f"<{len(values)}H", *values))


def text(value: str) -> Tag:
    """Return a tag of text."""
    data = value.encode() + b"\0"
    return Tag(2, len(data), data)


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """Tags and structure of a TIFF file.

    Attributes
    ----------
    first
        Tags of the first directory, without those that follow from the pixels.
    others
        Tags of the directories of coarser levels.
    nested
        True: coarser levels are sub-directories of the first (OME-TIFF). False: they
        are directories of their own (GeoTIFF).
    bigtiff_bytes
        Bytes of pixels above which the file is a BigTIFF.
    """

    first: Tags
    others: Tags
    nested: bool
    bigtiff_bytes: int


def write_tiff(path: Path, pyramid: Pyramid, layout: TiffLayout) -> Iterator[float]:
    """Write levels as deflated tiles of 512 x 512 pixels.

    Parameters
    ----------
    path
        File to create.
    pyramid
        Levels of uint8.
    layout
        Tags and structure of the file.

    Yields
    ------
    float
        Finished fraction, from 0 to 1. Memory: one square of 1024 x 1024 pixels,
        and 16 bytes per tile.
    """
    big = pyramid.pixels > layout.bigtiff_bytes
    first, others, nested = layout.first, layout.others, layout.nested
    pages = [
        _Page(shape, first if k == 0 else others)
        for k, shape in enumerate(pyramid.shapes)
    ]
    with path.open("wb") as file:
        file.write(_head(pages, big, nested))
        done = 0
        for level in range(len(pages) - 1, -1, -1):
            page = pages[level]
            for roi, labels in pyramid.squares(level):
                page.write(file, roi, labels)
                done += roi.area
                yield done / pyramid.pixels
        file.seek(0)
        file.write(_head(pages, big, nested))


@dataclass(slots=True)
class _Page:
    """Level with its tags and the positions of its tiles."""

    shape: tuple[int, int]
    extra: Tags
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    _plain: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = self.rows * self.columns
        self.offsets, self.sizes = [0] * count, [0] * count

    @property
    def rows(self) -> int:
        return -(-self.shape[0] // TILE)

    @property
    def columns(self) -> int:
        return -(-self.shape[1] // TILE)

    def write(self, file: BinaryIO, roi: Roi, labels: Labels) -> None:
        """Append the tiles of a square; equal tiles of one value are written once."""
        for y in range(0, min(STORE_CHUNK, roi.height), TILE):
            for x in range(0, min(STORE_CHUNK, roi.width), TILE):
                tile = np.zeros((TILE, TILE), np.uint8)
                part = labels[y : y + TILE, x : x + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                at = (roi.y + y) // TILE * self.columns + (roi.x + x) // TILE
                self.offsets[at], self.sizes[at] = self._put(file, tile)

    def _put(self, file: BinaryIO, tile: Labels) -> tuple[int, int]:
        value = int(tile[0, 0])
        plain = bool((tile == value).all())
        if plain and value in self._plain:
            return self._plain[value]
        data = zlib.compress(tile.tobytes(), 6)
        place = file.seek(0, 2), len(data)
        file.write(data + b"\0" * (len(data) % 2))
        if plain:
            self._plain[value] = place
        return place

    def tags(self, big: bool) -> dict[int, Tag]:
        """Return all tags, with the positions of the tiles written so far."""
        kind, letter = (LONG8, "Q") if big else (LONG, "I")
        count = len(self.offsets)
        places = struct.pack(f"<{count}{letter}", *self.offsets)
        sizes = struct.pack(f"<{count}I", *self.sizes)
        height, width = self.shape
        return {
            256: Tag(LONG, 1, struct.pack("<I", width)),
            257: Tag(LONG, 1, struct.pack("<I", height)),
            258: short(8),
            259: short(8),  # deflate
            277: short(1),
            322: short(TILE),
            323: short(TILE),
            324: Tag(kind, count, places),
            325: Tag(LONG, count, sizes),
            339: short(1),
            **self.extra,
        }


def _head(pages: list[_Page], big: bool, nested: bool) -> bytes:
    """Return the header and the directories; the length is always the same."""
    tables = [page.tags(big) for page in pages]
    if nested and len(pages) > 1:
        size = 8 if big else 4
        kind = 18 if big else 13
        tables[0][330] = Tag(kind, len(pages) - 1, b"\0" * size * (len(pages) - 1))
    start = 16 if big else 8
    starts = []
    for table in tables:
        starts.append(start)
        start += len(_directory(table, start, 0, big))
    if nested and len(pages) > 1:
        letter = "Q" if big else "I"
        packed = struct.pack(f"<{len(pages) - 1}{letter}", *starts[1:])
        tables[0][330] = Tag(tables[0][330].kind, len(pages) - 1, packed)
    following = [0] * len(pages) if nested else [*starts[1:], 0]
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else b"II*\0\x08\0\0\0"
    parts = zip(tables, starts, following, strict=True)
    return head + b"".join(_directory(*part, big) for part in parts)


def _directory(tags: Tags, start: int, following: int, big: bool) -> bytes:
    """Return a directory at an offset, and the values that do not fit into it."""
    word, inline, entry = ("Q", 8, 20) if big else ("I", 4, 12)
    count = struct.pack("<Q" if big else "<H", len(tags))
    after = start + len(count) + entry * len(tags) + inline
    entries, values = count, b""
    for code in sorted(tags):
        tag = tags[code]
        if len(tag.data) != tag.count * _SIZES[tag.kind]:
            raise ValueError(f"tag {code} has {len(tag.data)} bytes")
        entries += struct.pack(f"<HH{word}", code, tag.kind, tag.count)
        if len(tag.data) <= inline:
            entries += tag.data.ljust(inline, b"\0")
        else:
            entries += struct.pack(f"<{word}", after + len(values))
            values += tag.data.ljust(-(-len(tag.data) // 8) * 8, b"\0")
    entries += struct.pack(f"<{word}", following)
    return entries + values
