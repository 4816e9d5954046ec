"""The folder where levels that files lack are kept between sessions.

One folder per image, and beside it a lock that says who is filling it. It lies in
the person's cache folder, or where ``NAPARI_UHRSEG_CACHE`` says.
"""

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import ReadError
from napari_uhrseg.units import format_bytes, parse_bytes

FORMAT = 1
DEFAULT_CACHE_LIMIT = "50GB"
RESERVED_DISK_BYTES = 1024**3  # of the disk, never used
MAX_USER_FILES = (
    16  # files of processes that may have ended, before they are cleared up
)
_in_use: dict[Path, filelock.BaseFileLock] = {}


def cache_folder() -> Path:
    """``NAPARI_UHRSEG_CACHE``, else this package's folder in the user's cache."""
    own = os.environ.get("NAPARI_UHRSEG_CACHE")
    return Path(own or platformdirs.user_cache_dir("napari-uhrseg")) / "levels"


def cache_limit() -> int:
    """Bytes all entries may take: ``NAPARI_UHRSEG_CACHE_LIMIT``, else 50 GB.

    A single image whose levels need more than that is the only thing kept.
    """
    return parse_bytes(
        os.environ.get("NAPARI_UHRSEG_CACHE_LIMIT") or DEFAULT_CACHE_LIMIT
    )


class CacheEntry:
    """What is kept of one image: arrays in a folder, and how far they are filled.

    Parameters
    ----------
    folder
        Where all entries lie.
    key
        Names the image's content and the shape of what is kept of it.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / key
        # not bound to a thread: a generator may be closed by another one
        self.lock = filelock.FileLock(
            folder / f"{key}.lock", timeout=0, thread_local=False
        )

    def rows(self) -> int | None:
        """Rows of the finest kept level that are done; None where there is no entry."""
        try:
            state = json.loads((self.path / "state.json").read_text("utf-8"))
            return int(state["rows"]) if state["format"] == FORMAT else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, rows: int) -> None:
        """Record progress: only after the rows themselves are written."""
        text = json.dumps({"format": FORMAT, "rows": rows})
        with replacing(self.path / "state.json", sync=False) as part:
            part.write_text(text, "utf-8")

    def use(self) -> None:
        """Mark it as used now and by this process, so that no one removes it."""
        try:
            os.utime(self.path / "state.json")
        except OSError:
            return  # a cache that may only be read serves as well
        if self.path not in _in_use:
            users = self.path / "users"
            users.mkdir(exist_ok=True)
            for gone in itertools.islice(users.iterdir(), MAX_USER_FILES, None):
                if not _locked(gone):
                    gone.unlink(missing_ok=True)
            lock = filelock.FileLock(users / uuid.uuid4().hex, thread_local=False)
            lock.acquire()
            _in_use[self.path] = lock

    def clear(self) -> None:
        """Remove it, at once for everyone who looks."""
        if held := _in_use.pop(self.path, None):
            held.release()
        if self.path.exists():
            trash = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}.old")
            self.path.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)


def make_room(folder: Path, needed: int, keep: CacheEntry) -> None:
    """Remove what was used longest ago until ``needed`` bytes more are allowed.

    Entries that a running process uses stay. Raises ReadError where the disk is
    too full all the same.
    """
    for left in folder.glob("*.old"):
        shutil.rmtree(left, ignore_errors=True)
    sizes = {path: _size(path) for path in _by_age(folder)}
    over = sum(sizes.values()) + needed - sizes.get(keep.path, 0) - cache_limit()
    short = needed + RESERVED_DISK_BYTES - shutil.disk_usage(folder).free
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
    """Entries, the one used longest ago first."""
    found: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        if path.is_dir() and path.suffix != ".old":
            state = path / "state.json"
            found.append((state.stat().st_mtime if state.exists() else 0.0, path))
    return (path for _, path in sorted(found))


def _remove(entry: CacheEntry) -> bool:
    """Remove an entry unless someone fills it or looks at it."""
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
    """Bytes of the files in a folder."""
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
