"""Loading torch beside a window that is in use, without stopping or ending it."""

import ctypes
import gc
import os
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

# what a plan and a run need; torch._dynamo comes with the first trace of a network
MODULES = (
    "torch",
    "torch._dynamo",
    "segmentation_models_pytorch",
    "napari_uhrseg.engine.inference.segment",
)
LARGE = 64 * 1024 * 1024  # bytes that are worth the wait
_LIBRARIES = ("libc10.so", "libtorch_cpu.so", "libtorch.so")
_MAPS = Path("/proc/self/maps")
_loading = threading.Lock()


def load_torch() -> None:
    """Import what a run needs. For a worker thread; the second call finds it done.

    An import holds the interpreter's lock, and with it the window, whenever a
    library is mapped (libtorch: 0.7 s) and whenever the garbage collector goes
    through all that has been imported (0.2 s, several times over). So the libraries
    are mapped beforehand by a call that lets the lock go, and the collector waits.
    """
    with _loading:
        if all(name in sys.modules for name in MODULES):
            return
        thresholds = gc.get_threshold()
        gc.set_threshold(0)  # off; gc.disable() is undone by napari's menus
        try:
            _map_libraries()
            for name in MODULES:
                import_module(name)
        finally:
            gc.freeze()  # all of it stays: the collector need not look at it again
            gc.set_threshold(*thresholds)


def thaw() -> None:
    """Let the collector look at everything again; it takes it some 0.2 s."""
    gc.unfreeze()


def thaw_for(layer: Any) -> None:
    """The same where a layer that goes holds much in memory, rather than in a file."""
    data = layer.data if getattr(layer, "multiscale", False) else [layer.data]
    held = sum(level.nbytes for level in data if isinstance(level, np.ndarray))
    if held > LARGE:
        thaw()


def _map_libraries() -> None:
    """Map torch's libraries as its import does; what is missing it will map itself."""
    found = find_spec("torch")
    if sys.platform != "linux" or found is None or found.origin is None:
        return
    folder = Path(found.origin).parent / "lib"
    dlopen = ctypes.CDLL(None).dlopen  # unlike ctypes.CDLL, lets the lock go
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    dlopen(bytes(folder / "libtorch_global_deps.so"), os.RTLD_NOW | os.RTLD_GLOBAL)
    for name in _LIBRARIES:
        dlopen(bytes(folder / name), os.RTLD_NOW)


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
