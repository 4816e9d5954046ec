"""Shared by all tests: what is the person's own (settings, caches) stays untouched."""

import os
import sys
import tempfile
from pathlib import Path

_own = tempfile.TemporaryDirectory(prefix="uhrseg-tests-")
os.environ["NAPARI_CONFIG"] = str(Path(_own.name) / "settings.yaml")
os.environ["XDG_CONFIG_HOME"] = _own.name  # QSettings' recent checkpoints
os.environ["NAPARI_UHRSEG_CACHE"] = str(Path(_own.name) / "cache")

# Some tests load torch before others open a window, in one process: with software
# GL, triton's LLVM and Mesa's would meet and end it (see ui/loading.py).
sys.modules["triton"] = None  # type: ignore[assignment]


def pytest_addoption(parser):
    parser.addoption(
        "--update-screenshots",
        action="store_true",
        help="take the pictures of the README anew (tests/story)",
    )
