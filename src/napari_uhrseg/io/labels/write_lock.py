"""Write locks of a label store, between processes and between threads.

A store has two locks: one for predictions, classes and runs, and one for corrections.
A run and a user can therefore write at the same time.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.object_store_lock import LockHeldError, ObjectStoreLock
from napari_uhrseg.io.labels.store_files import remove_stray_chunks
from napari_uhrseg.io.paths import PathOrUrl, error_text, io_errors
from napari_uhrseg.types import Limits

TOKEN = ".writer"
# files without which zarr would write stray chunks
LEVEL_FILES = ("labels/prediction/0/zarr.json", "labels/correction/0/zarr.json")


class WriteLock:
    """Inter-process write lock with a re-entrant thread lock.

    The operating system releases the lock when the process dies. In an object store
    the lock becomes stale; see `object_store_lock`.

    Parameters
    ----------
    path
        Folder or URL of the store.
    name
        File name of the lock in the store.
    subject
        Start of error messages, with its verb: "/data/labels.zarr is".
    limits
        Times of the lock of an object store.

    Attributes
    ----------
    acquired
        True while this process may write.
    thread_lock
        Serialises the threads of this process.
    """

    def __init__(
        self, path: PathOrUrl, name: str, subject: str, limits: Limits = Limits()
    ) -> None:
        self.acquired = False
        self.thread_lock = threading.RLock()
        self._path, self._name, self._subject = path, name, subject
        self._limits = limits
        self._lock: filelock.BaseFileLock | ObjectStoreLock | None = None
        self._closed = False
        self._count = 0
        self._folder: tuple[int, int] | None = None  # identity of the locked folder
        self._level_files: tuple[str, ...] = ()  # those that the locked folder has

    def acquire(self) -> bool:
        """Add one reference to the lock. Return True if it was not acquired before.

        Raises
        ------
        StoreError
            If another process has the lock, or the folder cannot be written.
        """
        with self.thread_lock:
            first = not self.acquired
            if first:
                self._lock = self._acquired_lock()
                if isinstance(self._path, Path):
                    self._folder = self._identity()
                    self._level_files = tuple(
                        name for name in LEVEL_FILES if (self._path / name).exists()
                    )
                self.acquired, self._closed, self._count = True, False, 0
            self._count += 1
            return first

    def release_one(self) -> bool:
        """Remove one reference. Return True if none is left, so that `close` is due."""
        with self.thread_lock:
            self._count -= 1
            return self._count <= 0

    def close(self) -> None:
        """Release the lock after the current change. May be called twice."""
        with self.thread_lock:
            self._closed, self.acquired = True, False
            if self._lock is not None:
                self._lock.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Serialise one change.

        Raises
        ------
        StoreError
            If this process may not write, or the folder of the store is gone. It is
            checked after the change, too, because it may be moved during the change.
            Chunks that the change has then written to the old place are removed.
        """
        with self.thread_lock:
            if not self.acquired:
                state = "closed" if self._closed else "open for reading only"
                raise StoreError(
                    f"{self._subject} {state}.", "Open it again for writing."
                )
            if isinstance(self._lock, ObjectStoreLock):
                self._lock.check()
            self._check_folder()
            try:
                yield
            finally:
                if isinstance(self._path, Path) and self._identity() is None:
                    remove_stray_chunks(self._path)
            self._check_folder()

    def _check_folder(self) -> None:
        if isinstance(self._path, Path) and self._identity() != self._folder:
            raise self._gone_error("This change was not kept.")
        missing = [
            name for name in self._level_files if not (self._path / name).exists()
        ]
        if missing:
            raise StoreError(
                f"A part of the label folder {self._path} is gone: {missing[0]} was "
                "moved, renamed or deleted. This change was not kept.",
                "Put it back, or use another output.",
            )

    def _gone_error(self, consequence: str) -> StoreError:
        return StoreError(
            f"The label folder {self._path} is gone: it was moved, renamed or deleted. "
            f"{consequence}",
            "Put the folder back, or open it at its new place.",
        )

    def _identity(self) -> tuple[int, int] | None:
        """Return device and number of the store's folder; None if there is no store.

        zarr would create missing folders again, and write stray chunks into them.
        """
        try:
            (self._path / "zarr.json").stat()
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _new_lock(self) -> filelock.BaseFileLock | ObjectStoreLock:
        if not isinstance(self._path, Path):
            return ObjectStoreLock(self._path / self._name, self._limits)
        if self._identity() is None:  # the lock's file would create the folder
            raise self._gone_error("Nothing was opened for writing.")
        return filelock.FileLock(self._path / self._name, timeout=0, thread_local=False)

    def _acquired_lock(self) -> filelock.BaseFileLock | ObjectStoreLock:
        lock = self._new_lock()
        try:
            lock.acquire()
        except (filelock.Timeout, LockHeldError) as error:
            owner = str(error) if isinstance(error, LockHeldError) else ""
            by = f" ({owner})" if owner else ""
            raise StoreError(
                f"{self._subject} being written by another window or process{by}.",
                "Wait until it has finished, or close it there.",
            ) from error
        except StoreError:
            raise
        except io_errors(self._path) as error:
            raise StoreError(
                f"{self._path} cannot be opened for writing: {error_text(error)}.",
                "Ask for write permission, or copy the store.",
            ) from error
        return lock


def issue_write_token(path: PathOrUrl) -> str:
    """Write and return a new token of a store; the previous token becomes invalid.

    The caller must have the store's write lock.
    """
    token = uuid.uuid4().hex
    (path / TOKEN).write_text(token)
    return token


def revoke_write_token(path: PathOrUrl) -> None:
    """Remove the token, so that no worker writes chunks any more."""
    (path / TOKEN).unlink(missing_ok=True)


def read_write_token(path: PathOrUrl) -> str:
    """Return the current token of a store; empty if there is none."""
    try:
        return (path / TOKEN).read_text()
    except OSError:
        return ""
