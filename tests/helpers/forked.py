"""Processes that begin with the imports done: forks of one server process.

torch and the package take some seconds of CPU time to import. The server imports them
once for all processes of a test run. Their coverage is not measured: most are killed,
which loses it, and tracing makes them slower.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from unittest.mock import patch

import dask

from helpers.processes import COVERAGE_VARIABLES, child_environment

PRELOAD = [
    "torch._dynamo",
    "distributed",
    "s3fs",
    "segmentation_models_pytorch",
    "napari_uhrseg.engine.cluster.client",
    "helpers.cluster_networks",
]


def start_server() -> None:
    """Start the server, unless this process has one."""
    with patch.dict(os.environ, child_environment()):
        for name in COVERAGE_VARIABLES:
            os.environ.pop(name, None)
        forkserver.set_forkserver_preload(PRELOAD)
        forkserver.ensure_running()


@contextmanager
def forked_workers() -> Iterator[None]:
    """Let the worker processes of dask.distributed start from the server.

    They have this process's environment, not that of the server's start.
    """
    start_server()
    settings = {
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.nanny.environ": dict(os.environ),
    }
    with dask.config.set(settings):
        yield


@contextmanager
def forked_process(
    work: Callable[..., None], *arguments: object
) -> Iterator[tuple[BaseProcess, Connection]]:
    """Yield a process that runs the function, and a connection to what it sends.

    The process is killed by SIGKILL at the end.

    Parameters
    ----------
    work
        A function of a module. It gets the process's end of the connection and the
        arguments.
    *arguments
        The further arguments.
    """
    start_server()
    context = get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(
        target=_work, args=(dict(os.environ), work, there, *arguments), daemon=True
    )
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join()
        here.close()


class ForkedCode:
    """A process that runs code, with the methods of `subprocess.Popen` in use here."""

    def __init__(self, code: str, *arguments: object) -> None:
        start_server()
        inputs, outputs = os.pipe(), os.pipe()
        ends = [Connection(inputs[0], writable=False)]
        ends.append(Connection(outputs[1], readable=False))
        self._process = get_context("forkserver").Process(
            target=_run_code,
            args=(dict(os.environ), code, [str(a) for a in arguments], *ends),
            daemon=True,
        )
        self._process.start()
        for end in ends:
            end.close()
        self.stdin = open(inputs[1], "w")  # noqa: SIM115
        self.stdout = open(outputs[0])  # noqa: SIM115

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self.returncode

    def communicate(self, text: str = "") -> str:
        """Write the text, close the input, and return the rest of the output."""
        with suppress(BrokenPipeError):
            self.stdin.write(text)
            self.stdin.close()
        said = self.stdout.read()
        self.wait()
        return said


@contextmanager
def forked_code(code: str, *arguments: object) -> Iterator[ForkedCode]:
    """Yield a process that runs the code; kill it by SIGKILL at the end.

    Parameters
    ----------
    code
        The Python code to run.
    *arguments
        The process's ``sys.argv[1:]``, as text.
    """
    process = ForkedCode(code, *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for file in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                file.close()


def _run_code(
    environment: dict[str, str],
    code: str,
    arguments: list[str],
    source: Connection,
    target: Connection,
) -> None:
    os.environ.update(environment)
    os.dup2(source.fileno(), 0)
    os.dup2(target.fileno(), 1)
    source.close()
    target.close()
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})
    sys.stdout.flush()


def _work(
    environment: dict[str, str], work: Callable[..., None], *arguments: object
) -> None:
    os.environ.update(environment)
    work(*arguments)
