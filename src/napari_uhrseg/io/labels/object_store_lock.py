"""A writer's lock in an object store, which has no locks of its own.

It rests on one promise: of those who make an object that must not exist yet, one
succeeds. ::

    .lock/00000006   {"who": ""}                        let go
    .lock/00000007   {"who": "host, process 42", …}     the lock: the highest number

The owner rewrites its object every `HEARTBEAT_S` seconds. A process that sees it
unchanged for `STALE_AFTER_S` seconds by its own clock considers the lock stale and
creates the next number. An owner that could not write for half as long (a suspended
laptop) looks for a higher number before each change, and stops if there is one.
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

HEARTBEAT_S = 5.0  # seconds
STALE_AFTER_S = 30.0


class LockHeldError(Exception):
    """Another process holds the lock; says which."""


class ObjectStoreLock:
    """The lock of a folder; see above.

    Parameters
    ----------
    folder
        Where its objects lie; made by writing into it.
    """

    def __init__(self, folder: UPath) -> None:
        self._folder = folder
        self._number = 0
        self._lost = False
        self._written = 0.0
        self._ended = threading.Event()
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Hold it; waits `STALE_AFTER_S` seconds for one whose holder says nothing.

        Raises Held, and StoreError where the server does not keep the promise.
        """
        number, said = self._highest()
        until = time.monotonic() + STALE_AFTER_S
        while _who(said) and time.monotonic() < until:
            time.sleep(STALE_AFTER_S / 30)
            now = self._highest()
            if now[0] != number or (_who(now[1]) and now[1] != said):
                raise LockHeldError(_who(now[1]))
            said = now[1]
        self._number = number + 1
        path = self._path(self._number)
        try:
            self._folder.fs.pipe_file(path, self._beat(), mode="create")
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
            target=self._keep, name="uhrseg-lease", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise StoreError where it is no longer held, or may not be."""
        if time.monotonic() > self._written + STALE_AFTER_S / 2:
            with suppress(Exception):  # what the server says is what counts
                self._write()
        if self._lost or time.monotonic() > self._written + STALE_AFTER_S / 2:
            raise StoreError(
                f"{self._folder.parent} has been taken over by another process, or "
                "cannot be reached.",
                "Open it again: what is done stays.",
            )

    def release(self) -> None:
        """Let it go. May be called twice."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        self._thread = None
        if not self._lost:
            with suppress(Exception):  # then others wait until it counts as dead
                self._folder.fs.pipe_file(self._path(self._number), b'{"who": ""}')

    def _keep(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            with suppress(Exception):  # the next beat tries again
                self._write()

    def _write(self) -> None:
        with self._busy:
            began = time.monotonic()
            if self._highest()[0] != self._number:
                self._lost = True
            elif not self._lost:
                self._folder.fs.pipe_file(self._path(self._number), self._beat())
                self._written = began

    def _check_conditional_put(self, path: str) -> None:
        try:
            self._folder.fs.pipe_file(path, self._beat(), mode="create")
        except FileExistsError:
            return
        self._folder.fs.rm_file(path)
        raise StoreError(
            f"{self._folder.parent} cannot be written safely: its server lets two "
            "processes make the same object.",
            "Use a server that knows If-None-Match, as Amazon's S3 does, or a folder.",
        )

    def _highest(self) -> tuple[int, bytes]:
        """The highest number there is and what it says; 0 where there is none."""
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

    def _beat(self) -> bytes:
        who = f"{platform.node()}, process {os.getpid()}"
        return json.dumps({"who": who, "beat": uuid.uuid4().hex}).encode()


def _who(said: bytes) -> str:
    """Who holds it; empty where it was let go, or there is nothing."""
    try:
        return str(json.loads(said)["who"])
    except (ValueError, KeyError, TypeError):
        return ""
