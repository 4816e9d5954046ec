"""Fingerprint of OME-Zarr images by their metadata and a sample of chunks."""

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zarr

from napari_uhrseg.io.paths import PathOrUrl

SAMPLED_CHUNKS = 32  # chunks that the fingerprint reads
SAMPLE_BYTES = 16384  # bytes of each chunk that it reads


def fingerprint_array(
    path: PathOrUrl, about: list[Any], array: zarr.Array, said: list[str]
) -> str:
    """Return a hash of the metadata and of chunks spread over the array.

    At most 32 pieces of 16 KiB are read; those of a URL are requested at once. The
    hash depends neither on the location of the folder nor on modification times.

    Parameters
    ----------
    path
        Folder or URL of the store.
    about
        Metadata that the hash contains.
    array
        Array of level 0.
    said
        List of warnings; a warning is appended if none of the chunks exists.

    Returns
    -------
    32 hexadecimal digits.
    """
    about = [*about, array.shape, str(array.dtype)]
    digest = hashlib.sha256(json.dumps(about, default=str).encode())
    folder, names = _sample(path, array)
    pieces = _pieces(folder, names, ends=array.shards is not None)
    if all(piece is None for piece in pieces):
        said.append(
            f"No chunk of {array.path or path.name} was found, of {len(names)} that "
            f"were looked for, such as {names[-1]}. Pixels without a chunk show as "
            f"{array.fill_value}. If the folder contains chunks, its metadata may name "
            "another dimension_separator."
        )
    for piece in pieces:
        # empty chunks have no file
        digest.update(b"none" if piece is None else b"%d:" % len(piece) + piece)
    return digest.hexdigest()[:32]


def has_chunks(path: PathOrUrl, array: zarr.Array) -> bool:
    """Return whether the store contains one of the chunks that are looked for.

    At most 32 chunks, spread over the array, are looked for.
    """
    folder, names = _sample(path, array)
    if isinstance(folder, Path):
        return any((folder / name).is_file() for name in names)
    return any(piece is not None for piece in _pieces(folder, names, ends=False))


def _sample(path: PathOrUrl, array: zarr.Array) -> tuple[PathOrUrl, list[str]]:
    """Return the folder of an array, and the names of at most 32 of its chunks."""
    sizes = array.shards or array.chunks
    grid = [-(-n // c) for n, c in zip(array.shape, sizes, strict=True)]
    names = [array.metadata.encode_chunk_key(index) for index in _spread(grid)]
    return path / array.path if array.path else path, names


def _spread(grid: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the indices of at most 32 chunks, spread over the grid.

    They are all chunks of a small grid, else the first, the last and points of an
    additive recurrence (Kronecker sequence).
    """
    if math.prod(grid) <= SAMPLED_CHUNKS:
        return list(itertools.product(*map(range, grid)))
    found = [(0,) * len(grid), tuple(n - 1 for n in grid)]
    # multiples of these fill any box evenly; the first point is the centre
    steps = [math.sqrt(prime) for prime in (2, 3, 5, 7, 11)]
    for number in range(SAMPLED_CHUNKS - len(found)):
        at = [(0.5 + number * step) % 1 for step in steps]
        found.append(tuple(int(a * n) for a, n in zip(at, grid, strict=False)))
    return found


def _pieces(folder: PathOrUrl, names: list[str], *, ends: bool) -> list[bytes | None]:
    """Return the first 16 KiB of files; of shards the last, which are their index."""
    if isinstance(folder, Path):
        return [_piece(folder / name, ends) for name in names]
    start, stop = (-SAMPLE_BYTES, None) if ends else (0, SAMPLE_BYTES)
    paths = [(folder / name).path for name in names]
    found: list[bytes | Exception] = folder.fs.cat_ranges(paths, start, stop)
    pieces: list[bytes | None] = []
    for got in found:
        # servers that do not permit listing report missing files as forbidden
        if isinstance(got, FileNotFoundError | PermissionError):
            pieces.append(None)
        elif isinstance(got, Exception):
            raise got
        else:
            pieces.append(got[start:stop])  # servers without ranges send the whole file
    return pieces


def _piece(file: Path, end: bool) -> bytes | None:
    try:
        with file.open("rb") as opened:
            if end:
                opened.seek(max(0, file.stat().st_size - SAMPLE_BYTES))
            return opened.read(SAMPLE_BYTES)
    except OSError:  # the error is reported when the chunk is read
        return None
