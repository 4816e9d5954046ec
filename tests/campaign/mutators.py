"""Mutations of files: bits, lengths, numbers, JSON values, TIFF tags, and folders.

A mutation is a function of the bytes and a random generator. Equal seeds give equal
files.
"""

import json
import os
import random
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

EXTREMES = (0, 1, 2, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1)
NUMBERS = (
    b"0", b"-1", b"1", b"99999999999", b"2147483648", b"18446744073709551616",
    b"1e308", b"NaN", b"-0.0", b"1e-320", b"inf", b"4294967295",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, [], {}, "", "x", -1, 0, 1, 2**31, 2**63, 1e308, float("nan"),
    [[[]]], ["a", 1], "../outside/victim", "/etc/passwd", "http://127.0.0.1:9/x",
)  # fmt: skip


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Flip up to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cut the end off, mostly a large part of it."""
    return data[: rng.randrange(len(data))]


def extend(data: bytes, rng: random.Random) -> bytes:
    """Append bytes at random, or repeat the content."""
    return data + (data if rng.random() < 0.3 else rng.randbytes(rng.randint(1, 999)))


def set_length(data: bytes, rng: random.Random) -> bytes:
    """Overwrite two, four or eight bytes by an extreme number, often near the start."""
    size = rng.choice((2, 4, 8))
    limit = len(data) if rng.random() < 0.4 else min(len(data), 512)
    where, order = rng.randrange(max(1, limit - size)), rng.choice(("little", "big"))
    value = rng.choice(EXTREMES) & (2 ** (8 * size) - 1)
    return data[:where] + value.to_bytes(size, order) + data[where + size :]


def copy_slice(data: bytes, rng: random.Random) -> bytes:
    """Copy one part of the file over another, or fill it with zeros."""
    size = rng.randint(1, min(len(data), 4096))
    start, where = (rng.randrange(len(data) - size + 1) for _ in range(2))
    part = bytes(size) if rng.random() < 0.5 else data[start : start + size]
    return data[:where] + part + data[where + size :]


def inflate_number(data: bytes, rng: random.Random) -> bytes:
    """Replace a decimal number in a text, or in the text inside a file."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:65536]))
    if not found:
        return flip_bits(data, rng)
    match, number = rng.choice(found), rng.choice(NUMBERS)
    if b"\0" in data[:4096]:  # a binary file: keep its length
        number = number[: len(match[0])].rjust(len(match[0]), b"9")
    return data[: match.start()] + number + data[match.end() :]


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Replace or remove one value of a JSON document, or nest it deeply."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):  # nested by an earlier change
        return inflate_number(data, rng)
    if rng.random() < 0.02:
        return b"[" * 100_000 + data + b"]" * 100_000
    places = list(_places(document))
    if not places:
        return json.dumps(rng.choice(VALUES)).encode()
    owner, key = rng.choice(places)
    if rng.random() < 0.2:
        del owner[key]
    elif rng.random() < 0.1 and isinstance(owner[key], list):
        owner[key] = owner[key] * 50
    else:
        owner[key] = rng.choice(VALUES)
    return json.dumps(document).encode()


def _places(document: Any) -> Any:
    if isinstance(document, dict | list):
        keys = document if isinstance(document, dict) else range(len(document))
        for key in list(keys):
            yield document, key
            yield from _places(document[key])


def change_tag(data: bytes, rng: random.Random) -> bytes:
    """Overwrite type, count or value of one TIFF tag of a random page."""
    little = data[:2] == b"II"
    big = data[2 if little else 3 : 3 if little else 4] == b"+"
    order = "<" if little else ">"
    head, count, entry, link = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)
    tags: list[int] = []
    (at,) = struct.unpack_from(order + head, data, 8 if big else 4)
    try:
        for _ in range(20):
            (found,) = struct.unpack_from(order + count, data, at)
            first = at + struct.calcsize(count)
            tags += [first + k * entry for k in range(min(found, 100))]
            (at,) = struct.unpack_from(order + head, data, first + found * entry)
            if not at:
                break
    except struct.error:
        pass
    if not tags:
        return flip_bits(data, rng)
    offset = rng.choice((0, 2, 4, 4 + link, 4 + link))  # tag, type, count, value
    where, size = rng.choice(tags) + offset, 2 if offset < 4 else link
    value = rng.choice((*EXTREMES, rng.randrange(65536))) & (2 ** (8 * size) - 1)
    number = value.to_bytes(size, "little" if little else "big")
    return data[:where] + number + data[where + size :]


def forge_record(data: bytes, rng: random.Random) -> bytes:
    """Change a field of the journal's first records and correct the checksum."""
    starts = [m.start() for m in re.finditer(b"uhr1", data)]
    if not starts:
        return flip_bits(data, rng)
    number = rng.randrange(len(starts))
    start = starts[number]
    end = starts[number + 1] if number + 1 < len(starts) else len(data)
    body = bytearray(data[start + 8 : end])
    where, size = rng.choice(
        [(0, 8), (8, 8), (16, 1), (17, 1), *((18 + 8 * k, 8) for k in range(4))]
        + [(50 + 4 * k, 4) for k in range(3)]
    )
    value = rng.choice(EXTREMES) & (2 ** (8 * size) - 1)
    body[where : where + size] = value.to_bytes(size, "little")
    checksum = zlib.crc32(bytes(body)).to_bytes(4, "little")
    return data[:start] + b"uhr1" + checksum + bytes(body) + data[end:]


BYTES: tuple[Mutation, ...] = (
    flip_bits, truncate, extend, set_length, copy_slice, inflate_number,
)  # fmt: skip


def mutate_file(path: Path, rng: random.Random, extra: tuple[Mutation, ...]) -> None:
    """Apply one mutation, rarely two, to a file; half of them of the file's format."""
    for _ in range(2 if rng.random() < 0.15 else 1):
        data = path.read_bytes()
        if not data:
            return
        own = (change_json,) if data[:1] in b"{[" else extra
        chosen = own if own and rng.random() < 0.5 else BYTES
        path.write_bytes(rng.choice(chosen)(data, rng))


def mutate_folder(
    folder: Path,
    rng: random.Random,
    extra: tuple[Mutation, ...],
    pattern: str,
    outside: Path,
) -> None:
    """Mutate one file of a folder, or remove, empty, swap or link it.

    Parameters
    ----------
    folder
        Folder of the files.
    rng
        Generator of all choices.
    extra
        Mutations of the format.
    pattern
        Glob of the files to mutate.
    outside
        A file that a link may point to.
    """
    files = sorted(f for f in folder.rglob(pattern) if f.is_file())
    text = [f for f in files if f.suffix in (".json", ".zattrs", ".zarray", ".zgroup")]
    path = rng.choice(text if text and rng.random() < 0.5 else files)
    match rng.choice(("file",) * 8 + ("remove", "empty", "folder", "link", "swap")):
        case "remove":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "folder":
            path.unlink()
            path.mkdir()
        case "link":
            path.unlink()
            os.symlink(outside, path)
        case "swap":
            shutil.copyfile(rng.choice(files), path.with_name("swapped"))
            path.with_name("swapped").replace(path)
        case _:
            mutate_file(path, rng, extra)
