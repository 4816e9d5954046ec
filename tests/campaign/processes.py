"""Processes of the campaign, forked from a server that has loaded their modules."""

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from threading import Lock
from unittest.mock import patch

from helpers.processes import child_environment

PROCESSES = multiprocessing.get_context("forkserver")
# there is one server, so this is the list of all kinds of processes
PROCESSES.set_forkserver_preload(
    ["campaign.operations", "campaign.inputs", "campaign.pool"]
)


STARTING = Lock()  # threads share the environment


def start(process: BaseProcess) -> None:
    """Start a process.

    The first one starts the server, which in Python 3.11 finds the modules by the
    environment only.
    """
    with STARTING, patch.dict(os.environ, child_environment()):
        process.start()
