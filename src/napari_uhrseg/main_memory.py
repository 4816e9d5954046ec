"""Main memory that the process can use."""

import sys
from contextlib import suppress
from pathlib import Path

import psutil

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.units import format_bytes

LEAST_ADDRESS_SPACE = 2**30  # bytes; the smallest commands use 0.7 of it


def free_main_memory() -> int:
    """Return the bytes of main memory that this process can still use.

    Memory of other programs and the limits of the process and of its container are
    subtracted.
    """
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")  # a container's own limit
    with suppress(OSError, ValueError):  # "max" if there is no limit
        most = int((group / "memory.max").read_text())
        stat = dict(x.split() for x in (group / "memory.stat").open())
        used = int((group / "memory.current").read_text()) - int(stat["inactive_file"])
        free = min(free, most - used)
    if sys.platform != "win32":
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            free = min(free, most - psutil.Process().memory_info().vms)
    return max(0, free)


def check_address_space() -> None:
    """Raise an error if the limit of the process is too small to load its libraries.

    Most libraries fail when they lack memory, but OpenBLAS repeats a failed allocation
    for ever, and no signal ends it.

    Raises
    ------
    UhrSegError
        If the limit is below `LEAST_ADDRESS_SPACE`.
    """
    if sys.platform == "win32":
        return
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY and most < LEAST_ADDRESS_SPACE:
        raise UhrSegError(
            f"This program may use {format_bytes(most)} of main memory; that is too "
            "little.",
            f"Allow it at least {format_bytes(LEAST_ADDRESS_SPACE)} (ulimit -v).",
        )


def lacks_main_memory(error: BaseException) -> bool:
    """Return whether an error is that of Python or of its loader without memory."""
    if isinstance(error, MemoryError):
        return True
    text = str(error)
    if isinstance(error, RuntimeError):  # no memory for the stack of a thread
        return "can't start new thread" in text
    # the loader of a library
    return isinstance(error, ImportError) and (
        "failed to map segment" in text or "annot allocate memory" in text
    )
