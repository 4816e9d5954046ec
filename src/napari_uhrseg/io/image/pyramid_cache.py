"""Disk cache of the computed levels of images.

Each image has a folder, and beside it a lock file for the process that fills it. The
cache is in the cache folder of the user, or in ``NAPARI_UHRSEG_CACHE``. Its size is
limited by ``NAPARI_UHRSEG_CACHE_LIMIT``.
"""

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import ReadError
from napari_uhrseg.io.paths import ZARR_MARKS, PathOrUrl
from napari_uhrseg.units import format_bytes, parse_bytes

FORMAT = 2  # with checksums
DEFAULT_CACHE_LIMIT = "50GB"
MAX_USER_FILES = (
    16  # lock files of processes; above it, those of ended processes are removed
)
_in_use: dict[Path, filelock.BaseFileLock] = {}


def cache_folder() -> Path:
    """Return the folder of all entries.

    It is in ``NAPARI_UHRSEG_CACHE``, else in the cache folder of the user.
    """
    own = os.environ.get("NAPARI_UHRSEG_CACHE")
    return Path(own or platformdirs.user_cache_dir("napari-uhrseg")) / "levels"


def cache_limit() -> int:
    """Return the size limit in bytes: ``NAPARI_UHRSEG_CACHE_LIMIT``, else 50 GB.

    If the levels of a single image need more, they are the only entry.
    """
    return parse_bytes(
        os.environ.get("NAPARI_UHRSEG_CACHE_LIMIT") or DEFAULT_CACHE_LIMIT
    )


def content_key(fingerprint: str, path: PathOrUrl | None) -> str:
    """Return an identifier of the content of an image on this machine.

    The fingerprint covers only a part of a file. Therefore, the path and the
    modification time are added.
    """
    if not isinstance(path, Path):
        return f"{fingerprint}:0"
    return f"{fingerprint}:{_modification_time(path)}:{path.resolve()}"


def _modification_time(path: Path) -> int:
    """Return the modification time of a file or of zarr metadata in ns, else 0."""
    files = [path, *(path / mark for mark in ZARR_MARKS)]
    return max((f.stat().st_mtime_ns for f in files if f.is_file()), default=0)


class CacheEntry:
    """Cache entry of one image: a folder with arrays and their progress.

    Parameters
    ----------
    folder
        Folder of all entries.
    key
        Identifier of the content of the image and of the layout of the arrays.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / key
        # not bound to a thread, since another thread may close the generator
        self.lock = filelock.FileLock(
            folder / f"{key}.lock", timeout=0, thread_local=False
        )

    def rows(self) -> int | None:
        """Return the finished rows of the finest level, or None without an entry."""
        try:
            state = json.loads((self.path / "state.json").read_text("utf-8"))
            return int(state["rows"]) if state["format"] == FORMAT else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def save(self, rows: int) -> None:
        """Record the progress after the rows are written."""
        text = json.dumps({"format": FORMAT, "rows": rows})
        state = self.path / "state.json"
        with replacing(state, state.with_suffix(".new"), sync=False) as part:
            part.write_text(text, "utf-8")

    def use(self) -> None:
        """Mark the entry as in use, so that no process removes it."""
        try:
            os.utime(self.path / "state.json")
        except OSError:
            return  # a read-only cache is valid too
        if self.path not in _in_use:
            users = self.path / "users"
            users.mkdir(exist_ok=True)
            for gone in itertools.islice(users.iterdir(), MAX_USER_FILES, None):
                if not _locked(gone):
                    gone.unlink(missing_ok=True)
            lock = filelock.FileLock(users / uuid.uuid4().hex, thread_local=False)
            lock.acquire()
            _in_use[self.path] = lock

    def invalidate(self) -> None:
        """Forget the progress, so that the next opening removes a damaged entry."""
        with suppress(OSError):
            (self.path / "state.json").unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the entry; it disappears at once for all processes."""
        if lock := _in_use.pop(self.path, None):
            lock.release()
        if self.path.exists():
            trash = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}.old")
            self.path.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)


def release_entries() -> None:
    """Release all entries that this process uses, as the end of the process does."""
    for lock in _in_use.values():
        lock.release()
    _in_use.clear()


def make_room(folder: Path, needed: int, keep: CacheEntry, reserved: int) -> None:
    """Remove the least recently used entries until there is room for a new one.

    Entries that a running process uses are kept.

    Parameters
    ----------
    folder
        Folder of all entries.
    needed
        Size of the new entry in bytes.
    keep
        Entry that is not removed.
    reserved
        Bytes of the disk that stay free.

    Raises
    ------
    ReadError
        If the disk still has too little free space.
    """
    for left in folder.glob("*.old"):
        shutil.rmtree(left, ignore_errors=True)
    sizes = {path: _size(path) for path in _by_age(folder)}
    over = sum(sizes.values()) + needed - sizes.get(keep.path, 0) - cache_limit()
    short = needed + reserved - shutil.disk_usage(folder).free
    for path, size in sizes.items():
        if max(over, short) <= 0:
            break
        if path != keep.path and _remove(CacheEntry(folder, path.name)):
            over -= size
            short -= size
    if short > 0:
        raise ReadError(
            f"Up to {format_bytes(needed)} are needed in {folder} to show this image "
            f"quickly; the disk has {format_bytes(shutil.disk_usage(folder).free)}.",
            "Free some space, or let the environment variable NAPARI_UHRSEG_CACHE "
            "name a folder on another disk.",
        )


def _by_age(folder: Path) -> Iterator[Path]:
    """Return the folders of the entries, the least recently used first."""
    found: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        if path.is_dir() and path.suffix != ".old":
            state = path / "state.json"
            found.append((state.stat().st_mtime if state.exists() else 0.0, path))
    return (path for _, path in sorted(found))


def _remove(entry: CacheEntry) -> bool:
    """Remove an entry that no process fills or uses; return True if removed."""
    try:
        with entry.lock:
            if any(_locked(user) for user in entry.path.glob("users/*")):
                return False
            entry.clear()
    except (filelock.Timeout, OSError):
        return False
    return True


def _locked(path: Path) -> bool:
    lock = filelock.FileLock(path, timeout=0)
    try:
        with lock:
            return False
    except filelock.Timeout:
        return True


def _size(path: Path) -> int:
    """Return the total size of the files in a folder in bytes."""
    total = 0
    stack: list[Any] = [path]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for found in entries:
                if found.is_dir(follow_symlinks=False):
                    stack.append(found.path)
                else:
                    total += found.stat(follow_symlinks=False).st_size
    return total
