"""Atomic replacement of files and folders.

Readers see either the previous content or the new one, never a part of it. Temporary
names contain the machine and the process, so that the next writer of the same path can
remove what a killed process left.
"""

import os
import platform
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED_S = 7 * 24 * 3600  # seconds without a change, for files of other machines
CLOCK_MARGIN_S = 60.0  # by which clocks of file systems and processes may differ


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
        The temporary path, on the same file system. The default is `temporary_path`,
        after the rest of killed processes has been removed. Give a fixed name for a
        file with one writer: the next write then replaces the rest of a killed process.
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
        remove_abandoned(path)
        part = temporary_path(path)
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


def temporary_path(path: Path) -> Path:
    """Return a hidden name beside a path that no other writer uses."""
    own = f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{path.stem}.{own}.partial{path.suffix}")


def remove_abandoned(path: Path) -> None:
    """Remove what killed processes left beside a path.

    Of this machine, these are the files of processes that have ended. Of another
    machine, or of a container of the past, they are files that have not changed for
    `ABANDONED_S`. If a process was killed while it replaced a folder, the previous
    folder is put back. Errors are ignored.
    """
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    name = re.compile(
        rf"\.{stem}\.([0-9a-f]{{8}})-(\d+)-[0-9a-f]{{8}}\.partial{suffix}(\.old)?"
    )
    with suppress(OSError):
        for left in sorted(path.parent.iterdir(), reverse=True):  # .old first
            found = name.fullmatch(left.name)
            if found is None or _is_in_use(left, found[1], int(found[2])):
                continue
            if found[3] and not os.path.lexists(path):
                left.rename(path)
            else:
                _remove(left)


def _machine() -> str:
    """Return a short text that differs between machines."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_in_use(left: Path, machine: str, process: int) -> bool:
    """Return whether the process that writes a temporary path may still run."""
    # a previous folder keeps its times when it is renamed
    part = left.with_name(left.name.removesuffix(".old"))
    changed = _last_change(part if part.exists() else left)
    if machine != _machine():
        return time.time() - changed < ABANDONED_S
    import psutil

    try:
        started: float = psutil.Process(process).create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # of another user
        return True
    # a later process may have the number of the one that was killed
    return started <= changed + CLOCK_MARGIN_S


def _last_change(path: Path) -> float:
    """Return the time of the last change of a file, or of any file in a folder."""
    times = [path.lstat().st_mtime]
    for file in path.rglob("*") if path.is_dir() else ():
        with suppress(FileNotFoundError):  # it is being written
            times.append(file.lstat().st_mtime)
    return max(times)


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
