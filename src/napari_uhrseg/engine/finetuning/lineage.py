"""Lineage of a checkpoint: the checkpoints it was fine-tuned from."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.card_header import read_card
from napari_uhrseg.models.checkpoint import file_hash


def ancestors(path: Path | str, folders: Iterable[Path | str] = ()) -> tuple[Path, ...]:
    """Return the files of a checkpoint's known ancestors, nearest first.

    Parameters
    ----------
    path
        The checkpoint.
    folders
        Folders to search after the checkpoint's own folder, without subfolders.

    Raises
    ------
    CheckpointError
        If the checkpoint itself cannot be read.
    """
    path = Path(path)
    wanted = read_card(path).parent
    if wanted is None:
        return ()
    known = _by_hash(_files([path.parent, *map(Path, folders)]))
    found: list[Path] = []
    while wanted in known and known[wanted] not in found:
        found.append(known[wanted])
        wanted = _parent(known[wanted])
    return tuple(found)


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(folder.glob("*.safetensors")) if folder.is_dir() else ()


def _by_hash(files: Iterable[Path]) -> dict[str, Path]:
    """Return the first file of each hash."""
    known: dict[str, Path] = {}
    for file in files:
        known.setdefault(_hash(file), file)
    return known


def _parent(path: Path) -> str | None:
    try:
        return read_card(path).parent
    except CheckpointError:
        return None


def _hash(path: Path) -> str:
    state = path.stat()
    return _hash_of(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _hash_of(path: Path, changed: int, size: int) -> str:
    """Return the hash; the file is read again only if it has changed."""
    return file_hash(path)
