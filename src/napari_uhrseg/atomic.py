"""Atomic replacement of files and folders.

Readers see either the previous content or the new one, never a part of it.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(
    path: Path, part: Path | None = None, *, sync: bool = True
) -> Iterator[Path]:
    """Yield a temporary path, and rename it to ``path`` when the block ends.

    An error in the block, or in the renaming, removes the temporary file and leaves
    the previous content at the path.

    Parameters
    ----------
    path
        The file or folder to write. Its parent folder must exist when the block
        ends.
    part
        The temporary path, on the same file system. The default is a hidden name
        beside ``path`` that no other writer uses. Give a fixed name for a file with
        one writer: the next write then replaces the rest of a killed process.
    sync
        If True, force the content of a file to the disk before the renaming, so that
        a power failure does not leave an empty file. Folders are not synchronised.

    Yields
    ------
    Path
        The temporary path, for the block to write.

    Raises
    ------
    OSError
        If the file cannot be written or renamed.
    """
    if part is None:
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    foreign = part.is_dir()
    try:
        yield part
        if sync:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        _rename(part, path)
    except BaseException:
        if not foreign:
            with suppress(OSError):
                _remove(part)
        raise


def _rename(part: Path, path: Path) -> None:
    """Rename the temporary path, and remove a folder that was at ``path``."""
    if not path.is_dir():
        part.replace(path)
        return
    old = part.with_name(f"{part.name}.old")
    path.rename(old)
    part.rename(path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
