"""Replacing a file whole: its readers see the old one or the new one."""

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
    """Yield a temporary path, and rename it to the path when the block ends.

    An error in the block, or in the replacement, removes the temporary file and
    leaves what was at the path.

    Parameters
    ----------
    path
        The file or folder to write, in a folder that exists when the block ends.
    part
        The temporary path, on the same file system. The default is a hidden name
        beside the path that no other writer uses. A fixed name is for a file that
        has one writer: the next write replaces what a killed process left.
    sync
        Whether the content is forced to the disk before the renaming, so that a
        power cut does not leave an empty file. Of files only, not of folders.

    Yields
    ------
    The temporary path, for the block to write.

    Raises
    ------
    OSError
        The file cannot be written or renamed.
    """
    if part is None:
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    foreign = part.is_dir()
    try:
        yield part
        if sync:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        _put(part, path)
    except BaseException:
        if not foreign:
            with suppress(OSError):
                _remove(part)
        raise


def _put(part: Path, path: Path) -> None:
    """Rename, a folder that is at the path being removed afterwards."""
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
