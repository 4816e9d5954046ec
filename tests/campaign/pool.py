"""Opening of mutated files in watched child processes.

A child opens one file after the other. It records files that are written outside the
folder of the case, and connections. The parent ends a child that takes too long.
"""

import faulthandler
import os
import random
import resource
import shutil
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil

from campaign.processes import PROCESSES, start
from campaign.report import Outcome

SECONDS = 10.0  # of processor time that one file may take, or of sleep
STUCK = 1800.0  # seconds after which a case hangs, however busy the machine is
GROWTH = 2**30  # bytes that one file may take
FUSE = 4 * 2**30  # bytes of address space, so that a fault does not fill the machine

# events that change files, with the position of the handle of their folder
WRITES = {
    "os.remove": 1, "os.rename": 2, "os.truncate": 0, "os.mkdir": 2, "os.rmdir": 1,
    "os.symlink": 0, "os.link": 0,
}  # fmt: skip
REQUESTS = frozenset(
    ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system",
     "os.exec", "os.posix_spawn")
)  # fmt: skip


class Watch:
    """Audit hook that records writes outside the allowed folders, and requests."""

    def __init__(self, *allowed: Path) -> None:
        self.found: list[str] = []
        self._allowed = (*(f"{path.resolve()}/" for path in allowed), "/dev/", "/proc/")
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in REQUESTS:
            self.found.append(f"{event} {arguments[-1]!r}"[:200])
        elif event == "open":
            path, mode, flags = arguments
            writes = (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                self._check("open", path)
        elif event in WRITES:
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike):
                folder, name = os.path.split(os.fsdecode(path))
                if WRITES[event] and not folder and arguments[WRITES[event]] >= 0:
                    folder = os.readlink(f"/proc/self/fd/{arguments[WRITES[event]]}")
                # the link itself, not its target
                path = os.path.join(os.path.realpath(folder), name)
            self._check(event, path)

    def _check(self, event: str, path: object) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            where = os.fsdecode(path)
            where = os.path.realpath(where) if event == "open" else where
            if not f"{where}/".startswith(self._allowed):
                self.found.append(f"{event} {where}")


class Opener:
    """Process state: the sound files, and the folder of the current case."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sound: dict[tuple[str, int], Path] = {}
        self._victim = folder / "outside" / "victim"
        self._victim.parent.mkdir(parents=True)
        self._victim.write_bytes(b"v" * 4096)
        self._watch = Watch(folder / "case")

    def open(self, name: str, seed: int, case: int) -> tuple[str, str]:
        """Mutate and open one file; return the result and its text."""
        from campaign.inputs import KINDS
        from campaign.mutators import mutate_file, mutate_folder

        kind = KINDS[name]
        rng = random.Random(f"{seed} {name} {case}")
        sound = self._make(name, rng.randrange(kind.variants))
        place = self._folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(sound.parent, place)
        path = place / sound.name
        if kind.pattern:
            mutate_folder(path, rng, kind.extra, kind.pattern, self._victim)
        else:
            mutate_file(path, rng, kind.extra)
        before = _memory("VmRSS", reset=True)
        self._watch.found.clear()
        with fuse():
            result, text = _try(kind.open, path)
        growth = _memory("VmHWM") - before
        if self._watch.found or self._victim.read_bytes() != b"v" * 4096:
            self._victim.write_bytes(b"v" * 4096)
            return "escape", "; ".join(self._watch.found) or "the victim changed"
        if growth > GROWTH:
            return "memory", f"{growth / 2**20:.0f} MB. {text}"
        return result, text

    def _make(self, name: str, variant: int) -> Path:
        """Return a sound file, which is made once and opened once."""
        from campaign.inputs import KINDS

        if (name, variant) not in self._sound:
            folder = self._folder / "sound" / f"{name}{variant}"
            folder.mkdir(parents=True)
            path = KINDS[name].make(folder, variant)
            self._sound[name, variant] = path
            case = self._folder / "case"
            shutil.rmtree(case, ignore_errors=True)
            shutil.copytree(path.parent, case)
            _try(KINDS[name].open, case / path.name)  # loads what it needs
        return self._sound[name, variant]


def _try(function: Any, path: Path) -> tuple[str, str]:
    from napari_uhrseg.errors import UhrSegError

    try:
        function(path)
    except UhrSegError as error:
        return "refused", str(error)
    except (OSError, ValueError) as error:
        ours = "napari_uhrseg" in traceback.extract_tb(error.__traceback__)[-1].filename
        return ("refused" if ours else "traceback"), traceback.format_exc()
    except Exception:  # noqa: BLE001 # the parent reports it
        return "traceback", traceback.format_exc()
    return "opened", ""


@contextmanager
def fuse() -> Iterator[None]:
    """Limit the address space that the block adds."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    used = _memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + FUSE, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _memory(name: str, reset: bool = False) -> int:
    """Return a figure of this process's memory in bytes; reset the peak on request."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(name))


def asleep(process: int) -> bool:
    """Return whether all threads of a process wait for something but the processor."""
    stats = Path(f"/proc/{process}/task").glob("*/stat")
    return all(s.read_text().rpartition(")")[2].split()[0] == "S" for s in stats)


def serve(folder: Path, connection: Connection, port: int) -> None:
    """Open the files that the parent names until it closes the connection."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    proxy = f"http://127.0.0.1:{port}"
    for name in ("http_proxy", "https_proxy", "ALL_PROXY", "GDAL_HTTP_PROXY"):
        os.environ[name] = proxy
    os.environ.update(
        GDAL_HTTP_TIMEOUT="2", CPL_DEBUG="OFF", TMPDIR=str(folder / "case")
    )
    faulthandler.enable(os.fdopen(os.dup(log), "w"))
    with (folder / "stack").open("w") as stack:
        opener = Opener(folder)
        while True:
            try:
                name, seed, case = connection.recv()
            except EOFError:
                return
            stack.truncate(0)
            faulthandler.dump_traceback_later(SECONDS * 0.9, file=stack)
            outcome = opener.open(name, seed, case)
            faulthandler.cancel_dump_traceback_later()
            connection.send(outcome)


class Recorder:
    """Local server that counts connections; it stands for every proxy."""

    def __init__(self) -> None:
        self.seen = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.seen += 1
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class Worker:
    """Child process that opens mutated files; a new one replaces one that ended."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._folder, self._recorder = folder, recorder
        self._process: Any = None
        self._number = 0

    def open(self, name: str, seed: int, case: int) -> tuple[str, str]:
        """Return the result of one case and its text."""
        if self._process is None:
            self._start()
        seen = self._recorder.seen
        result = self._ask(name, seed, case)
        if self._recorder.seen > seen:
            return "escape", "a connection to the proxy"
        return result

    def _ask(self, name: str, seed: int, case: int) -> tuple[str, str]:
        try:
            self._pipe.send((name, seed, case))
            if self._wait(name):
                found: tuple[str, str] = self._pipe.recv()
                return found
            text = (self._place / "stack").read_text()
            return self._end("hang", text)
        except (EOFError, OSError):
            self._process.join()
            log = (self._place / "log").read_text(errors="replace")
            code = self._process.exitcode
            return self._end("crash", f"{log[-2000:]}\nexit code {code}")

    def _wait(self, name: str) -> bool:
        """Return False if the case takes too long: by its own time, or altogether."""
        # the first file of a kind is made, and its packages are loaded
        more = 0.0 if name in self._known else 60.0
        self._known.add(name)
        process = psutil.Process(self._process.pid)
        start = awake = time.monotonic()
        first = used = sum(process.cpu_times()[:2])
        while not self._pipe.poll(0.5):
            now = time.monotonic()
            with suppress(psutil.Error, OSError):
                before, used = used, sum(process.cpu_times()[:2])
                if used > before or not asleep(process.pid):
                    awake = now
            asked, slept, waited = used - first, now - awake, now - start
            if max(asked, slept) > SECONDS + more or waited > STUCK + more:
                return False
        return True

    def _start(self) -> None:
        self._number += 1
        self._place = self._folder / str(self._number)
        self._place.mkdir()
        self._known: set[str] = set()
        self._pipe, other = PROCESSES.Pipe()
        self._process = PROCESSES.Process(
            target=serve, args=(self._place, other, self._recorder.port)
        )
        start(self._process)
        other.close()

    def _end(self, result: str, text: str) -> tuple[str, str]:
        self.close()
        return result, text

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
            shutil.rmtree(self._place, ignore_errors=True)


@contextmanager
def worker() -> Iterator[Worker]:
    """Yield a worker in a temporary folder."""
    recorder = Recorder()
    memory = Path("/dev/shm")  # a file system in memory, which no load slows down
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="campaign-", dir=place) as folder:
        found = Worker(Path(folder), recorder)
        try:
            yield found
        finally:
            found.close()
            recorder.close()


def open_mutated(
    kinds: Sequence[str], cases: range, seed: int, until: float
) -> Iterator[Outcome]:
    """Open mutated files of all kinds; yield an outcome for each.

    Each core has a child process.

    Parameters
    ----------
    kinds
        Names of kinds of files.
    cases
        Numbers of the cases of each kind.
    seed
        Seed of the campaign.
    until
        Time of `time.monotonic` after which no case starts.
    """
    tries = [(name, case) for case in cases for name in kinds]  # every kind early
    workers = os.cpu_count() or 1
    idle = SimpleQueue[Worker]()

    def attempt(name: str, case: int) -> Outcome | None:
        if time.monotonic() > until:
            return None
        opener = idle.get()
        try:
            return Outcome("inputs", name, case, *opener.open(name, seed, case))
        finally:
            idle.put(opener)

    with ExitStack() as stack:
        for _ in range(workers):
            idle.put(stack.enter_context(worker()))
        pool = ThreadPoolExecutor(workers)
        stack.callback(pool.shutdown, cancel_futures=True)
        yield from filter(None, pool.map(attempt, *zip(*tries, strict=True)))
