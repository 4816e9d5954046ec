"""Keeps torch from crashing the window where Mesa draws it."""

import sys
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def keep_triton_out() -> None:
    """Make triton unavailable in a process that has Mesa's LLVM in it already.

    triton (which torch brings on Linux, and torchvision imports by way of
    torch._dynamo) carries an LLVM of its own. Loaded after Mesa's, as software GL
    and AMD's driver use it, the two clash and the process ends with a
    segmentation fault. Nothing here compiles with triton.
    """
    if "triton" not in sys.modules and _mesa_llvm():
        sys.modules["triton"] = None  # type: ignore[assignment]


def _mesa_llvm() -> bool:
    try:
        return "libLLVM" in _MAPS.read_text(errors="replace")
    except OSError:  # not Linux
        return False
