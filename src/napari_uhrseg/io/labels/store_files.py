"""Files of a store, which may come from anyone: links, arrays and chunk files."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.zarr_setup import (
    HEADER_BYTES,
    CheckedBloscCodec,
    chunk_size_in,
)
from napari_uhrseg.types import BoolMask

Chunk = tuple[int, int]
MAX_TYPE = 255  # bytes
MAX_BLOCK = 2**24  # bytes


def check_links(path: PathOrUrl) -> None:
    """Check that no link in a store leaves it; reading or writing would follow it.

    Raises
    ------
    StoreError
        If there is such a link.
    """
    if not isinstance(path, Path):
        return
    real = Path(os.path.realpath(path))
    for link in _links(path):
        target = Path(os.path.realpath(link))
        if target != real and real not in target.parents:
            raise StoreError(
                f"{path} contains a link that leaves it: "
                f"{Path(link).relative_to(path)} points to {target}.",
                "Remove the link, or copy the store again with its files.",
            )


def _links(folder: Path) -> Iterator[str]:
    """Yield the symbolic links below a folder, without following them."""
    waiting = [os.fspath(folder)]
    while waiting:
        # another process may remove a folder at this moment
        with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield entry.path
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def check_array(array: zarr.Array, chunk: Chunk) -> None:
    """Check that an array is stored in the way in which it is read and written.

    Other chunks, other names of their files and another fill value would change the
    labels. zarr accepts options of codecs with which a chunk cannot be compressed.

    Parameters
    ----------
    array
        An array of a store.
    chunk
        Height and width of its chunks in pixels.

    Raises
    ------
    ValueError
        If something differs.
    """
    if array.chunks != chunk:
        raise ValueError(f"{array.path} has chunks of {array.chunks}, not {chunk}")
    if array.fill_value != 0:
        raise ValueError(f"{array.path} has the fill value {array.fill_value}, not 0")
    if (name := array.metadata.encode_chunk_key((1, 2))) != "c/1/2":
        raise ValueError(f"{array.path} has chunks with names such as {name}")
    first, *others = array.metadata.codecs  # type: ignore[union-attr]  # of format 3
    if not isinstance(first, BytesCodec) or not all(map(_is_usual, others)):
        codecs = array.metadata.to_dict()["codecs"]
        raise ValueError(f"{array.path} has unusual codecs: {codecs}")


def _is_usual(codec: object) -> bool:
    """Return whether a codec can compress every chunk with its options."""
    match codec:
        case BloscCodec():
            return 0 <= codec.blocksize <= MAX_BLOCK and codec.typesize <= MAX_TYPE
        case ZstdCodec():
            return codec.level >= 0  # zarr checks the maximum
        case _:
            return isinstance(codec, Crc32cCodec | GzipCodec)


def written_chunks(root: PathOrUrl, array: zarr.Array) -> BoolMask:
    """Return which chunks of an array have a file; all others are 0.

    Parameters
    ----------
    root
        Folder of the store, or of the group that was opened.
    array
        An array of it.

    Returns
    -------
    bool, (chunk rows, chunk columns).
    """
    there = np.zeros(array.cdata_shape, bool)
    for chunk, _ in chunk_files(root, array):
        there[chunk] = True
    return there


def remove_stray_chunks(folder: Path) -> None:
    """Remove chunks that zarr has written to the place of a store that was moved.

    Nothing is removed if the folder contains any other file, or no file.
    """
    with suppress(OSError):  # the caller reports that the store is gone
        inside = list(folder.rglob("*"))
        files = [one for one in inside if not one.is_dir() or one.is_symlink()]
        if files and all(_is_chunk(file.relative_to(folder)) for file in files):
            for file in files:
                file.unlink()
            for one in sorted(inside, reverse=True):
                if one not in files:
                    one.rmdir()
            folder.rmdir()


def _is_chunk(name: Path) -> bool:
    """Return whether a file is a chunk of an array, or a part of one."""
    *_, key, row, last = ("", "", "", *name.parts)
    return key == "c" and row.isdecimal() and last.partition(".")[0].isdecimal()


def damaged_chunks(root: PathOrUrl, array: zarr.Array) -> Iterator[tuple[Chunk, Path]]:
    """Yield the chunks whose file is empty or cut, with the file.

    Only the size in the header of each file is read. Nothing is yielded for an object
    store, where an object exists completely or not at all.
    """
    codecs = array.metadata.codecs  # type: ignore[union-attr]  # of format 3
    checked = isinstance(codecs[-1], CheckedBloscCodec)
    for chunk, file in chunk_files(root, array):
        if not isinstance(file, Path):
            return
        size = file.stat().st_size
        if size == 0 or (checked and _expected_size(file) != size):
            yield chunk, file


def _expected_size(file: Path) -> int:
    with file.open("rb") as opened:
        return chunk_size_in(opened.read(HEADER_BYTES))


def chunk_files(
    root: PathOrUrl, array: zarr.Array
) -> Iterator[tuple[Chunk, PathOrUrl]]:
    """Yield row and column of each chunk of an array that has a file, and the file."""
    rows, columns = array.cdata_shape
    for row, folder in _numbered(root / array.path / "c", rows):
        for column, file in _numbered(folder, columns):
            yield (row, column), file


def _numbered(folder: PathOrUrl, count: int) -> Iterator[tuple[int, PathOrUrl]]:
    """Yield the entries of a folder that have a number below ``count`` as name."""
    try:
        entries: list[PathOrUrl] = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.isdecimal() and int(entry.name) < count:
            yield int(entry.name), entry
