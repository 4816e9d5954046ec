"""Processes that begin with the imports done: forks of one server process.

torch and the package take some seconds of CPU time to import. The server imports them
once for all processes of a test run.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from unittest.mock import patch

import dask

from helpers.processes import child_environment

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


def _work(
    environment: dict[str, str], work: Callable[..., None], *arguments: object
) -> None:
    os.environ.update(environment)
    work(*arguments)
