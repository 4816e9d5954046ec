"""Import of timm without torch's compiler, which takes a second and is never used.

timm and torchvision import the compiler to exclude a function from it and to ask
whether it supports a device. During their import, stand-ins do both. A later import
of ``torch._dynamo`` loads the compiler itself.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
LIBRARIES = ("timm", "torchvision")


def import_timm() -> None:
    """Import timm; do nothing if timm or the compiler is loaded."""
    if "timm" in sys.modules or COMPILER in sys.modules:
        return
    before = set(sys.modules)
    package, utils = ModuleType(COMPILER), ModuleType(f"{COMPILER}.utils")
    package.__path__ = []
    vars(package).update(disable=_disable, utils=utils)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    stand_ins = {COMPILER: package, utils.__name__: utils}
    sys.modules.update(stand_ins)
    try:
        import_module("timm")
    except (ImportError, AttributeError):
        # another version needs more of the compiler: the next import loads all of it
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in LIBRARIES:
                del sys.modules[name]
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _disable(function: Any = None, *_: Any, **__: Any) -> Any:
    """Return a function as it is: nothing here is compiled."""
    return function


def _is_compile_supported(device: Any) -> Any:
    return import_module(f"{COMPILER}.utils").is_compile_supported(device)
