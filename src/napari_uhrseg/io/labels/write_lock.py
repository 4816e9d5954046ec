"""Who may write: one process, by a lock in the store, and one of its threads at a time.

A store has two things to hold: its predictions, classes and runs are for a run, its
corrections for a person, so that both can be written at a time.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.object_store_lock import LockHeldError, ObjectStoreLock
from napari_uhrseg.io.paths import Address, error_text, io_errors

TOKEN = ".writer"


class WriteLock:
    """The right of this process to write something of a store; held or not.

    The system frees the lock when the process dies, or, of a URL, the next one who
    waits; see `io.lease`.

    Parameters
    ----------
    path
        The store's.
    lock
        The lock's name in it.
    what
        What is held, for errors: "/data/labels.zarr is".
    write
        Hold it at once. Raises StoreError where another process does.

    Attributes
    ----------
    acquired
        Whether this is the one that may write.
    thread_lock
        What threads of this process wait for.
    """

    def __init__(self, path: Address, lock: str, what: str, *, write: bool) -> None:
        self.acquired = False
        self.thread_lock = threading.RLock()
        self._path, self._name, self._what = path, lock, what
        self._lock: filelock.BaseFileLock | ObjectStoreLock | None = None
        self._closed = False
        self._needed = 0  # by how many in this process
        if write:
            self.acquire()

    def acquire(self) -> bool:
        """One more in this process needs it; whether it was not held before.

        Raises StoreError where another process holds it, or the folder cannot be
        written.
        """
        with self.thread_lock:
            fresh = not self.acquired
            if fresh:
                self._lock = self._locked()
                self.acquired, self._closed, self._needed = True, False, 0
            self._needed += 1
            return fresh

    def release_one(self) -> bool:
        """One fewer needs it; whether none is left, and it is to be closed."""
        with self.thread_lock:
            self._needed -= 1
            return self._needed <= 0

    def close(self) -> None:
        """Let others write. May be called twice; waits for who has the turn."""
        with self.thread_lock:
            self._closed, self.acquired = True, False
            if self._lock is not None:
                self._lock.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One change, in turn. Raises StoreError where this may not write."""
        with self.thread_lock:
            if not self.acquired:
                state = "closed" if self._closed else "open for reading only"
                raise StoreError(f"{self._what} {state}.", "Open again, for writing.")
            if isinstance(self._lock, ObjectStoreLock):
                self._lock.check()
            yield

    def _locked(self) -> filelock.BaseFileLock | ObjectStoreLock:
        lock: filelock.BaseFileLock | ObjectStoreLock
        if isinstance(self._path, Path):
            lock = filelock.FileLock(
                self._path / self._name, timeout=0, thread_local=False
            )
        else:
            lock = ObjectStoreLock(self._path / self._name)
        try:
            lock.acquire()
        except (filelock.Timeout, LockHeldError) as error:
            by = (
                f" ({error})" if isinstance(error, LockHeldError) and str(error) else ""
            )
            raise StoreError(
                f"{self._what} being written by another window or process{by}.",
                "Wait until it is done, or close it there.",
            ) from error
        except StoreError:
            raise
        except io_errors(self._path) as error:
            raise StoreError(
                f"{self._path} cannot be opened for writing: {error_text(error)}.",
                "Ask for the right to write there, or copy the store.",
            ) from error
        return lock


def issue_write_token(path: Address) -> str:
    """A new token for a store this process holds the lock of; an older one ends."""
    token = uuid.uuid4().hex
    (path / TOKEN).write_text(token)
    return token


def revoke_write_token(path: Address) -> None:
    """End the token there is, so that nobody writes chunks any more."""
    (path / TOKEN).unlink(missing_ok=True)


def read_write_token(path: Address) -> str:
    """The token as this machine sees it; empty where there is none."""
    try:
        return (path / TOKEN).read_text()
    except OSError:
        return ""
