"""Disturbances of long operations: kills, full disks, vanished folders and others.

Every operation runs in a child process. The child sends ``("started", "")``, then
``("said", step)`` for each acknowledged step, and at its end ``("done", "")``,
``("refused", text)`` for an error of ours, ``("wrong", text)`` for a failed check, or
``("traceback", text)``.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from campaign.processes import PROCESSES, start
from campaign.report import Outcome

LONG = 1800.0  # seconds after which an operation hangs, however busy the machine is


def limited(kind: int, amount: int) -> None:
    """Set a limit of this process and its children."""
    resource.setrlimit(kind, (amount, resource.getrlimit(kind)[1]))


def address_space() -> int:
    """Return the size of this process's address space in bytes."""
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def run_child(
    name: str,
    action: str,
    arguments: tuple[Any, ...],
    cache: Path,
    connection: Connection,
    limits: dict[int, int],
) -> None:
    """Run one action of an operation in this process and send its messages.

    Parameters
    ----------
    name
        Name of the operation.
    action
        Name of one of its functions.
    arguments
        Arguments of the function. ``work`` also gets its ``say``.
    cache
        Folder of the program's caches.
    connection
        Pipe for the messages.
    limits
        Resource to its limit. That of the address space is added to the present one.
    """
    from campaign.operations import OPERATIONS, set_up
    from napari_uhrseg.errors import UhrSegError
    from napari_uhrseg.main_memory import lacks_main_memory

    log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    set_up(cache)
    function: Callable[..., Any] = getattr(OPERATIONS[name], action)
    if action == "work":
        folder, start = arguments
        arguments = folder, lambda step: connection.send(("said", step)), start
    for kind, amount in limits.items():
        base = address_space() if kind == resource.RLIMIT_AS else 0
        limited(kind, base + amount)
    try:
        connection.send(("started", ""))
        connection.send(("done", function(*arguments)))
    except UhrSegError as error:
        connection.send(("refused", f"{type(error).__name__}: {error}"))
    except AssertionError as error:
        connection.send(("wrong", str(error)))
    except BaseException as error:  # noqa: BLE001 # the parent reports it
        # the command line reports too little main memory as such
        kind = "refused" if lacks_main_memory(error) else "traceback"
        connection.send((kind, traceback.format_exc()))


class Child:
    """Process that runs one action, with the messages it has sent.

    Attributes
    ----------
    said
        Number of acknowledged steps.
    end, text
        How the action ended, and the text of its last message.
    seconds
        Seconds from the start of the action to its end.
    """

    def __init__(
        self,
        name: str,
        action: str,
        *arguments: Any,
        cache: Path,
        limits: dict[int, int] | None = None,
    ) -> None:
        self._pipe, other = PROCESSES.Pipe(duplex=False)
        self.said, self.end, self.text = 0, "", None
        self.seconds = 0.0
        self.process = PROCESSES.Process(
            target=run_child,
            args=(name, action, arguments, cache, other, limits or {}),
        )
        self._started = time.monotonic()
        start(self.process)
        other.close()
        self._receive("started")
        self._started = time.monotonic()

    def wait(self) -> str:
        """Wait for the end of the process; return how it ended."""
        if not self._receive(None):
            self.kill()
            self.end = "hang"
        self.process.join()
        if not self.end:
            self.end, self.text = "crash", f"exit code {self.process.exitcode}"
        return self.end

    def kill(self) -> bool:
        """Kill the process; return True if it had not ended."""
        self.process.kill()
        self.process.join()
        self._receive(None)
        return not self.end

    def _receive(self, until: str | None) -> bool:
        """Take messages up to one of a kind, or all; return False after `LONG`."""
        limit = time.monotonic() + LONG
        with suppress(EOFError, OSError):
            while self._pipe.poll(max(0.0, limit - time.monotonic())):
                kind, value = self._pipe.recv()
                if kind == "said":
                    self.said = value
                elif kind != "started":
                    self.end, self.text = kind, value
                    self.seconds = time.monotonic() - self._started
                if kind == until:
                    return True
            return False
        return True


@dataclass
class Bench:
    """Undisturbed runs of an operation, with which disturbed runs are compared.

    Attributes
    ----------
    name
        Name of the operation.
    folder
        Folder of all runs.
    seconds
        Seconds of the work of a run.
    """

    name: str
    folder: Path
    target: str = ""
    seconds: float = 0.0
    result: str = ""
    cases: int = field(default=0)

    def __post_init__(self) -> None:
        from campaign.operations import OPERATIONS

        self.target = OPERATIONS[self.name].target
        self.cache = self.folder / "cache"
        self.prepared, self.reference = self.folder / "prepared", self.folder / "whole"
        for part in ("in", "out"):
            (self.prepared / part).mkdir(parents=True)
        self.call("prepare", self.prepared)
        shutil.copytree(self.prepared, self.reference)
        self.call("work", self.reference, 0)
        self.result = self.call("result", self.reference)
        with self.copy() as folder:  # the caches are filled, as in the disturbed runs
            child = self.child("work", folder, 0)
            child.wait()
            self.seconds = child.seconds

    def child(self, action: str, *arguments: Any, **limits: Any) -> Child:
        """Start a process that runs an action of the operation."""
        return Child(self.name, action, *arguments, cache=self.cache, **limits)

    def call(self, action: str, *arguments: Any) -> Any:
        """Run an action to its end. Raises AssertionError if it fails."""
        child = self.child(action, *arguments)
        end = child.wait()
        assert end == "done", f"{action}: {end}: {child.text}"
        return child.text

    def check(self, folder: Path, said: int) -> int:
        """Check what a disturbed run left; return the next step."""
        return self.call("check", folder, self.reference, said)

    def finish(self, folder: Path, start: int) -> None:
        """Continue a disturbed run to its end, and compare its result."""
        self.call("work", folder, start)
        found = self.call("result", folder)
        assert found == self.result, "the finished result differs"

    @contextmanager
    def copy(self, where: Path | None = None) -> Iterator[Path]:
        """Yield a folder with the prepared inputs; remove it at the end."""
        self.cases += 1
        folder = where or self.folder / f"case{self.cases}"
        shutil.copytree(self.prepared, folder, dirs_exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


Disturbance = Callable[[Bench, random.Random], Iterator[str]]


def kills(bench: Bench, rng: random.Random) -> Iterator[str]:
    """Kill one run up to three times, and continue it; yield once for each kill."""
    with bench.copy() as folder:
        start = said = 0
        for _ in range(rng.randint(1, 3)):
            child = bench.child("work", folder, start)
            time.sleep(rng.random() * bench.seconds)
            killed = child.kill()
            said = max(said, child.said, start)
            assert child.end in ("", "done"), f"{child.end}: {child.text}"
            start = bench.check(folder, said)
            if killed:
                yield "intact"
        bench.finish(folder, start)


def full_disk(bench: Bench, rng: random.Random) -> Iterator[str]:
    """Run on a disk that is too small, check, give it room, and finish."""
    used, needed = folder_size(bench.prepared), folder_size(bench.reference)
    room = used + int(rng.random() * max(needed - used, 65536))
    with small_disk(bench.folder / "disk", room) as disk:
        path = disk or bench.folder / "case"
        limits = {} if disk else {resource.RLIMIT_FSIZE: int(rng.random() * needed)}
        with bench.copy(path / "run") as folder:
            child = bench.child("work", folder, 0, limits=limits)
            end = child.wait()
            assert end in ("done", "refused"), f"{end}: {child.text}"
            start = bench.check(folder, child.said) if not disk else child.said
            if disk:
                mount("-o", "remount,size=2g", disk)  # 1 GB of it stays free
                start = bench.check(folder, child.said)
            bench.finish(folder, start)
    yield end if end == "refused" else "intact"


def vanished(bench: Bench, rng: random.Random) -> Iterator[str]:
    """Rename the output during a run, move it back, check and finish."""
    with bench.copy() as folder:
        out, moved = folder / "out", folder / "moved"
        store = out / bench.target
        place = store if store.exists() else out
        child = bench.child("work", folder, 0)
        time.sleep(rng.random() * bench.seconds)
        place.rename(moved)
        end = child.wait()
        assert end in ("done", "refused"), f"{end}: {child.text}"
        if end == "done" and place == out and store.exists():
            yield "intact"  # written to a new folder of the same name
            return
        assert place == out or not place.exists(), f"{place.name} came back, {end}"
        shutil.rmtree(place, ignore_errors=True)
        moved.rename(place)
        start = bench.check(folder, child.said)
        bench.finish(folder, start)
        yield end if end == "refused" else "intact"


def twins(bench: Bench, rng: random.Random) -> Iterator[str]:
    """Run the operation twice at the same time, check and finish."""
    with bench.copy() as folder:
        first = bench.child("work", folder, 0)
        time.sleep(rng.random() * bench.seconds / 2)
        second = bench.child("work", folder, 0)
        for child in (first, second):
            end = child.wait()
            assert end in ("done", "refused"), f"{end}: {child.text}"
        start = bench.check(folder, max(first.said, second.said))
        bench.finish(folder, start)
    yield "intact"


def little_memory(bench: Bench, rng: random.Random) -> Iterator[str]:
    """Run with little address space, check and finish."""
    limits = {resource.RLIMIT_AS: rng.randint(60, 600) * 2**20}
    with bench.copy() as folder:
        child = bench.child("work", folder, 0, limits=limits)
        end = child.wait()
        assert end in ("done", "refused"), f"{end}: {child.text}"
        start = bench.check(folder, child.said)
        bench.finish(folder, start)
    yield end if end == "refused" else "intact"


DISTURBANCES: dict[str, Disturbance] = {
    "kills": kills,
    "disk": full_disk,
    "vanished": vanished,
    "twins": twins,
    "memory": little_memory,
}


def disturb(
    part: str, bench: Bench, case: int, seed: int, until: float
) -> Iterator[Outcome]:
    """Yield the outcomes of a disturbed run of an operation.

    Parameters
    ----------
    part
        Name of one of `DISTURBANCES`.
    bench
        The undisturbed run of the operation.
    case
        Number of the case.
    seed
        Seed of the campaign.
    until
        Time of `time.monotonic` after which no case starts.
    """
    if time.monotonic() > until:
        return
    rng = random.Random(f"{seed} {part} {bench.name} {case}")
    try:
        for result in DISTURBANCES[part](bench, rng):
            yield Outcome(part, bench.name, case, result)
    except AssertionError as error:
        yield Outcome(part, bench.name, case, _failure(str(error)), str(error))


def _failure(text: str) -> str:
    ends = ("traceback", "crash", "hang")
    return next((end for end in ends if f"{end}:" in text), "wrong")


def folder_size(folder: Path) -> int:
    """Return the bytes of disk that a folder needs."""
    return sum(4096 + -(-f.stat().st_size // 4096) * 4096 for f in folder.rglob("*"))


def mount(*arguments: object) -> None:
    """Run the command ``mount``."""
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """Mount a small file system in memory; yield None where this is not allowed."""
    folder.mkdir(exist_ok=True)
    try:
        mount("-t", "tmpfs", "-o", f"size={size + 262144}", "tmpfs", folder)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
