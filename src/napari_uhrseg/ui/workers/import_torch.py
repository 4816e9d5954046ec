"""Import of torch without blocking or crashing the window."""

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

# A plan and a run need these modules; tracing a network imports torch._dynamo.
MODULES = (
    "torch",
    "torch._dynamo",
    "segmentation_models_pytorch",
    "napari_uhrseg.engine.inference.segment",
)
LARGE = 64 * 1024 * 1024  # bytes that justify a full collection
_LIBRARIES = ("libc10.so", "libtorch_cpu.so", "libtorch.so")
_MAPS = Path("/proc/self/maps")
_loading = threading.Lock()


def load_torch() -> None:
    """Import the modules that a run needs, on a worker thread.

    An import takes the interpreter's lock, and thus blocks the window, when a library
    is mapped (libtorch: 0.7 s) and when the garbage collector scans all imported
    objects (0.2 s, several times). Therefore, a call that releases the lock maps the
    libraries first, and the collector is off during the import.
    """
    with _loading:
        if all(name in sys.modules for name in MODULES):
            return
        thresholds = gc.get_threshold()
        gc.set_threshold(0)  # off; napari's menus undo gc.disable()
        try:
            _map_libraries()
            for name in MODULES:
                import_module(name)
        finally:
            gc.freeze()  # the collector does not scan these objects again
            gc.set_threshold(*thresholds)


def thaw() -> None:
    """Let the collector scan all objects again, which takes about 0.2 s."""
    gc.unfreeze()


def thaw_for(layer: Any) -> None:
    """Call `thaw` if a removed layer has large arrays in memory."""
    data = layer.data if getattr(layer, "multiscale", False) else [layer.data]
    size = sum(level.nbytes for level in data if isinstance(level, np.ndarray))
    if size > LARGE:
        thaw()


def _map_libraries() -> None:
    """Map torch's libraries like its import, which maps missing ones itself."""
    found = find_spec("torch")
    if sys.platform != "linux" or found is None or found.origin is None:
        return
    folder = Path(found.origin).parent / "lib"
    dlopen = ctypes.CDLL(None).dlopen  # releases the lock, unlike ctypes.CDLL
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    dlopen(bytes(folder / "libtorch_global_deps.so"), os.RTLD_NOW | os.RTLD_GLOBAL)
    for name in _LIBRARIES:
        dlopen(bytes(folder / name), os.RTLD_NOW)


def keep_triton_out() -> None:
    """Make triton unavailable in a process that has loaded Mesa's LLVM.

    triton comes with torch on Linux; torchvision imports it through torch._dynamo. It
    has its own LLVM. Software GL and AMD's driver load Mesa's LLVM, and loading
    triton's after it crashes the process. Nothing here compiles with triton.
    """
    if "triton" not in sys.modules and _mesa_llvm():
        sys.modules["triton"] = None  # type: ignore[assignment]


def _mesa_llvm() -> bool:
    try:
        return "libLLVM" in _MAPS.read_text(errors="replace")
    except OSError:  # not Linux
        return False
