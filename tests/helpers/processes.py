"""Child processes that find the package and the test helpers."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
# coverage measures a child process if one of these is set
COVERAGE_VARIABLES = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")

# Runs the program with the arguments from the second one on. It waits for a line of its
# input after each JSON line of the event that the first argument names, so that an
# interrupt meets unfinished work, however fast the machine is.
GATED = """
import sys
from napari_uhrseg.cli import app
event, write = f'"{sys.argv.pop(1)}"', sys.stdout.write
def gated(text):
    count = write(text)
    if event in text:
        sys.stdout.flush()
        sys.stdin.readline()
    return count
sys.stdout.write = gated
app()
"""


def child_environment(**variables: str) -> dict[str, str]:
    """Return this environment with the helpers on Python's path, and more variables."""
    path = filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **variables}


def start_python(code: str, *arguments: object) -> subprocess.Popen:
    """Start a process that runs the code, with text pipes to and from it.

    Parameters
    ----------
    code
        The Python code to run.
    *arguments
        The process's ``sys.argv[1:]``, as text.
    """
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )


@contextlib.contextmanager
def python_process(code: str, *arguments: object) -> Iterator[subprocess.Popen]:
    """Yield a process that runs the code; kill it by SIGKILL at the end.

    Parameters
    ----------
    code
        The Python code to run.
    *arguments
        The process's ``sys.argv[1:]``, as text.

    Yields
    ------
    The process, with text pipes to its standard input and from its output.
    """
    process = start_python(code, *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run_python(code: str, *arguments: object, **variables: str) -> str:
    """Run the code in a process without warnings and return what it prints.

    Parameters
    ----------
    code
        The Python code to run.
    *arguments
        The process's ``sys.argv[1:]``, as text.
    **variables
        Environment variables to add.

    Raises
    ------
    subprocess.CalledProcessError
        If the process fails.
    """
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(**variables),
    ).stdout
