"""Write lock in an object store, which has no locks of its own.

The lock needs one guarantee of the server, the conditional put: if several processes
create the same object, one succeeds. ::

    .lock/00000006   {"who": ""}                        released
    .lock/00000007   {"who": "host, process 42", …}     the lock: the highest number

The owner rewrites its object at every heartbeat. A process that sees no heartbeat for
a given time, by its own clock, considers the lock stale and creates the next number.
An owner that could not write for half that time (a suspended laptop) looks for a
higher number before each change, and stops if there is one.
"""

import json
import os
import platform
import threading
import time
import uuid
from contextlib import suppress

from upath import UPath

from napari_uhrseg.errors import StoreError
from napari_uhrseg.types import Limits


class LockHeldError(Exception):
    """Error for a lock of another process, which the message names if it is known."""


class ObjectStoreLock:
    """Write lock of one folder in an object store (see the module).

    Parameters
    ----------
    folder
        The folder of the lock's objects. Writing creates it.
    limits
        ``heartbeat_s`` and ``stale_lock_s`` are used.
    """

    def __init__(self, folder: UPath, limits: Limits) -> None:
        self._folder = folder
        self._heartbeat_s, self._stale_s = limits.heartbeat_s, limits.stale_lock_s
        self._number = 0
        self._lost = False
        self._written = 0.0
        self._ended = threading.Event()
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Acquire the lock, after waiting for the heartbeat of an existing owner.

        Raises
        ------
        LockHeldError
            If another process has the lock.
        StoreError
            If the server does not support conditional puts.
        """
        number, content = self._highest()
        until = time.monotonic() + self._stale_s
        while _owner(content) and time.monotonic() < until:
            time.sleep(self._stale_s / 30)
            now = self._highest()
            if now[0] != number or (_owner(now[1]) and now[1] != content):
                raise LockHeldError(_owner(now[1]))
            content = now[1]
        self._number = number + 1
        path = self._path(self._number)
        try:
            self._folder.fs.pipe_file(path, self._heartbeat(), mode="create")
        except FileExistsError:
            raise LockHeldError("") from None
        self._check_conditional_put(path)
        if self._highest()[0] != self._number:
            raise LockHeldError("")
        self._lost, self._written = False, time.monotonic()
        for old in self._numbers():
            if old < self._number:
                with suppress(FileNotFoundError):
                    self._folder.fs.rm_file(self._path(old))
        self._ended.clear()
        self._thread = threading.Thread(
            target=self._send_heartbeats, name="uhrseg-store-lock", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Check that this process still has the lock.

        Raises
        ------
        StoreError
            If the lock was lost, or may have been.
        """
        if time.monotonic() > self._written + self._stale_s / 2:
            with suppress(Exception):  # the state that follows decides
                self._write()
        if self._lost or time.monotonic() > self._written + self._stale_s / 2:
            raise StoreError(
                f"{self._folder.parent} has been taken over by another process, or "
                "cannot be reached.",
                "Open it again. Finished blocks are kept.",
            )

    def release(self) -> None:
        """Release the lock. May be called twice."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        self._thread = None
        if not self._lost:
            with suppress(Exception):  # others then wait until the lock is stale
                self._folder.fs.pipe_file(self._path(self._number), b'{"who": ""}')

    def _send_heartbeats(self) -> None:
        while not self._ended.wait(self._heartbeat_s):
            with suppress(Exception):  # the next heartbeat tries again
                self._write()

    def _write(self) -> None:
        with self._busy:
            started = time.monotonic()
            if self._highest()[0] != self._number:
                self._lost = True
            elif not self._lost:
                self._folder.fs.pipe_file(self._path(self._number), self._heartbeat())
                self._written = started

    def _check_conditional_put(self, path: str) -> None:
        try:
            self._folder.fs.pipe_file(path, self._heartbeat(), mode="create")
        except FileExistsError:
            return
        self._folder.fs.rm_file(path)
        raise StoreError(
            f"{self._folder.parent} cannot be written safely: its server lets two "
            "processes create the same object.",
            "Use a server that supports If-None-Match, such as Amazon S3, or a folder.",
        )

    def _highest(self) -> tuple[int, bytes]:
        """Return the highest number and its content; 0 if there is none."""
        number = max(self._numbers(), default=0)
        try:
            return number, self._folder.fs.cat_file(self._path(number))
        except FileNotFoundError:
            return number, b""

    def _numbers(self) -> list[int]:
        try:
            names = self._folder.fs.ls(self._folder.path, detail=False)
        except FileNotFoundError:
            return []
        ends = (name.rstrip("/").rpartition("/")[2] for name in names)
        return [int(end) for end in ends if end.isdigit()]

    def _path(self, number: int) -> str:
        return str((self._folder / f"{number:08d}").path)

    def _heartbeat(self) -> bytes:
        who = f"{platform.node()}, process {os.getpid()}"
        return json.dumps({"who": who, "beat": uuid.uuid4().hex}).encode()


def _owner(content: bytes) -> str:
    """Return the owner in a lock's object; empty if it was released or is missing."""
    try:
        return str(json.loads(content)["who"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
